"""The order of weights on Ethos-U85: from one to four streams, which hold four output channels in turn.

Source: Regor's published encoder; the depth of blocks of inputs, which no register tells, agrees with what Vela prints.
"""

from typing import TYPE_CHECKING

from mlia.simulator.weight_order import Traversal

if TYPE_CHECKING:
    from mlia.simulator.container import Config
    from mlia.simulator.operation import Compute

_STREAMS = {128: 1, 256: 1, 512: 2, 1024: 4, 2048: 4}
_INTERLEAVED = 4


def stream_count(config: "Config") -> int:
    """How many streams of weights the NPU reads at the same time."""
    return _STREAMS[config.macs_per_cycle]


def traversals(operation: "Compute", config: "Config") -> list[Traversal]:
    """The order of each stream."""
    streams, unit = stream_count(config), operation.block.unit_depth
    is_wide, kernel = operation.ifm.element_bytes == 2, operation.kernel
    inputs = input_block(operation, config)
    step, input_unit, tap_group, extra, phases = inputs, 8, 1, 0, kernel.stride
    if operation.kind == "depthwise":
        step, input_unit, tap_group, extra = 1, 1, 10, _depthwise_padding(config, is_wide)
    elif kernel.is_part_kernel_first:
        tap_group = 10 if is_wide or operation.is_sparse else 5
        step = 8 if is_wide and not operation.is_sparse else inputs
    else:
        phases = (1, 1)
    if operation.is_sparse and operation.kind != "depthwise":
        input_unit = 16
    return [
        Traversal(
            output_block=operation.block.depth,
            output_unit=unit,
            lanes=tuple(lane for lane in range(unit) if lane // _INTERLEAVED % streams == stream),
            input_block=inputs,
            input_step=step,
            input_unit=input_unit,
            sub_kernel=kernel.decomposition,
            tap_group=tap_group,
            extra_taps=extra,
            phases=phases,
            is_serpentine=True,
            is_column_first=True,
        )
        for stream in range(streams)
    ]


def input_block(operation: "Compute", config: "Config") -> int:
    """How many input channels are in a block."""
    if operation.kind == "depthwise":
        return 1
    if operation.kernel.is_part_kernel_first:
        return 16
    if operation.is_sparse:
        return 128 if operation.ifm.element_bytes == 1 else 64
    # The smallest two have half the inputs where a micro-block is one row of few columns with many channels.
    return 32 if config.macs_per_cycle <= 256 and operation.block.unit_depth == 16 else 64


def _depthwise_padding(config: "Config", is_wide: bool) -> int:
    """After every ten taps of a depthwise kernel."""
    if config.macs_per_cycle <= 256:
        return 2 if is_wide else 0
    return 2 if config.macs_per_cycle == 512 else 6

"""The weights of an operation, out of the streams that it names.

Weights come with their zero point taken off. The result is kept by content, for what runs more than once.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator import weights_u85
from mlia.simulator.fast_weights import decode_fast
from mlia.simulator.operation import Range, WeightFormat
from mlia.simulator.weight_order import Ints, Shape, Traversal, order
from mlia.simulator.weight_stream import decode_stream

if TYPE_CHECKING:
    from mlia.simulator.container import Config
    from mlia.simulator.operation import Compute

Weights = NDArray[numpy.int16]

# The densest is a run of zeros: a bit for eight. A damaged size must not ask for all memory.
_MOST_PER_BYTE = 64


def decode_weights(operation: "Compute", read: Callable[[Range], bytes], config: "Config") -> Weights:
    """The weights of a CONV as (outputs, height, width, inputs), of a DEPTHWISE as (1, height, width, channels).

    The array is read-only, and may be the same for the next operation with the same weights.

    Raises:
        SimulatorError: the streams are damaged, are not as long as the kernel wants, or are not zero where they pad.
    """
    if operation.kind not in ("conv", "depthwise") or operation.is_matmul:
        raise SimulatorError(f"{operation.kind} at {operation.offset:#x} has no weights")
    if operation.ifm.element_bytes not in (1, 2):
        raise SimulatorError(
            f"{operation.kind} at {operation.offset:#x} has inputs of {operation.ifm.element_bytes} bytes"
        )
    is_depthwise = operation.kind == "depthwise"
    shape = (operation.ofm.depth, *operation.kernel.size, 1 if is_depthwise else operation.ifm.depth)
    is_fast = operation.weight_format == WeightFormat.FAST
    streams = tuple(read(stream) for stream in operation.weights if stream.length)
    try:
        weights = _decoded(streams, _traversals(operation, config), shape, is_fast)
    except SimulatorError as error:
        raise SimulatorError(f"{operation.kind} at {operation.offset:#x}: {error}") from None
    return weights.transpose(3, 1, 2, 0) if is_depthwise else weights


def _traversals(operation: "Compute", config: "Config") -> tuple[Traversal, ...]:
    """The order of each stream that the NPU may read."""
    if config.family == "ethos-u85":
        return tuple(weights_u85.traversals(operation, config))
    return tuple(_traversal(operation, config, core) for core in range(operation.cores))


def _traversal(operation: "Compute", config: "Config", core: int) -> Traversal:
    """The order of a stream on Ethos-U55 and U65. Where there are two cores, each has every second output channel."""
    is_wide, kernel = operation.ifm.element_bytes == 2, operation.kernel
    is_depthwise = operation.kind == "depthwise"
    is_part_kernel = kernel.is_part_kernel_first and not is_depthwise
    inputs = 16 if is_part_kernel or is_wide else 32
    unit = 4 if config.macs_per_cycle == 32 else 8
    return Traversal(
        output_block=(operation.block.depth + operation.cores - 1 - core) // operation.cores,
        output_unit=unit,
        lanes=tuple(range(unit)),
        input_block=1 if is_depthwise else inputs,
        input_step=1 if is_depthwise else 8 if is_part_kernel else inputs,
        input_unit=1 if is_depthwise else 8,
        sub_kernel=kernel.decomposition,
        tap_group=4 if is_depthwise else 1 if not is_part_kernel else 2 if is_wide else 4,
        first_output=core,
        output_stride=operation.cores,
    )


@lru_cache(maxsize=256)
def _decoded(streams: tuple[bytes, ...], traversals: tuple[Traversal, ...], shape: Shape, is_fast: bool) -> Weights:
    """The weights as (outputs, height, width, inputs)."""
    size = math.prod(shape)
    if size > _MOST_PER_BYTE * sum(map(len, streams)):
        raise SimulatorError(f"streams of {sum(map(len, streams))} bytes cannot have {size} weights")
    orders = [places for traversal in traversals if len(places := order(traversal, shape))]
    if is_fast:
        orders = [_interleaved(orders, traversals[0])]
    if len(streams) != len(orders):
        raise SimulatorError(f"{len(streams)} streams of weights, where {len(orders)} are needed")
    weights = numpy.zeros(size, numpy.int16)
    for stream, places in zip(streams, orders, strict=True):
        values = decode_fast(stream, len(places)) if is_fast else decode_stream(stream)
        if len(values) != len(places):
            raise SimulatorError(f"a stream has {len(values)} weights, where {len(places)} are needed")
        is_weight = places >= 0
        if values[~is_weight].any():
            raise SimulatorError("a stream has weights that are not zero, where it has to pad")
        values, places = values[is_weight], places[is_weight]
        weights[places] = values
        # Where a unit is deeper than a block, some weights are there twice.
        if (weights[places] != values).any():
            raise SimulatorError("a stream has two values for one weight")
    weights.flags.writeable = False
    return weights.reshape(shape)


def _interleaved(orders: list[Ints], traversal: Traversal) -> Ints:
    """The order of Ethos-U85's one fast stream: a run of each of the streams that the other format would have.

    Vela 5.2 was seen to take it with one and with two streams; with four it is INFERRED from the encoder.
    """
    run = traversal.tap_group * traversal.input_step * len(traversal.lanes)
    return numpy.stack([places.reshape(-1, run) for places in orders], axis=1).ravel()

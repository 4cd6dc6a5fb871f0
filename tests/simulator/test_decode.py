"""Operations: what a stream's state says of them."""

from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlia.errors import SimulatorError
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.container import Program
from mlia.simulator.decode import operations
from mlia.simulator.operation import (
    Compute,
    FeatureMap,
    Kernel,
    Operation,
    Padding,
    Range,
    Rounding,
    Scale,
    Stop,
    Transfer,
    Wait,
    WeightFormat,
)
from mlia.testing import IntegerSketch
from tests.simulator.disassembly import Note, disassemble
from tests.simulator.single_operators import draw


def _decoded(content: bytes, target: str) -> list[Operation]:
    return [operation for program in disassemble(content, target).programs for operation in operations(program)]


def _computes(kind: str, dtype: str, target: str, seed: int = 0) -> list[Compute]:
    decoded = _decoded(draw(kind, dtype, seed).content, target)
    return [operation for operation in decoded if isinstance(operation, Compute)]


def _maps(operation: Compute) -> list[FeatureMap]:
    found = [operation.ifm, operation.ofm]
    return found if operation.ifm2 is None else [*found, operation.ifm2]


def test_the_first_operations_of_the_sample(sample: Path) -> None:
    transfer, wait, convolution, *_, stop = _decoded(sample.read_bytes(), "ethos-u55-256")
    assert isinstance(transfer, Transfer)
    assert (transfer.source_region, transfer.destination_region, transfer.mode) == (0, 1, "1d")
    assert wait == Wait(wait.offset, "dma", 0)
    assert isinstance(convolution, Compute)
    assert (convolution.kind, convolution.mode) == ("conv", "")
    assert convolution.kernel == Kernel((10, 4), (2, 2), (1, 1), True, (8, 8))
    assert convolution.padding == Padding(4, 1, 5, 1)
    assert (convolution.ifm.height, convolution.ifm.width, convolution.ifm.depth) == (49, 10, 1)
    assert (convolution.ofm.height, convolution.ofm.width, convolution.ofm.depth) == (25, 5, 16)
    assert (convolution.ifm.is_brick, convolution.ofm.is_brick) == (False, True)
    assert (convolution.ofm.zero_point, convolution.activation.low, convolution.activation.high) == (-128, -128, 127)
    # Weights and scales are in what was copied before.
    for piece in (*convolution.weights, *convolution.scales):
        assert piece.region == transfer.destination_region
        assert transfer.destination <= piece.address
        assert piece.address + piece.length <= transfer.destination + transfer.length
    assert isinstance(stop, Stop)


@pytest.mark.parametrize("target", ["ethos-u55-32", "ethos-u65-512", "ethos-u85-512"])
def test_tiles_confirm_the_sizes_that_are_derived(target: str, sample: Path) -> None:
    contents = [sample.read_bytes(), *(draw(kind, "int8", 1).content for kind in ("convolution", "average_pool"))]
    checked = 0
    for content in contents:
        for operation in _decoded(content, target):
            if not isinstance(operation, Compute):
                continue
            for feature_map in _maps(operation):
                if feature_map.storage == "memory":
                    # Vela lets tiles be no larger than what is read, and these have no second column or row.
                    tiles = feature_map.tiles
                    assert (tiles.width0, tiles.height0) == (feature_map.width, feature_map.height)
                    checked += 1
    assert checked > 20


@pytest.mark.parametrize("target", ["ethos-u55-64", "ethos-u65-256", "ethos-u85-128", "ethos-u85-2048"])
def test_kernels_and_blocks_are_what_vela_says_in_words(target: str, sample: Path) -> None:
    contents = [draw(kind, "int8", 2).content for kind in ("convolution_dilated", "convolution_long_stride")]
    for content in (sample.read_bytes(), *contents):
        said = disassemble(content, target)
        decoded = [operation for program in said.programs for operation in operations(program)]
        computes = [operation for operation in decoded if isinstance(operation, Compute)]
        assert len(computes) == len(said.notes) > 0
        for operation, note in zip(computes, said.notes, strict=True):
            _assert_as_noted(operation, note)


def _assert_as_noted(operation: Compute, note: Note) -> None:
    block, kernel, padding = operation.block, operation.kernel, operation.padding
    # Vela's words are from before it cuts blocks to 128 columns.
    assert (block.height, block.width, block.depth) == (note.block[0], min(note.block[1], 128), note.block[2])
    if note.unit:
        assert (block.unit_height, block.unit_width, block.unit_depth) == note.unit
    if operation.kind in ("conv", "depthwise", "pool") and note.kernel:
        assert (kernel.size, kernel.stride, kernel.dilation) == (note.kernel, note.stride, note.dilation)
        assert (padding.top, padding.left, padding.bottom, padding.right) == note.padding
        assert kernel.is_part_kernel_first == note.is_part_kernel


@pytest.mark.parametrize(
    ("target", "streams", "scales"),
    [("ethos-u55-128", 1, 1), ("ethos-u65-512", 2, 2), ("ethos-u85-256", 1, 1), ("ethos-u85-2048", 4, 1)],
)
def test_streams_of_weights_and_scales(target: str, streams: int, scales: int) -> None:
    (operation,) = [found for found in _computes("convolution_3x3", "int8", target) if found.kind == "conv"]
    assert (len(operation.weights), len(operation.scales)) == (streams, scales)
    assert operation.cores == (2 if target == "ethos-u65-512" else 1)


def test_an_upscaled_input_is_stored_half_as_large() -> None:
    found = [
        operation
        for operation in _computes("transpose_convolution", "int8", "ethos-u55-128")
        if operation.upscale == "zeros"
    ]
    assert found
    for operation in found:
        assert operation.ifm.height <= -(-(operation.ofm.height + operation.kernel.size[0] - 1) // 2)
        assert operation.ifm.tiles.height0 >= operation.ifm.height


def test_additions_of_the_two_families() -> None:
    (small,) = _computes("add", "int8", "ethos-u55-128")
    assert small.scaled_operand in ("", "a", "b")
    assert None not in (small.ifm_scale, small.ifm2_scale)
    assert small.ofm_rounding == Rounding.DOUBLE
    (large,) = _computes("add", "int8", "ethos-u85-256")
    assert (large.kind, large.mode, large.scaled_operand) == ("elementwise", "add", "")
    assert large.ifm_scale is not None
    assert large.ifm2_scale is not None
    assert (large.ifm_scale.double_shift, large.ifm2_scale.double_shift) == (20, 20)


def test_tables() -> None:
    for target in ("ethos-u55-128", "ethos-u85-256"):
        decoded = _decoded(draw("tanh", "int8", 0).content, target)
        copies = [operation for operation in decoded if isinstance(operation, Transfer) and operation.to_table]
        activations = [operation.activation for operation in decoded if isinstance(operation, Compute)]
        assert [copy.length for copy in copies] == [256]
        assert [(activation.function, activation.table_kind) for activation in activations] == [("table", "s8>s8")]


# Of an elementwise operation that is complete, in words: all state that Ethos-U55 needs for it.
_MINIMUM = {
    0x107: 0, 0x105: 0x1, 0x114: 0x101, 0x185: 0x1, 0x112: 4, 0x111: 3, 0x113: 7, 0x10F: 1, 0x11F: 1, 0x109: 0,
    0x118: 0, 0x189: 0, 0x10A: 3, 0x10B: 4, 0x10C: 4, 0x11A: 3, 0x11B: 4, 0x11C: 4, 0x180: 0x80, 0x181: 0xFFF6,
    0x124: 0, 0x125: 0, 0x126: 0xFF80, 0x127: 0x7F, 0x115: 3, 0x116: 3, 0x117: 7, 0x12F: 2,
}  # fmt: skip
_ADDRESSES = {
    **{0x4000 + tile: 16 * tile for tile in range(4)}, **{0x4010 + tile: 512 for tile in range(4)},
    0x4004: 8, 0x4005: 32, 0x4006: 1, 0x4014: 8, 0x4015: 32, 0x4016: 1, 0x4024: 3,
}  # fmt: skip


def _minimum(without: int | None = None) -> Program:
    from tests.simulator.test_commands import program

    words = [opcode | value << 16 for opcode, value in _MINIMUM.items() if opcode != without]
    for opcode, value in _ADDRESSES.items():
        if opcode != without:
            words += [opcode, value]
    return program("ethos-u55", *words, 0x00030006, 0xFFFF0000)


def test_a_scalar_is_signed_and_has_no_place() -> None:
    operation, _ = operations(_minimum())
    assert isinstance(operation, Compute)
    assert operation.ifm2 is not None
    assert (operation.mode, operation.ifm2.storage, operation.ifm2.scalar) == ("min", "scalar", -10)
    assert operation.ofm_scale == Scale(3, 0, Rounding.DOUBLE)
    assert operation.ifm.tiles.bases == (0, 16, 32, 48)
    assert operation.block_dependency == 2


@pytest.mark.parametrize("opcode", [*_MINIMUM, *_ADDRESSES])
def test_state_that_was_never_set_is_an_error(opcode: int) -> None:
    with pytest.raises(SimulatorError, match=r"NPU_OP_ELEMENTWISE at byte 0x.* needs NPU_SET_"):
        operations(_minimum(without=opcode))


def test_what_is_after_the_stop_is_no_part_of_the_stream() -> None:
    whole = _minimum()
    words = numpy.concatenate([whole.words, numpy.array([0xFFFF0000], numpy.uint32)])
    assert operations(Program(whole.config, words)) == operations(whole)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_stream_is_one_kind_of_error(data: st.DataObject) -> None:
    whole = _minimum()
    words = whole.words.copy()
    for _ in range(data.draw(st.integers(1, 4))):
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.integers(0, 2**32 - 1))
    try:
        decoded = operations(Program(whole.config, words))
    except SimulatorError:
        return
    assert all(operation.offset < 4 * len(words) for operation in decoded)


def test_the_fast_weight_format_leaves_the_second_stream_empty() -> None:
    net = IntegerSketch("fast weights")
    x = net.image("image", (1, 120, 120, 16))
    for number in range(3):
        x = net.filter("CONV_2D", x, filters=16, name=f"conv{number}")
    found = _decoded(write_tflite(net.graph([x])), "ethos-u85-512")
    computes = [operation for operation in found if isinstance(operation, Compute) and operation.weights]
    assert {operation.weight_format for operation in computes} == {WeightFormat.FAST}
    for operation in computes:
        first, second = operation.weights
        assert first.length > 0
        assert second == Range(first.region, 0, 0)

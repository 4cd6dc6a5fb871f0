"""Ethos-U85's arithmetic and operands, on their own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.errors import SimulatorError
from mlia.simulator.container import Config
from mlia.simulator.memory import Memory
from mlia.simulator.operation import (
    Activation,
    Block,
    Compute,
    FeatureMap,
    Kernel,
    Padding,
    Range,
    Resize,
    Rounding,
    Scale,
    Tiles,
    Transfer,
)
from mlia.simulator.u85_elementwise import elementwise
from mlia.simulator.u85_machine import U85
from mlia.simulator.u85_output import scaled_twice
from mlia.simulator.u85_resize import resized
from mlia.simulator.u85_transfer import indexed_transfer

CONFIG = Config(2, "ethos-u85", 256, 0, 1)
ONE = Scale(1, 0, Rounding.DOUBLE)


def _map(base: int, height: int, width: int, depth: int, **changes: object) -> FeatureMap:
    """A plain map of int8 in region 1."""
    tiles = Tiles((base, 0, 0, 0), width, height, height)
    plain = FeatureMap(1, tiles, height, width, depth, width * depth, depth, 1, 1, True, False, 0)
    return replace(plain, **changes)


def _copy(**changes: object) -> Compute:
    """A pool that copies 2 x 3 x 4 bytes from 0 to 100."""
    plain = Compute(
        0x40, "pool", "sum", _map(0, 2, 3, 4), _map(100, 2, 3, 4), Rounding.DOUBLE, True, ONE,
        Activation("none", -128, 127), Block(2, 4, 16), Kernel((1, 1), (1, 1), (1, 1), False), Padding(0, 0, 0, 0),
        "none", 0, "int32",
    )  # fmt: skip
    return replace(plain, **changes)


def _machine() -> tuple[U85, Memory]:
    arena = np.arange(256, dtype=np.uint8)
    memory = Memory({1: arena})
    return U85(CONFIG, memory), memory


def _written(memory: Memory, count: int = 24) -> list[int]:
    return np.frombuffer(memory.read(Range(1, 100, count)), np.int8).tolist()


@given(st.data(), st.integers(1, (1 << 31) - 1), st.integers(20, 60), st.sampled_from(((0, 40), (15, 29), (20, 29))))
def test_two_roundings_are_exact(data: st.DataObject, multiplier: int, shift: int, kind: tuple[int, int]) -> None:
    """Beside Python's integers: half up first, then ties away from zero."""
    double_shift, bits = kind
    values = data.draw(st.lists(st.integers(-(1 << bits), 1 << bits), min_size=1, max_size=8))
    first = min(shift, 31 - double_shift)
    rest = shift - first
    expected = []
    for value in values:
        high = (value * multiplier + (1 << first >> 1)) >> first
        size = (abs(high) + (1 << rest >> 1)) >> rest
        expected.append(-size if high < 0 else size)
    assert scaled_twice(np.array(values, np.int64), multiplier, shift, double_shift).tolist() == expected


def test_outputs_are_transposed_and_reversed() -> None:
    source = np.arange(24).reshape(2, 3, 4)
    for order, axes in {
        "whc": (1, 0, 2),
        "hcw": (0, 2, 1),
        "wch": (1, 2, 0),
        "chw": (2, 0, 1),
        "cwh": (2, 1, 0),
    }.items():
        machine, memory = _machine()
        moved = source.transpose(axes)
        machine.compute(_copy(ofm_transpose=order, ofm=_ofm_of(moved.shape)))
        assert _written(memory) == moved.ravel().tolist()
    for axis, name in enumerate("hwc"):
        machine, memory = _machine()
        machine.compute(_copy(ofm_reverse=name))
        assert _written(memory) == np.flip(source, axis).ravel().tolist()


def _ofm_of(shape: tuple[int, ...]) -> FeatureMap:
    """An output with the sizes of before a transposition, and the strides and tiles of after it."""
    return replace(_map(100, *shape), height=2, width=3, depth=4)


def test_a_chained_result_is_read_once_it_is_there() -> None:
    machine, memory = _machine()
    chained = _map(0, 2, 3, 4, storage="chained", region=2)
    with pytest.raises(SimulatorError, match="chaining buffer 2, which holds nothing"):
        machine.compute(_copy(ifm=chained))
    machine.compute(_copy(ofm=chained))
    assert _written(memory) == list(range(100, 124))  # a chained result is not in memory
    machine.compute(_copy(ifm=chained))
    assert _written(memory) == list(range(24))
    with pytest.raises(SimulatorError, match="holds a result of another shape"):
        machine.compute(_copy(ifm=replace(chained, height=1), ofm=_map(100, 1, 3, 4)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"accumulator": "fp16"}, "fp16 accumulators at 0x40"),
        ({"upscale": "zeros"}, "upscaled with zeros, at 0x40"),
        ({"is_output_enabled": False}, "without an output, at 0x40"),
        ({"accumulator_source": "keep"}, "pool sum with accumulators from keep, at 0x40"),
        ({"mode": "argmax_y"}, "pooling mode argmax_y at 0x40"),
        ({"mode": "argmax_x"}, "argmax pool with this scale, at 0x40"),
        ({"mode": "average", "ofm_scale": Scale(3, 2)}, "average pool with a scale, at 0x40"),
        ({"kind": "elementwise", "mode": "divmod", "ifm2": _map(0, 2, 3, 4)}, "elementwise mode divmod at 0x40"),
        ({"kind": "elementwise", "mode": "add"}, "add at 0x40 needs a second operand"),
        ({"kind": "elementwise", "mode": "shr", "ifm2": _map(0, 2, 3, 4)}, "right shift with double rounding"),
        ({"kind": "elementwise", "mode": "div", "ifm2": _map(0, 2, 3, 4)}, "division by zero"),
        ({"kind": "resize", "mode": "replicate"}, "has no steps"),
        ({"ofm_transpose": "whc", "ofm_reverse": "h"}, "both transposed and reversed"),
        ({"ofm_transpose": "hww"}, "the order hww"),
        ({"activation": Activation("tanh", -128, 127)}, "tanh of other than int16"),
        ({"ofm_scale": Scale(3, 2, Rounding.DOUBLE_ASYMMETRIC)}, "double asymmetric"),
        ({"kind": "conv", "is_matmul": True}, "not of two matrices"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_an_error_that_names_it(changes: dict[str, object], named: str) -> None:
    machine, _ = _machine()
    with pytest.raises(SimulatorError, match=named):
        machine.compute(_copy(**changes))


def test_a_resize_of_an_unknown_mode_is_an_error() -> None:
    resize = Resize("replicate", 1, (1, 0), 0, 1, (1, 0), 0)
    with pytest.raises(SimulatorError, match="RESIZE mode replicate at 0x40"):
        resized(_copy(resize=resize), np.zeros((2, 3, 4), np.int64))


def test_leading_zeros_shifts_and_masks() -> None:
    values = np.array([[[0, 1, 255, (1 << 31) - 1, -1]]])
    counted, _ = elementwise(_copy(kind="elementwise", mode="clz"), values, None)
    assert counted.ravel().tolist() == [32, 31, 24, 1, 0]
    shift = _copy(kind="elementwise", mode="shr", ifm2=_map(0, 1, 1, 5), ofm_scale=Scale(1, 0, Rounding.NATURAL))
    shifted, _ = elementwise(shift, np.array([[[5, 6, -5, -6, 7]]]), np.array([[[1, 2, 1, 2, 0]]]))
    assert shifted.ravel().tolist() == [3, 2, -2, -1, 7]
    greater = _copy(kind="elementwise", mode="cmp_gt", ifm2=_map(0, 1, 1, 5))
    mask, _ = elementwise(greater, np.array([[[1, 2, 3]]]), np.array([[[2, 2, 2]]]))
    assert mask.ravel().tolist() == [0, 0, -1]


def test_a_product_of_words_is_only_shifted() -> None:
    words = _map(0, 1, 1, 2, element_bytes=4)
    operation = _copy(
        kind="elementwise", mode="mul", ifm=words, ifm2=words, ofm_scale=Scale(1 << 30, 31, Rounding.DOUBLE)
    )
    _, scaling = elementwise(operation, np.array([[[3, 4]]]), np.array([[[5, 6]]]))
    assert scaling.ofm_scale == Scale(1, 31, Rounding.DOUBLE)


@pytest.mark.parametrize(
    ("indexed", "numbers", "expected"),
    [("source", [4, 0], [8, 9, 0, 1, 104, 105]), ("destination", [2, 0], [2, 3, 102, 103, 0, 1])],
)
def test_rows_are_gathered_and_scattered(indexed: str, numbers: list[int], expected: list[int]) -> None:
    arena = np.arange(256, dtype=np.uint8)
    arena[200:208] = np.array(numbers, "<i4").view(np.uint8)
    transfer = Transfer(
        0, 1, 0, 1, 100, 2, mode="2d", rows=2, source_strides=(2, 0), destination_strides=(2, 0), indexed=indexed,
        indexes=Range(1, 200, 8), largest_index=4,
    )  # fmt: skip
    indexed_transfer(Memory({1: arena}), transfer)
    assert arena[100:106].tolist() == expected


def test_an_index_beyond_the_last_is_an_error() -> None:
    arena = np.zeros(256, np.uint8)
    arena[200] = 5
    transfer = Transfer(
        0x80, 1, 0, 1, 100, 2, mode="2d", rows=1, source_strides=(2, 0), destination_strides=(2, 0), indexed="source",
        indexes=Range(1, 200, 4), largest_index=4,
    )  # fmt: skip
    with pytest.raises(SimulatorError, match=r"index 5 of the transfer at 0x80 is not in 0\.\.4"):
        indexed_transfer(Memory({1: arena}), transfer)
    with pytest.raises(SimulatorError, match="at 0x80 has a mode"):
        indexed_transfer(Memory({1: arena}), replace(transfer, mode="3d"))

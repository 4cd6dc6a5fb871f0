"""Clips and tables by their definition; tanh and sigmoid against LiteRT for every input."""

import numpy
import pytest

from mlia.errors import SimulatorError
from mlia.graph.graph import Quantization
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator import activation
from mlia.simulator.operation import Activation
from mlia.testing import IntegerSketch
from mlia.transforms.interpreter import ReferenceModel

CODES = numpy.arange(-32768, 32768)
NO_TABLES = numpy.zeros(2048, numpy.uint8)


def _activation(function: str = "none", **given: object) -> Activation:
    return Activation(**{"function": function, "low": -32768, "high": 32767} | given)


def _litert(kind: str, input_scale: float) -> list[int]:
    net = IntegerSketch(kind)
    x = net.input("x", (1, 1, 1, CODES.size), "int16", Quantization((input_scale,), (0,)))
    y = net.operator(kind, [x], net.shape(x), "y", quantization=Quantization((1 / 32768,), (0,)))
    model = ReferenceModel(write_tflite(net.graph([y])))
    return model.run([CODES.astype(numpy.int16).reshape(net.shape(x))])[0].ravel().tolist()


@pytest.mark.parametrize("factor", [1, 2, 24])
def test_functions_are_those_of_litert(factor: int) -> None:
    assert activation.sigmoid(CODES * factor).tolist() == _litert("LOGISTIC", factor / (3 * 4096))
    assert activation.tanh(CODES * factor).tolist() == _litert("TANH", factor / (3 * 4096))


def test_functions_are_clipped_afterwards() -> None:
    limits = {"low": -100, "high": 20000}
    found = activation.activated(numpy.array([-999999, 0, 999999]), _activation("sigmoid", **limits), NO_TABLES)
    assert found.tolist() == [1, 16384, 20000]
    found = activation.activated(numpy.array([-999999, 0, 999999]), _activation("tanh", **limits), NO_TABLES)
    assert found.tolist() == [-100, 0, 20000]


def test_clips() -> None:
    values = numpy.array([-300, -5, 0, 5, 300])
    found = activation.activated(values, _activation(low=-4, high=100), NO_TABLES)
    assert found.tolist() == [-4, -4, 0, 5, 100]
    found = activation.activated(values, _activation(forced_range="int8"), NO_TABLES)
    assert found.tolist() == [-128, -5, 0, 5, 127]
    found = activation.activated(values, _activation(low=0, high=1, is_clipped=False), NO_TABLES)
    assert found.tolist() == values.tolist()


def test_tables_of_8_bits() -> None:
    tables = NO_TABLES.copy()
    tables[512:768] = numpy.arange(256)[::-1]
    values = numpy.array([-128, 0, 127])
    found = activation.activated(values, _activation("table", table_at=512, table_kind="s8>s8"), tables)
    assert found.tolist() == [-1, 127, 0]
    found = activation.activated(values + 128, _activation("table", table_at=512, table_kind="u8>u8"), tables)
    assert found.tolist() == [255, 127, 0]


def test_a_table_of_32_bits() -> None:
    tables = NO_TABLES.copy()
    tables[1024:] = (numpy.arange(256) * -100000).astype("<i4").view(numpy.uint8)
    given = _activation("table", table_at=1024, table_kind="s8>s32", forced_range="int8")
    assert activation.activated(numpy.array([-500, -127, 500]), given, tables).tolist() == [0, -100000, -25500000]


def test_a_table_of_16_bits_is_interpolated() -> None:
    base, slope = (numpy.arange(512) * 100 - 25600), numpy.full(512, -100)
    tables = ((base & 0xFFFF) | (slope & 0xFFFF) << 16).astype("<u4").view(numpy.uint8)
    values = numpy.array([-32768, -32767, -32704, 0, 32767])
    found = activation.activated(values, _activation("table", table_kind="s16>s16"), tables)
    assert found.tolist() == [-25600, -25601, -25650, 0, 25401]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_activation("softplus"), "softplus"),
        (_activation("table", table_kind="f16>f16"), "f16>f16"),
        (_activation("table", table_kind="s8>s8", table_at=2048), "leaves the look-up memory"),
        (_activation("table", table_kind="s8>s8"), "no entry"),
        (_activation(forced_range="int4"), "int4"),
    ],
)
def test_what_is_not_known_is_an_error(given: Activation, message: str) -> None:
    with pytest.raises(SimulatorError, match=message):
        activation.activated(numpy.array([999]), given, NO_TABLES)

"""Biases and scales by channel: those of compiled models, and their records."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlia.errors import SimulatorError
from mlia.graph.tflite import read_tflite
from mlia.simulator.container import Config
from mlia.simulator.operation import Compute, Range
from mlia.simulator.scales import decode_scales
from tests.simulator.filters import compiled_filters, many_filters

_TARGETS = ("ethos-u55-32", "ethos-u55-256", "ethos-u65-512", "ethos-u85-128", "ethos-u85-1024")


def _expected(content: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bias, and the factor input scale * weight scale / output scale, of each filter."""
    graph = read_tflite(content)
    found = []
    for operator in graph.main.operators:
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            x, weights, bias = (graph.main.tensors[index] for index in operator.inputs)
            y = graph.main.tensors[operator.outputs[0]]
            assert x.quantization is not None
            assert weights.quantization is not None
            assert y.quantization is not None
            values = np.frombuffer(bias.data, bias.dtype).astype(np.int64)
            factors = np.broadcast_to(np.array(weights.quantization.scale), values.shape)
            found.append((values, factors * x.quantization.scale[0] / y.quantization.scale[0]))
    return found


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("target", _TARGETS)
def test_scales_are_the_models(target: str, dtype: str) -> None:
    content = many_filters(3, dtype, 8)
    expected, checked = _expected(content), 0
    for operation, memory, config in compiled_filters(content, target):
        scales = decode_scales(operation, memory.read, config)
        depth = operation.ofm.depth
        assert len(scales.bias) == len(scales.multiplier) == len(scales.shift) == depth
        for bias, factor in expected:
            # An operation has some channels of one filter.
            for first in range(len(bias) - depth + 1):
                if np.array_equal(bias[first : first + depth], scales.bias):
                    # 16-bit inputs have scales of 16 or 15 bits; fully connected ones are of float32 (as in TFLite).
                    error = scales.multiplier / 2.0**scales.shift / factor[first : first + depth] - 1
                    assert abs(error).max() < (2**-13 if dtype == "int16" else 2**-23)
                    checked += depth
    assert checked >= sum(len(bias) for bias, _ in expected)


@pytest.fixture(scope="module")
def operation() -> Compute:
    sample = Path(__file__).parents[2] / "examples/ds_cnn_small_int8.tflite"
    found, _, _ = next(iter(compiled_filters(sample.read_bytes(), "ethos-u55-128")))
    return found


def _with(operation: Compute, depth: int, accumulator: str = "int32", cores: int = 1) -> Compute:
    replace = msgspec.structs.replace
    ranges = tuple(Range(core, 0, 32) for core in range(cores))
    ofm = replace(operation.ofm, depth=depth)
    return replace(operation, ofm=ofm, accumulator=accumulator, cores=cores, scales=ranges)


def _record(bias: int, multiplier: int, shift: int, bias_bytes: int, scale_bytes: int) -> bytes:
    parts = bias.to_bytes(bias_bytes, "little", signed=True) + multiplier.to_bytes(scale_bytes, "little")
    return (parts + bytes([shift])).ljust(10, b"\0")


@pytest.mark.parametrize(
    ("family", "accumulator", "bias_bytes", "scale_bytes", "bias_bits", "scale_bits"),
    [
        ("ethos-u55", "int32", 5, 4, 40, 32),
        ("ethos-u65", "int40", 5, 4, 40, 32),
        ("ethos-u85", "int32", 4, 4, 32, 31),
        ("ethos-u85", "int48", 6, 2, 48, 15),
    ],
)
def test_fields_of_records(
    operation: Compute,
    family: str,
    accumulator: str,
    bias_bytes: int,
    scale_bytes: int,
    bias_bits: int,
    scale_bits: int,
) -> None:
    least, most, top = -(1 << bias_bits - 1), (1 << bias_bits - 1) - 1, (1 << scale_bits) - 1
    records = ((least, top, 63), (most, 0, 0), (-1, 1, 31))
    content = b"".join(_record(*record, bias_bytes, scale_bytes) for record in records) + b"\xff\xff"
    config = Config(0, family, 256, 48, 1)
    scales = decode_scales(_with(operation, 3, accumulator), lambda _: content, config)
    assert scales.bias.tolist() == [least, most, -1]
    assert scales.multiplier.tolist() == [top, 0, 1]
    assert scales.shift.tolist() == [63, 0, 31]
    # The bits that no field has are zero.
    with pytest.raises(SimulatorError, match="bits set that are not known"):
        decode_scales(_with(operation, 1, accumulator), lambda _: content[:8] + b"\xff\xff", config)


def test_two_cores_have_every_second_channel(operation: Compute) -> None:
    contents = {0: (1, 3), 1: (2,)}

    def read(place: Range) -> bytes:
        return b"".join(_record(bias, 1, 0, 5, 4) for bias in contents[place.region])

    config = Config(1, "ethos-u65", 512, 96, 2)
    assert decode_scales(_with(operation, 3, "int32", 2), read, config).bias.tolist() == [1, 2, 3]
    with pytest.raises(SimulatorError, match="2, 1 records of scales, where 2, 2 are needed"):
        decode_scales(_with(operation, 4, "int32", 2), read, config)

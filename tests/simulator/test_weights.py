"""Weights of compiled models: what the NPU would take are the model's own."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlia.errors import SimulatorError
from mlia.graph.graph import OptionValue, Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.operation import Compute, WeightFormat
from mlia.simulator.weights import decode_weights
from mlia.targets.cores import core_names
from mlia.targets.profiles import target_names
from tests.simulator.filters import FilterSketch, compiled_filters, deep_filters, many_filters, one_filter

NPUS = [name for name in target_names() if name not in core_names()]
_KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def _own(content: bytes) -> list[np.ndarray]:
    """The weights of a model's filters as (outputs, height, width, inputs), zero point taken off."""
    found = []
    for operator in read_tflite(content).main.operators:
        if operator.kind in _KINDS:
            tensor = read_tflite(content).main.tensors[operator.inputs[1]]
            assert tensor.quantization is not None
            weights = np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape).astype(np.int64)
            weights = weights - tensor.quantization.zero_point[0]
            if operator.kind == "FULLY_CONNECTED":
                weights = weights[:, None, None, :]
            found.append(weights.transpose(3, 1, 2, 0) if operator.kind == "DEPTHWISE_CONV_2D" else weights)
    return found


def _left(content: bytes, target: str) -> tuple[list[np.ndarray], list[Compute]]:
    """Parts of a model's weights that no operation has, and operations whose weights are not in the model."""
    own = _own(content)
    is_there = [np.zeros(len(weights), bool) for weights in own]
    strange = []
    for operation, memory, config in compiled_filters(content, target):
        weights = decode_weights(operation, memory.read, config)
        assert weights.dtype == np.int16
        rows = weights.transpose(3, 1, 2, 0) if operation.kind == "depthwise" else weights
        found = 0
        for whole, there in zip(own, is_there, strict=True):
            if whole.shape[1:] != rows.shape[1:]:
                continue
            for first in range(len(whole) - len(rows) + 1):
                if np.array_equal(whole[first : first + len(rows)], rows):
                    there[first : first + len(rows)] = True
                    found += 1
        if not found:
            strange.append(operation)
    return [whole[~there] for whole, there in zip(own, is_there, strict=True) if not there.all()], strange


@pytest.mark.parametrize("target", NPUS)
def test_the_sample_has_its_own_weights(target: str, sample: Path) -> None:
    assert _left(sample.read_bytes(), target) == ([], [])


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("target", NPUS)
def test_filters_of_all_kinds_have_their_own_weights(target: str, dtype: str) -> None:
    assert _left(many_filters(NPUS.index(target), dtype, 12), target) == ([], [])


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("values", [3, 16])
@pytest.mark.parametrize("target", ["ethos-u85-128", "ethos-u85-512"])
def test_the_fast_format(target: str, values: int, dtype: str) -> None:
    content = one_filter(values, dtype)
    formats = {operation.weight_format for operation, _, _ in compiled_filters(content, target)}
    assert formats == {WeightFormat.FAST}
    assert _left(content, target) == ([], [])


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("target", ["ethos-u55-64", "ethos-u65-512", "ethos-u85-256", "ethos-u85-2048"])
def test_filters_with_many_inputs(target: str, dtype: str, is_sparse: bool) -> None:
    content = deep_filters(dtype, is_sparse)
    operations = [operation for operation, _, _ in compiled_filters(content, target)]
    assert not any(operation.kernel.is_part_kernel_first for operation in operations)
    assert {operation.is_sparse for operation in operations} == {is_sparse and "u85" in target}
    assert _left(content, target) == ([], [])


def test_the_filters_are_of_all_kinds() -> None:
    seen = set()
    for dtype in ("int8", "int16"):
        for operation, _, _ in compiled_filters(many_filters(NPUS.index("ethos-u85-256"), dtype, 12), "ethos-u85-256"):
            seen.add((operation.kind, operation.kernel.is_part_kernel_first))
            seen.add((operation.ifm.element_bytes, operation.is_sparse))
    assert seen >= {("conv", True), ("conv", False), ("depthwise", False), (1, False), (1, True), (2, False)}


def test_weights_of_uint8_have_nine_bits() -> None:
    net = FilterSketch(5, "uint8")
    values = net.random.integers(0, 256, (20, 3, 3, 12)).astype(np.uint8)
    weights = net.constant("weights", values, Quantization((0.01,), (255,)))
    bias = net.bias("bias", (0.01 * net.Q.scale[0],) * 20)
    x = net.image("x", (1, 8, 8, 12), "uint8")
    options: dict[str, OptionValue] = {
        "padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE",
        "dilation_w_factor": 1, "dilation_h_factor": 1,
    }  # fmt: skip
    y = net.operator("CONV_2D", [x, weights, bias], (1, 8, 8, 20), "y", options_table="Conv2DOptions", options=options)
    content = write_tflite(net.graph([y]))
    assert _left(content, "ethos-u65-512") == ([], [])
    assert min(own.min() for own in _own(content)) == -255


def test_a_stream_that_is_not_the_kernels_is_refused(sample: Path) -> None:
    operation, memory, config = next(iter(compiled_filters(sample.read_bytes(), "ethos-u55-128")))
    replace = msgspec.structs.replace
    for wrong, message in (
        (replace(operation, kernel=replace(operation.kernel, size=(9, 4))), r"has \d+ weights, where \d+ are needed"),
        (replace(operation, ofm=replace(operation.ofm, depth=15)), "not zero, where it has to pad"),
        (replace(operation, ofm=replace(operation.ofm, depth=1 << 16)), r"bytes cannot have \d+ weights"),
        (replace(operation, weights=operation.weights * 2), "2 streams of weights, where 1 are needed"),
        (replace(operation, ifm=replace(operation.ifm, element_bytes=4)), "has inputs of 4 bytes"),
        (replace(operation, kind="pool"), "pool at 0x148 has no weights"),
        (replace(operation, is_matmul=True), "conv at 0x148 has no weights"),
    ):
        with pytest.raises(SimulatorError, match=message):
            decode_weights(wrong, memory.read, config)


def test_the_same_weights_are_decoded_once(sample: Path) -> None:
    operation, memory, config = next(iter(compiled_filters(sample.read_bytes(), "ethos-u55-128")))
    weights = decode_weights(operation, memory.read, config)
    assert np.shares_memory(weights, decode_weights(operation, memory.read, config))
    assert not weights.flags.writeable
    (stream,) = operation.weights
    memory.write(stream, bytes(stream.length))
    with pytest.raises(SimulatorError):
        decode_weights(operation, memory.read, config)

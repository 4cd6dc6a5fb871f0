"""Compiled models in the simulator: what is given back, what damage costs, and what each operation is of."""

import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE
from msgspec.structs import replace

from mlia.backends.simulator.hazards import hazards_of, told_hazards
from mlia.backends.simulator.origins import owners_of
from mlia.backends.simulator.session import ALLOCATION, Session, streams_of
from mlia.errors import MliaError, SimulatorError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.verify.verify import operators_of, prepare
from mlia.simulator.operation import Compute, Transfer
from mlia.testing import IntegerSketch
from mlia.transforms.interpreter import ReferenceModel

CODES = np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 8)).astype(np.int8)


def with_constant() -> Graph:
    net = IntegerSketch("constant")
    x = net.image("in", (1, 4, 4, 8))
    return read_tflite(
        write_tflite(net.graph([net.filter("CONV_2D", x, filters=8, name="o"), net.integers("k", 1, 2)]))
    )


def test_an_input_that_is_an_output_is_given_back() -> None:
    net = IntegerSketch("input")
    x = net.image("in", (1, 4, 4, 8))
    graph = read_tflite(write_tflite(net.graph([x, net.filter("CONV_2D", x, filters=8, name="o")])))
    found = Session(bytes(prepare(graph, "ethos-u55-128").compiled.content)).run([CODES])
    assert (found[0] == CODES).all()


def test_a_constant_that_is_an_output() -> None:
    compiled = prepare(with_constant(), "ethos-u55-128").compiled
    with pytest.raises(SimulatorError, match="neither writes the output 'k' nor has data for it"):
        Session(bytes(compiled.content)).run([CODES])
    main = compiled.main
    data = memoryview(np.array([1, 2], np.int32).tobytes())
    tensors = tuple(replace(tensor, data=data) if tensor.name == "k" else tensor for tensor in main.tensors)
    kept = replace(compiled, subgraphs=(replace(main, tensors=tensors),))
    assert Session(write_tflite(kept)).run([CODES])[1].tolist() == [1, 2]


@pytest.mark.parametrize("target", ["ethos-u65-256", "ethos-u85-256"])
def test_an_input_of_the_npu_that_no_command_reads_has_no_place(target: str) -> None:
    net = IntegerSketch("upscaled")
    size, x = net.input("size", (4,), "int32"), net.image("in", (1, 4, 4, 8))
    weights, bias = net.weights((8, 3, 3, 8), 8, 0, "up")
    options = {"padding": "SAME", "stride_w": 2, "stride_h": 2, "fused_activation_function": "NONE"}
    inputs = [size, weights, x, bias]
    o = net.operator(
        "TRANSPOSE_CONV", inputs, (1, 8, 8, 8), "o", dtype="int8", quantization=net.Q,
        options_table="TransposeConvOptions", options=options,
    )  # fmt: skip
    graph = read_tflite(write_tflite(net.graph([o])))
    compiled = prepare(graph, target).compiled
    assert compiled.operators[0].custom_code == "ethos-u"
    sample = [np.array([1, 8, 8, 8], np.int32), CODES]
    found = Session(bytes(compiled.content)).run(sample)
    assert (found[0] == ReferenceModel(bytes(graph.content)).run(sample)[0]).all()


def changed(compiled: Graph, position: int, shape: tuple[int, ...]) -> bytes:
    """A compiled model in which the tensor at a position of its first operator has another shape."""
    main = compiled.main
    index = main.operators[0].inputs[position]
    tensors = list(main.tensors)
    tensors[index] = replace(tensors[index], shape=shape)
    return write_tflite(replace(compiled, subgraphs=(replace(main, tensors=tuple(tensors)),)))


@pytest.mark.parametrize(("target", "position"), [("ethos-u55-128", 2), ("ethos-u65-512", 3)])
def test_sizes_that_no_npu_has_are_refused(target: str, position: int) -> None:
    content = changed(prepare(SAMPLE, target).compiled, position, (36 << 30 >> 5, 32))
    with pytest.raises(SimulatorError, match=r"asks for 38,654,705,664 bytes of .*; at most 1,073,741,824 are given"):
        Session(content)


def test_places_of_tensors_that_are_damaged_cost_an_error() -> None:
    compiled = prepare(SAMPLE, "ethos-u55-128").compiled
    places = bytearray(compiled.metadata[ALLOCATION])
    refused = 0
    for at in range(0, len(places), 4):
        for value in (-1, -(2**31), 2**31 - 1, 3):
            damaged = bytearray(places)
            damaged[at : at + 4] = struct.pack("<i", value)
            content = write_tflite(replace(compiled, metadata={ALLOCATION: memoryview(bytes(damaged))}))
            try:
                Session(content).run([np.zeros((1, 49, 10, 1), np.int8)])
            except MliaError:
                refused += 1
    assert refused


def test_hazards_told_by_a_child_are_those_that_are_found() -> None:
    compiled = prepare(SAMPLE, "ethos-u55-128").compiled
    main = compiled.main
    index = main.operators[0].inputs[1]
    tensors = list(main.tensors)
    tensors[index] = replace(tensors[index], data=tensors[index].data[:64], shape=(64,))
    content = write_tflite(replace(compiled, subgraphs=(replace(main, tensors=tuple(tensors)),)))
    found = hazards_of(read_tflite(content))
    assert found
    assert told_hazards(content) == [(number, each.offset, str(each.kind), str(each), True) for number, each in found]
    assert told_hazards(bytes(compiled.content)) == []


def moved() -> Graph:
    """A convolution, a copy and a transposition, of which U55 makes several operations each."""
    net = IntegerSketch("moved")
    x = net.filter("CONV_2D", net.image("in", (1, 4, 4, 8)), filters=8, name="o")
    flat = net.plain(
        "RESHAPE", x, net.integers("sh", 1, 128), shape=(1, 128), name="r", table="ReshapeOptions", new_shape=(1, 128)
    )
    turned = net.plain("TRANSPOSE", x, net.integers("p", 0, 3, 1, 2), shape=(1, 8, 4, 4), name="t")
    return read_tflite(write_tflite(net.graph([flat, turned])))


@pytest.mark.parametrize(
    ("model", "target"),
    [(moved(), "ethos-u55-32"), (SAMPLE, "ethos-u55-128"), (SAMPLE, "ethos-u65-512"), (SAMPLE, "ethos-u85-256")],
    ids=["moved", "u55", "u65", "u85"],
)
def test_every_operation_is_of_an_operator(model: Graph | Path, target: str) -> None:
    prepared = prepare(model, target)
    names = operators_of(prepared)
    for stream in streams_of(prepared.compiled).values():
        for operation in stream.operations:
            if isinstance(operation, Compute | Transfer):
                assert (stream.number, operation.offset) in names


def test_parts_are_of_the_operator_that_begins_them() -> None:
    prepared = prepare(moved(), "ethos-u55-32")
    (stream,) = streams_of(prepared.compiled).values()
    names = operators_of(prepared)
    kinds = [names[0, operation.offset].split()[1] for operation in stream.operations if isinstance(operation, Compute)]
    assert list(dict.fromkeys(kinds)) == ["CONV_2D", "RESHAPE", "TRANSPOSE"]
    assert kinds == sorted(kinds)  # each follows the one before it, and none comes back
    assert kinds.count("TRANSPOSE") > len(prepared.links)


def test_weights_are_fetched_for_the_convolution_that_reads_them() -> None:
    prepared = prepare(SAMPLE, "ethos-u65-512")
    (stream,) = streams_of(prepared.compiled).values()
    names = operators_of(prepared)
    checked = 0
    for position, transfer in enumerate(stream.operations):
        if not isinstance(transfer, Transfer) or transfer.to_table:
            continue
        brought = range(transfer.destination, transfer.destination + transfer.length)
        reader = next(
            operation
            for operation in stream.operations[position:]
            if isinstance(operation, Compute)
            and any(
                place.region == transfer.destination_region and place.address in brought
                for place in (*operation.weights, *operation.scales)
            )
        )
        assert names[0, transfer.offset] == names[0, reader.offset]
        checked += 1
    assert checked


def test_nothing_is_made_up_where_nothing_is_known() -> None:
    assert owners_of(streams_of(prepare(SAMPLE, "ethos-u65-512").compiled).values(), {}) == {}

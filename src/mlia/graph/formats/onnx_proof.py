"""A converted ONNX model run beside its source, before anything is said of it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy

from mlia.errors import ModelError
from mlia.graph.formats.beside import Array, outputs_beside
from mlia.graph.formats.onnx_codes import SHIFT
from mlia.graph.formats.onnx_model import End, Node, OnnxGraph
from mlia.graph.formats.onnx_network import Converted
from mlia.graph.formats.onnx_reference import Trace, compute, evaluate
from mlia.graph.graph import Graph, Tensor
from mlia.graph.tflite_writer import write_tflite

Sample = Mapping[str, Array]
TOLERANCE = 1e-4  # of the largest value of a tensor: float32 sums in another order differ by some 1e-6
MOST_CODES = 2  # how far apart codes may be that integers and floats round
MANY_CODES = 0.5  # which share of them may be apart at all
FEW = 1e-3  # of integers that may differ where rounding decides between neighbors, as in ArgMax


def sample_of(ends: Sequence[End], shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
    """Seeded noise for each input: of both signs for even seeds, like pixels for odd ones; 0 and 1 for integers."""
    random = numpy.random.default_rng(seed)
    sample: dict[str, Array] = {}
    for end in ends:
        if end.dtype != "float32":
            sample[end.name] = random.integers(0, 2, shapes[end.name]).astype(end.dtype)
        else:
            draw = random.random if seed % 2 else random.standard_normal
            sample[end.name] = draw(shapes[end.name]).astype(numpy.float32)
    return sample


def prove(source: OnnxGraph, traced: Trace, model: Converted, samples: Sequence[Sample]) -> None:
    """Run both on the samples, of which the trace has computed the first.

    Raises:
        ModelError: they compute something else; names the first operator that does.
    """
    if model.coded is not None:
        prove_codes(source, traced, model, samples)
        return
    names = [end.name for end in source.outputs]
    expected = [traced.outputs, *(compute(traced, sample, names) for sample in samples[1:])]
    found = run(model.graph, source, model, samples, False)
    depends = False
    for number, theirs in enumerate(expected):
        for position, name in enumerate(names):
            ours = found[f"{number}:{position}"]
            order = model.outputs[name]
            if (by := difference(theirs[name].transpose(order), ours)) > 0:
                _name_it(source, traced, model, samples, f"output '{name}' differs by {by:.1g} of its largest value")
            depends |= difference(expected[0][name], theirs[name]) > 0
    if not depends:  # whatever goes in, the same comes out: what is between says more
        _name_it(source, traced, model, samples, "")


def difference(theirs: Array, ours: Array) -> float:
    """How far apart two arrays are, as a share of the largest value; 0 where that is rounding."""
    if theirs.shape != ours.shape:
        return 1.0
    if not theirs.size:
        return 0.0
    if theirs.dtype.kind in "iub":
        apart = float((theirs.astype(numpy.int64) != ours.astype(numpy.int64)).mean())
        return apart if apart > FEW and apart * theirs.size > 1 else 0.0
    one, other = theirs.astype(numpy.float64), ours.astype(numpy.float64)
    finite = numpy.isfinite(one)
    if (finite != numpy.isfinite(other)).any():
        return 1.0
    largest = float(abs(one[finite]).max(initial=0))
    apart = float(abs(one - other)[finite].max(initial=0))
    return 0.0 if apart <= TOLERANCE * max(largest, 1e-6) else apart / max(largest, 1e-6)


def _name_it(source: OnnxGraph, traced: Trace, model: Converted, samples: Sequence[Sample], why: str) -> None:
    """Compare every tensor of the first sample, as it was before anything was folded."""
    found = run(model.unfolded, source, model, samples[:1], True)
    wanted = [name for node in traced.nodes for name in node.outputs if name in model.values]
    theirs = compute(traced, samples[0], wanted)
    for node in traced.nodes:
        for name in node.outputs:
            value = model.values.get(name)
            if value is None or f"0:{value.index}" not in found:
                continue
            if difference(theirs[name].transpose(value.order), found[f"0:{value.index}"]) > 0:
                raise ModelError(
                    f"what mlia made of it computes something else: the first operator that differs is {node.kind} "
                    f"(node '{node.name}')"
                )
    if why:
        raise ModelError(f"what mlia made of it computes something else: {why}, though every operator agrees")


def prove_codes(source: OnnxGraph, traced: Trace, model: Converted, samples: Sequence[Sample]) -> None:
    """Compare each tensor of codes with what its operators make of the codes that they are given in LiteRT.

    So that rounding does not add up: integers and floats round some values to neighbors, and operators behind that
    would be blamed for it.

    Raises:
        ModelError: an operator gives other codes; names it.
    """
    assert model.coded is not None
    found = run(model.coded, source, model, samples, True)
    for number, sample in enumerate(samples):
        values: dict[str, Array] = dict(sample)
        for node in traced.nodes:
            arrays = [None if not name else _either(values, traced.constants, name) for name in node.inputs]
            values.update(zip(node.outputs, evaluate(node, arrays), strict=False))
            value = model.codes.get(node.outputs[0])
            if value is None or f"{number}:{value.index}" not in found:
                continue
            ours = _as_stored(found[f"{number}:{value.index}"], value.order, values[node.outputs[0]].dtype)
            apart = abs(ours.astype(numpy.int64) - values[node.outputs[0]].astype(numpy.int64))
            if apart.size and (apart.max() > MOST_CODES or ((apart > 0).mean() > MANY_CODES and apart.size > 100)):
                _refuse_codes(node, traced, int(apart.max()))
            values[node.outputs[0]] = ours
        for end, index in zip(source.outputs, model.coded.main.outputs, strict=True):
            tensor, theirs = model.coded.main.tensors[index], values[end.name].transpose(model.outputs[end.name])
            if tensor.dtype == "float32" and (by := difference(theirs, found[f"{number}:{index}"])) > 0:
                raise ModelError(
                    f"what mlia made of it computes something else: output '{end.name}' differs by {by:.1g} of its "
                    "largest value"
                )


def _refuse_codes(node: Node, traced: Trace, apart: int) -> NoReturn:
    """The operator in front of a QuantizeLinear is what differs."""
    maker = next((each for each in traced.nodes if node.inputs[0] in each.outputs), node)
    raise ModelError(
        f"what mlia made of it computes something else: the first operator that differs is {maker.kind} "
        f"(node '{maker.name}'), by {apart} codes"
    )


def _as_stored(codes: Array, order: Sequence[int], dtype: Any) -> Array:
    """Codes of TFLite in the order of ONNX's axes, and in its type."""
    turned = codes.transpose([list(order).index(axis) for axis in range(len(order))])
    return (turned.astype(numpy.int64) + SHIFT).astype(dtype) if dtype == numpy.uint8 else turned.astype(dtype)


def _either(values: Mapping[str, Array], constants: Mapping[str, Array], name: str) -> Array:
    return values[name] if name in values else constants[name]


def _as_given(array: Array, tensor: Tensor) -> Array:
    """An input of ONNX as the model takes it: as codes, where it has a scale."""
    if tensor.dtype != "int8" or tensor.quantization is None or array.dtype == numpy.int8:
        return array
    if array.dtype == numpy.uint8:
        return (array.astype(numpy.int64) - SHIFT).astype(numpy.int8)
    steps = numpy.round(array / numpy.float32(tensor.quantization.scale[0])) + tensor.quantization.zero_point[0]
    return numpy.clip(steps, -128, 127).astype(numpy.int8)


def run(graph: Graph, source: OnnxGraph, model: Converted, samples: Sequence[Sample], every: bool) -> dict[str, Array]:
    """LiteRT's outputs, in a child process."""
    given = [graph.main.tensors[index] for index in graph.main.inputs]
    with tempfile.TemporaryDirectory(prefix="mlia-") as work:
        arrays = {
            f"{number}:{position}": _as_given(sample[end.name].transpose(model.inputs[end.name]), given[position])
            for number, sample in enumerate(samples)
            for position, end in enumerate(source.inputs)
        }
        return outputs_beside(write_tflite(graph), arrays, Path(work), every)

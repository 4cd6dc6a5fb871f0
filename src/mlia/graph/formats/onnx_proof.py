"""A converted ONNX model run beside its source, before anything is said of it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy

from mlia.errors import ModelError
from mlia.graph.formats.beside import Array, outputs_beside
from mlia.graph.formats.onnx_model import End, OnnxGraph
from mlia.graph.formats.onnx_network import Converted
from mlia.graph.formats.onnx_reference import Trace, compute
from mlia.graph.graph import Graph
from mlia.graph.tflite_writer import write_tflite

Sample = Mapping[str, Array]
TOLERANCE = 1e-4  # of the largest value of a tensor: float32 sums in another order differ by some 1e-6
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
    names = [end.name for end in source.outputs]
    expected = [traced.outputs, *(compute(traced, sample, names) for sample in samples[1:])]
    found = _run(model.graph, source, model, samples, False)
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
    found = _run(model.unfolded, source, model, samples[:1], True)
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


def _run(graph: Graph, source: OnnxGraph, model: Converted, samples: Sequence[Sample], every: bool) -> dict[str, Array]:
    """LiteRT's outputs, in a child process."""
    with tempfile.TemporaryDirectory(prefix="mlia-") as work:
        arrays = {
            f"{number}:{position}": sample[end.name].transpose(model.inputs[end.name])
            for number, sample in enumerate(samples)
            for position, end in enumerate(source.inputs)
        }
        return outputs_beside(write_tflite(graph), arrays, Path(work), every)

"""What a converter wrote, run beside what its source computes: the same, and in which order of axes?

The converter's script leaves samples.npz and expected.npz, in the source's own layout, as "sample:name".
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy

from mlia.errors import ModelError
from mlia.graph.formats.beside import Array, arrays_of, outputs_beside
from mlia.graph.formats.onnx_proof import difference
from mlia.graph.graph import Graph

_LAYOUTS = {3: "NCW -> NWC", 4: "NCHW -> NHWC", 5: "NCDHW -> NDHWC"}
_MOST_TRIES = 16


def prove(graph: Graph, work: Path, who: str) -> tuple[str, ...]:
    """Notes on inputs and outputs whose channels are last now. Where sizes do not tell, what is computed does.

    Raises:
        ModelError: no order of the inputs' axes gives what the source computes.
    """
    samples, expected = arrays_of(work / "samples.npz"), arrays_of(work / "expected.npz")
    inputs = [graph.main.tensors[index] for index in graph.main.inputs]
    outputs = [graph.main.tensors[index] for index in graph.main.outputs]
    missing = [tensor.name for tensor in inputs if f"0:{tensor.name}" not in samples]
    if missing or len(outputs) != sum(name.startswith("0:") for name in expected):
        raise ModelError(f"{who} changed the inputs or outputs of the model")
    names = [name.removeprefix("0:") for name in expected if name.startswith("0:")]
    choices = [_choices(samples[f"0:{tensor.name}"].shape, tensor.shape) for tensor in inputs]
    for tried, moved in enumerate(product(*choices)):
        if tried >= _MOST_TRIES:
            break
        found = _run(graph, work, samples, [tensor.name for tensor in inputs], moved)
        turned = _agreeing(expected, found, names, [tensor.name for tensor in outputs])
        if turned is not None:
            told = [
                ("input", tensor.name, len(tensor.shape)) for tensor, last in zip(inputs, moved, strict=True) if last
            ]
            told += [("output", name, expected[f"0:{name}"].ndim) for name in turned]
            return tuple(f"{end} {name}: {_LAYOUTS[rank]}" for end, name, rank in told)
    raise ModelError(f"what {who} made of it computes something else than the model")


def _choices(theirs: tuple[int, ...], ours: tuple[int, ...]) -> list[bool]:
    """Whether channels may have become the last axis, likelier ones first."""
    if len(theirs) not in _LAYOUTS:
        return [False]
    last = (theirs[0], *theirs[2:], theirs[1])
    fits = [moved for moved, shape in ((True, last), (False, theirs)) if shape == ours]
    return fits or [False]


def _run(
    graph: Graph, work: Path, samples: Mapping[str, Array], names: list[str], moved: tuple[bool, ...]
) -> dict[str, Array]:
    seeds = sorted({name.split(":")[0] for name in samples})
    arrays = {
        f"{seed}:{place}": numpy.moveaxis(samples[f"{seed}:{name}"], 1, -1) if last else samples[f"{seed}:{name}"]
        for seed in seeds
        for place, (name, last) in enumerate(zip(names, moved, strict=True))
    }
    return outputs_beside(graph.file, arrays, work)


def _agreeing(
    expected: Mapping[str, Array], found: Mapping[str, Array], names: list[str], ours: list[str]
) -> list[str] | None:
    """The outputs whose channels are last now; None where one agrees in neither order."""
    seeds = sorted({name.split(":")[0] for name in expected})
    turned = []
    for name in names:
        place = ours.index(name) if name in ours else names.index(name)
        pairs = [(expected[f"{seed}:{name}"], found[f"{seed}:{place}"]) for seed in seeds]
        if all(difference(theirs, each) == 0 for theirs, each in pairs):
            continue
        rank = pairs[0][0].ndim
        if rank in _LAYOUTS and all(difference(numpy.moveaxis(theirs, 1, -1), each) == 0 for theirs, each in pairs):
            turned.append(name)
            continue
        return None
    return turned

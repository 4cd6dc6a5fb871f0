"""What a converter wrote, run beside what its source computes: the same, and in which order of axes?

The converter's script leaves samples.npz and expected.npz, in the source's own layout, as "sample:name"; the names are
those of the model's tensors, or of its signature.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy
from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.formats.beside import Array, arrays_of, outputs_beside
from mlia.graph.formats.onnx_proof import difference
from mlia.graph.graph import Graph, Tensor

_LAYOUTS = {3: "NCW -> NWC", 4: "NCHW -> NHWC", 5: "NCDHW -> NDHWC"}
_MOST_TRIES = 16


def prove(graph: Graph, work: Path, who: str, *, may_turn: bool = True) -> tuple[str, ...]:
    """Notes on inputs and outputs whose channels are last now. Where sizes do not tell, what is computed does.

    A source whose channels are last itself, as TensorFlow's, keeps its order of axes: it may not turn.

    Raises:
        ModelError: no order of the inputs' axes gives what the source computes.
    """
    samples, expected = arrays_of(work / "samples.npz"), arrays_of(work / "expected.npz")
    inputs, outputs = _ends(graph, samples, expected)
    missing = [tensor.name for tensor in inputs if f"0:{tensor.name}" not in samples]
    if missing or len(outputs) != sum(name.startswith("0:") for name in expected):
        raise ModelError(f"{who} changed the inputs or outputs of the model")
    names = [name.removeprefix("0:") for name in expected if name.startswith("0:")]
    choices = [_choices(samples[f"0:{each.name}"].shape, each.shape) if may_turn else [False] for each in inputs]
    apart: dict[str, float] = {}
    for tried, moved in enumerate(product(*choices)):
        if tried >= _MOST_TRIES:
            break
        found = _run(graph, work, samples, [tensor.name for tensor in inputs], moved)
        turned = _agreeing(expected, found, names, [tensor.name for tensor in outputs], may_turn, apart)
        if turned is not None:
            told = [
                ("input", tensor.name, len(tensor.shape)) for tensor, last in zip(inputs, moved, strict=True) if last
            ]
            told += [("output", name, expected[f"0:{name}"].ndim) for name in turned]
            return tuple(f"{end} {name}: {_LAYOUTS[rank]}" for end, name, rank in told)
    raise ModelError(f"what {who} made of it computes something else than the model{_where(apart)}")


def _ends(
    graph: Graph, samples: Mapping[str, Array], expected: Mapping[str, Array]
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs under the names that the source has for them."""
    found = []
    for indexes, arrays, side in ((graph.main.inputs, samples, "inputs"), (graph.main.outputs, expected, "outputs")):
        names: dict[int, str] = {}
        for signature in graph.signatures[:1]:
            named: Mapping[str, int] = signature.inputs if side == "inputs" else signature.outputs
            names = {index: name for name, index in named.items() if f"0:{name}" in arrays}
        tensors = [graph.main.tensors[index] for index in indexes]
        if set(names) >= set(indexes):
            tensors = [replace(each, name=names[index]) for each, index in zip(tensors, indexes, strict=True)]
        found.append(tensors)
    return found[0], found[1]


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
    expected: Mapping[str, Array],
    found: Mapping[str, Array],
    names: list[str],
    ours: list[str],
    may_turn: bool,
    apart: dict[str, float],
) -> list[str] | None:
    """The outputs whose channels are last now; None where one agrees in neither order, which goes into `apart`."""
    seeds = sorted({name.split(":")[0] for name in expected})
    turned = []
    for name in names:
        place = ours.index(name) if name in ours else names.index(name)
        pairs = [(expected[f"{seed}:{name}"], found[f"{seed}:{place}"]) for seed in seeds]
        if all(difference(theirs, each) == 0 for theirs, each in pairs):
            continue
        rank = pairs[0][0].ndim
        if (
            may_turn
            and rank in _LAYOUTS
            and all(difference(numpy.moveaxis(theirs, 1, -1), each) == 0 for theirs, each in pairs)
        ):
            turned.append(name)
            continue
        apart[name] = min(apart.get(name, 1.0), max(difference(theirs, each) for theirs, each in pairs))
        return None
    return turned


def _where(apart: Mapping[str, float]) -> str:
    """Which output differs, and by how much, in the order of axes in which it differs least."""
    return "".join(
        f": output '{name}' differs by {by:.1g} of its largest value" for name, by in list(apart.items())[:1]
    )

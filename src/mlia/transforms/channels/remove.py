"""Removal of whole channels: smaller convolutions, which every processor runs faster.

1. Channels that must go together are found (groups.py).
2. The model runs on the samples. In each group the channels that the operators behind it miss least are chosen
   (fit.py): those that never change first.
3. What a removed channel adds on average goes into the biases behind it. Of a channel that never changes that is all.
4. The operators that read fewer channels now are fitted one after the other, each on what the changed model before
   it computes, to give what they gave in the original model.

For child processes only: LiteRT runs here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import ACTING, Graph, Subgraph
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Channels, Dead, Recipe
from mlia.results import Change, Skipped
from mlia.transforms.calibration import Array, affordable
from mlia.transforms.channels.cut import Draft, without_lanes
from mlia.transforms.channels.fit import (
    DEAD_RIDGE,
    ELIMINATION_RIDGE,
    NEGLIGIBLE,
    Elimination,
    Reader,
    as_matrix,
    fit,
    order_of_removal,
)
from mlia.transforms.channels.groups import Group, Structure, channel_structure
from mlia.transforms.constants import reread, stored
from mlia.transforms.interpreter import Model, samples_of
from mlia.transforms.transform import Transformed

NAME = "channels"
# What all channels removed as dead may cost together, of the variance of an output: not nothing, because a channel
# that never changes still differs at the border of a convolution that pads with zeros.
DEAD_COST = 1e-5
CHANGELESS = 1e-6  # relative to the largest value of the tensor
MEMORY_BYTES = 1 << 30  # for what the samples hold between two operators


def remove_channels(graph: Graph, samples: Sequence[Array], recipe: Recipe) -> Transformed:
    """The float model with fewer channels in its convolutions and fully connected operators.

    Args:
        graph: a model in float32; only its first subgraph is looked at.
        samples: one array per input of the model, (samples, *shape of the input). Of large models as many are used
            as fit in memory.
        recipe: `channels` says how many to keep and in which multiples, `layers` what is different for an operator
            with a matching name, and `compensate` whether weights may be fitted to make up for what is removed.
            Where operators share their channels and are told different things, the gentlest is done to all.

    Raises:
        TransformError: LiteRT cannot run the model, or what it computes is not finite.
    """
    if len(graph.subgraphs) > 1:
        return Transformed(graph, (), (Skipped("channels", "the model has several subgraphs"),))
    if any(operator.kind in ACTING for operator in graph.operators):
        return Transformed(graph, (), (Skipped("channels", "the model calls custom operators or keeps state"),))
    structure = channel_structure(graph.main)
    tasks, skipped = _tasks(graph.main, structure, recipe)
    if not tasks:
        return Transformed(graph, (), skipped)
    used = _affordable(graph.main, samples)
    if len(used[0]) < len(samples[0]):
        left_out = f"{len(samples[0]) - len(used[0])} of {len(samples[0])} samples"
        skipped = (*skipped, Skipped(left_out, "more do not fit in memory while channels are chosen"))
    return _remove(graph, structure, tasks, used, recipe.compensate, skipped)


class _Task(Struct, frozen=True):
    group: Group
    where: str
    keep: float | Dead
    multiple: int


class _Choice(Struct, frozen=True):
    task: _Task
    removed: tuple[int, ...]
    dead: int  # of the removed


class _Observed(Struct, frozen=True):
    """What one operator reads in the original model: rows of samples, and which lanes change between samples."""

    reader: Reader
    rows: tuple[Array, ...]
    changing: frozenset[int]
    lanes: Array  # of each feature
    matrix: Array
    bias: Array
    variance: float  # of the output, summed over its channels

    def elimination(self, lanes: Sequence[int], compensate: bool, only_dead: bool) -> Elimination:
        """Removal of these lanes; of dead ones only others of them make up for."""
        rows, features = numpy.concatenate(self.rows), numpy.arange(len(self.lanes))
        if only_dead:
            features = numpy.flatnonzero(numpy.isin(self.lanes, lanes))
        blocks = [numpy.flatnonzero(self.lanes[features] == lane) for lane in lanes]
        ridge = (DEAD_RIDGE if only_dead else ELIMINATION_RIDGE) if compensate else None
        return Elimination(rows[:, features], self.matrix[features], blocks, variance=self.variance, ridge=ridge)


def _tasks(main: Subgraph, structure: Structure, recipe: Recipe) -> tuple[list[_Task], tuple[Skipped, ...]]:
    """The groups to remove channels from, and why not from the others."""
    multiple = recipe.channels.multiple if recipe.channels else Channels(keep=1.0).multiple
    tasks, skipped = [], []
    for group in structure.groups:
        names = [main.operator_name(main.operators[index]) for index in group.producers]
        where, count = ", ".join(names), len(group.lanes)
        keep = _keep(names, recipe)
        if keep is None:
            continue
        reason = group.pinned
        if keep is False:
            reason = "the recipe leaves it alone"
        elif not reason and not group.readers:
            reason = "nothing reads its channels"
        elif not reason and count <= multiple:
            reason = f"{count} channels, and a multiple of {multiple} is kept"
        if reason:
            skipped.append(Skipped(where, reason))
        else:
            tasks.append(_Task(group, where, keep, multiple))
    return tasks, tuple(skipped)


def _keep(names: Sequence[str], recipe: Recipe) -> float | bool | Dead | None:
    """What to keep of channels that these operators share. False leaves them alone, None is not asked for any."""
    asked = [said for name in names if (said := recipe.layer(name).channels) is not None]
    if not asked and recipe.channels:
        asked = [recipe.channels.keep]
    if not asked:
        return None
    if False in asked:
        return False
    if "dead" in asked:
        return "dead"
    return max(keep for keep in asked if not isinstance(keep, str))


def _affordable(main: Subgraph, samples: Sequence[Array]) -> tuple[Array, ...]:
    """As many samples as can be held in memory while they are between two operators."""
    return affordable(samples, 4 * max(4 * tensor.elements for tensor in main.tensors), MEMORY_BYTES)


def _remove(
    graph: Graph,
    structure: Structure,
    tasks: Sequence[_Task],
    samples: Sequence[Array],
    compensate: bool,
    skipped: tuple[Skipped, ...],
) -> Transformed:
    observed = _observe(graph.main, structure, tasks, samples)
    choices: list[_Choice] = []
    for task in tasks:
        choice = _choose(task, observed, compensate)
        if isinstance(choice, Skipped):
            skipped = (*skipped, choice)
        else:
            choices.append(choice)
    if not choices:
        return Transformed(graph, (), skipped)
    removed = frozenset(lane for choice in choices for lane in choice.removed)
    draft, losing = without_lanes(graph, structure, removed)
    kept_outputs = {
        part.operator: ~numpy.isin(part.lanes, list(removed))
        for part in structure.parts
        if part.operator in losing and part.position == 1 and part.axis == 0
    }
    is_exact = True
    for index in sorted(losing):
        addition, is_constant = _removed_part(observed[index], removed)
        draft.add_bias(index, addition[kept_outputs[index]])
        is_exact &= is_constant
    changes = [_told(choice) for choice in choices]
    changes += [Change(NAME, name, "read by several operators, copied") for name in sorted(draft.copied)]
    if compensate and not is_exact:
        targets = {index: _Target(observed[index], kept_outputs[index]) for index in sorted(losing)}
        changes += _refit(draft, targets, samples)
    return Transformed(reread(replace(graph, subgraphs=(draft.subgraph(),))), tuple(changes), skipped)


def _told(choice: _Choice) -> Change:
    count = len(choice.task.group.lanes)
    dead = f", {choice.dead} of them never change" if choice.dead else ""
    return Change(NAME, choice.task.where, f"{len(choice.removed)} of {count} channels removed{dead}")


def _observe(
    main: Subgraph, structure: Structure, tasks: Sequence[_Task], samples: Sequence[Array]
) -> Mapping[int, _Observed]:
    """Run the original model, and keep what the operators read that may lose channels."""
    indexes = sorted({index for task in tasks for index in task.group.readers})
    readers = {index: Reader(main, main.operators[index]) for index in indexes}
    for reader in readers.values():
        reader.pick(len(samples[0]))
    rows: dict[int, list[Array]] = {index: [] for index in indexes}
    extremes: dict[int, tuple[Array, Array]] = {}
    for number, model in enumerate(_runs(main, samples_of(samples))):
        for index in indexes:
            source = main.operators[index].inputs[0]
            values = model.real(source)
            rows[index].append(readers[index].rows(number, values))
            lowest, highest = extremes.get(source, (values, values))
            extremes[source] = numpy.minimum(lowest, values), numpy.maximum(highest, values)
    return {
        index: _observed(main, structure, index, readers[index], rows[index], extremes[main.operators[index].inputs[0]])
        for index in indexes
    }


def _observed(
    main: Subgraph, structure: Structure, index: int, reader: Reader, rows: list[Array], extremes: tuple[Array, Array]
) -> _Observed:
    operator = main.operators[index]
    lowest, highest = extremes
    if not (numpy.isfinite(lowest).all() and numpy.isfinite(highest).all()):
        name = main.operator_name(operator)
        raise TransformError(f"the input of '{name}' is not finite on the calibration data")
    spread = (highest - lowest).reshape(-1, lowest.shape[-1]).max(0)
    is_changing = spread > CHANGELESS * max(float(abs(lowest).max()), float(abs(highest).max()))
    lanes = structure.tensors[operator.inputs[0]]
    weights = stored(main.tensors[operator.inputs[1]])
    matrix = as_matrix(weights)
    bias = main.tensor(operator.inputs[2]) if len(operator.inputs) > 2 else None
    return _Observed(
        reader=reader,
        rows=tuple(rows),
        changing=frozenset(lanes[is_changing].tolist()),
        lanes=reader.lanes(structure.readers[index]),
        matrix=matrix,
        variance=float((numpy.concatenate(rows) @ matrix).var(0).sum()),
        bias=stored(bias) if bias is not None else numpy.zeros(len(weights), numpy.float32),
    )


def _choose(task: _Task, observed: Mapping[int, _Observed], compensate: bool) -> _Choice | Skipped:
    """Which lanes of a group to remove."""
    lanes, count, multiple = task.group.lanes, len(task.group.lanes), task.multiple
    read = [observed[index] for index in task.group.readers]
    is_dead = numpy.array([not any(lane in one.changing for one in read) for lane in lanes])
    if is_dead.all():
        return Skipped(task.where, "none of its channels changes over the samples, so they say nothing about it")
    only_dead = isinstance(task.keep, str)
    stay = int((~is_dead).sum()) if isinstance(task.keep, str) else task.keep * count
    told = f"{is_dead.sum()} of {count} channels never change" if only_dead else f"{count} channels"
    if _rounded_up(stay, multiple) >= count:
        return Skipped(task.where, f"{told}, and a multiple of {multiple} is kept")
    considered = numpy.flatnonzero(is_dead) if only_dead else numpy.arange(count)
    eliminations = [
        one.elimination([lanes[position] for position in considered], compensate, only_dead) for one in read
    ]
    if only_dead:
        order = order_of_removal(eliminations, len(considered), DEAD_COST)
        order = order[: max(0, count - _rounded_up(count - len(order), multiple))]
    else:
        order = order_of_removal(eliminations, count - _rounded_up(stay, multiple))
    if not order:
        return Skipped(task.where, f"{told}, but the borders that they are padded with make them count")
    chosen = considered[order]
    return _Choice(task, tuple(lanes[position] for position in chosen), int(is_dead[chosen].sum()))


def _rounded_up(count: float, multiple: int) -> int:
    """The next multiple, but not nothing. Shares are not exact in binary: 0.7 * 10 is above 7."""
    return max(1, ceil(count / multiple - 1e-9)) * multiple


def _removed_part(observed: _Observed, removed: frozenset[int]) -> tuple[Array, bool]:
    """What the removed lanes add to the output on average, (outputs,), and whether that is all they add."""
    gone = numpy.isin(observed.lanes, list(removed))
    lost = numpy.concatenate(observed.rows)[:, gone] @ observed.matrix[gone]
    return lost.mean(0), bool(lost.var(0).sum() <= NEGLIGIBLE * observed.variance)


class _Target:
    """What an operator gave in the original model, before its activation, for the outputs that it still has."""

    def __init__(self, observed: _Observed, kept_outputs: Array) -> None:
        self.reader = observed.reader
        matrix, bias = observed.matrix[:, kept_outputs], observed.bias[kept_outputs]
        self.rows = [rows @ matrix + bias for rows in observed.rows]


def _refit(draft: Draft, targets: Mapping[int, _Target], samples: Sequence[Array]) -> Iterator[Change]:
    """Fit the operators one after the other, each on what the changed model before it computes."""
    replay = _Replay(draft.subgraph(), samples)
    for index, target in targets.items():
        main = draft.subgraph()
        replay.advance(main, index)
        operator = main.operators[index]
        inputs = replay.values[operator.inputs[0]]
        rows = [target.reader.rows(number, values) for number, values in enumerate(inputs)]
        weights, bias = draft.constant(index, 1), draft.constant(index, 2)
        found = fit(rows, [part - bias for part in target.rows], as_matrix(weights))
        draft.place(index, 1, found.matrix.T.reshape(weights.shape).astype(numpy.float32))
        draft.add_bias(index, found.bias)
        error = f"relative error of the output {found.before:.3f}, then {found.after:.3f}"
        yield Change(NAME, main.operator_name(operator), f"fitted to fewer channels: {error}")


def _runs(main: Subgraph, samples: Iterable[Sequence[Array]]) -> Iterator[Model]:
    """The model after each sample."""
    model = Model(write_tflite(Graph((main,))))
    for sample in samples:
        model.run(sample)
        yield model


class _Replay:
    """All samples on their way through a model that changes ahead of them. Each operator runs once per sample."""

    def __init__(self, main: Subgraph, samples: Sequence[Array]) -> None:
        self.values: dict[int, list[Array]] = {
            index: list(stack) for index, stack in zip(main.inputs, samples, strict=True)
        }
        self._samples = len(samples[0])
        self._next = 0

    def advance(self, main: Subgraph, stop: int) -> None:
        """Run the operators up to the one with index `stop`; `values` then has what it and later ones read."""
        operators = main.operators[self._next : stop]
        later = {index for operator in main.operators[stop:] for index in operator.inputs}
        if operators:
            read = {index for operator in operators for index in operator.inputs}
            computed = [index for operator in operators for index in operator.outputs]
            inputs = [index for index in self.values if index in read]
            outputs = [index for index in computed if index in later]
            tensors = tuple(
                replace(tensor, data=memoryview(b"")) if tensor.is_constant and index not in read else tensor
                for index, tensor in enumerate(main.tensors)
            )
            part = replace(main, tensors=tensors, operators=operators, inputs=tuple(inputs), outputs=tuple(outputs))
            found: dict[int, list[Array]] = {index: [] for index in outputs}
            held = ([self.values[index][number] for index in inputs] for number in range(self._samples))
            for model in _runs(part, held):
                for index in outputs:
                    found[index].append(model.real(index))
            self.values.update(found)
        self._next = stop
        self.values = {index: arrays for index, arrays in self.values.items() if index in later}

"""The simulator beside LiteRT's reference kernels: the same samples through both, tensor by tensor.

For child processes only: LiteRT can abort on some models.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.simulator import Session
from mlia.errors import SimulatorError, TransformError
from mlia.graph.graph import ACTING, Graph, Operator, Subgraph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.feature_maps import read_elements
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, FeatureMap
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import ReferenceModel
from mlia.transforms.rewrites.network import without_unused_tensors

MISPLACED = 0.25  # of the elements: when so many differ, the parts were not put together as they lie


class Link(Struct, frozen=True):
    """Which operator of the main subgraph the operation at an offset of a stream is of.

    `makes_output` when it writes the operator's only output, or a part of it.
    """

    stream: int
    offset: int
    operator: int
    makes_output: bool


class Difference(Struct, frozen=True):
    """How far the output of an operator (or of the model) is from the reference, over all samples.

    `is_placed` is False where, in a sample, the parts in which it was computed could not be put together; that sample
    is not counted then. `own` is how far it is from the reference on the NPU's own inputs; None where these were the
    reference's. `own.is_placed` is False where the reference cannot be run on them.
    """

    elements: int = 0
    different_elements: int = 0
    largest_codes: int = 0
    is_placed: bool = True
    own: "Difference | None" = None

    def and_then(self, other: "Difference") -> "Difference":
        """Both together."""
        own = None if self.own is other.own is None else self._alone.and_then(other._alone)
        return Difference(
            self.elements + other.elements,
            self.different_elements + other.different_elements,
            max(self.largest_codes, other.largest_codes),
            self.is_placed and other.is_placed,
            own,
        )

    @property
    def _alone(self) -> "Difference":
        """What an operator adds itself."""
        if self.own is not None:
            return self.own
        return self if self.is_placed else Difference()


class Compared(Struct, frozen=True):
    """Differences of the model's outputs, in their order, and of operators' outputs by the operators' indexes."""

    outputs: tuple[Difference, ...]
    operators: dict[int, Difference]


def compare(reference: bytes, compiled: bytes, links: Sequence[Link], samples: Iterable[Sequence[Array]]) -> Compared:
    """Run a model in LiteRT and what was compiled from it in the simulator, one sample after the other.

    Variables keep what they hold from sample to sample. After a sample in which anything differed, both sides begin
    anew: what they remember of it would add to the differences of the next.

    Args:
        reference: the TFLite file that was compiled.
        compiled: what the compiler made of it.
        links: which operations are of which operators, and make their outputs.
        samples: for each an array per input, in codes.

    Raises:
        SimulatorError: the compiled model has what is not known.
        TransformError: LiteRT cannot run the model.
    """
    theirs = _reference(reference)
    graph = read_tflite(reference)
    parts, alone = _Parts(graph.main, links), _Alone(graph, theirs)
    ours = Session(compiled, parts.watch)
    remembers = any(_remembers(graph.main, operator) for operator in graph.operators)
    outputs = [Difference()] * len(graph.main.outputs)
    operators: dict[int, Difference] = {}
    for sample in samples:
        parts.clear()
        found = ours.run(sample)
        expected = theirs.run(sample)
        now, by_operator = _compared(graph.main, parts, alone, sample, expected, found)
        outputs = [before.and_then(after) for before, after in zip(outputs, now, strict=True)]
        for index, difference in by_operator.items():
            operators[index] = operators.get(index, Difference()).and_then(difference)
        if remembers and any(each.different_elements for each in (*now, *by_operator.values())):
            # Made anew, since LiteRT cannot reset resource variables.
            theirs, ours = _reference(reference), Session(compiled, parts.watch)
            alone.theirs = theirs
    return Compared(tuple(outputs), operators)


def outputs_of(compiled: bytes, samples: Iterable[Sequence[Array]]) -> list[list[Array]]:
    """What a compiled model computes for each sample, an array per output, in codes.

    Raises:
        SimulatorError: the compiled model has what is not known.
    """
    session = Session(compiled)
    return [session.run(sample) for sample in samples]


def _reference(content: bytes) -> ReferenceModel:
    return ReferenceModel(content, keeps_all=True)


def _compared(
    main: Subgraph,
    parts: "_Parts",
    alone: "_Alone",
    sample: Sequence[Array],
    expected: Sequence[Array],
    found: Sequence[Array],
) -> tuple[list[Difference], dict[int, Difference]]:
    """Differences of one sample: of the outputs, and by operator."""
    outputs = [_difference(a, b) for a, b in zip(expected, found, strict=True)]
    whole = [index for index, each in zip(main.outputs, outputs, strict=True) if each.is_placed]
    by_tensor = dict(zip(main.outputs, outputs, strict=True))
    seen = dict(zip(main.inputs, sample, strict=True))
    seen |= {index: array for index, array in zip(main.outputs, found, strict=True) if index in whole}
    for owner, candidates, is_certain in parts.candidates():
        index = main.operators[owner].outputs[0]
        if index in by_tensor:  # nothing is surer than the output itself
            continue
        by_tensor[index], nearest = _nearest(alone.expected(index), candidates, is_certain)
        if nearest is not None:
            seen[index] = nearest
    for index, difference in by_tensor.items():
        if difference.different_elements and difference.is_placed:
            by_tensor[index] = replace(difference, own=alone.own(index, seen))
    operators: dict[int, Difference] = {}
    for operator in main.operators:
        for index in operator.outputs:
            if index in by_tensor:
                operators[operator.index] = operators.get(operator.index, Difference()).and_then(by_tensor[index])
    return [by_tensor[index] for index in main.outputs], operators


def _difference(expected: Array, found: Array) -> Difference:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return Difference(int(expected.size), int(expected.size), 0, False)
    if expected.dtype.kind == "f":
        different = int((expected != found).sum())
        return Difference(int(expected.size), different, int(different > 0))
    apart = numpy.abs(expected.astype(numpy.int64) - found.astype(numpy.int64))
    return Difference(int(apart.size), int((apart > 0).sum()), int(apart.max(initial=0)))


class _Alone:
    """Operators in LiteRT on the NPU's own tensors, each with those before it that cannot be seen."""

    def __init__(self, graph: Graph, theirs: ReferenceModel) -> None:
        self._graph = graph
        self.theirs = theirs
        self._makers = {index: operator for operator in graph.main.operators for index in operator.outputs}
        self._models: dict[tuple[int, tuple[int, ...]], ReferenceModel | None] = {}

    def expected(self, index: int) -> Array:
        """The reference's tensor of this sample."""
        return self.theirs.tensor(index)

    def own(self, index: int, seen: Mapping[int, Array]) -> Difference | None:
        """How far a tensor is from what the reference computes from the tensors that can be seen before it.

        None where these are the reference's.
        """
        if index not in self._makers:
            return None
        operators, inputs = self._before(index, seen)
        if all(numpy.array_equal(seen[each], self.expected(each)) for each in inputs):
            return None
        key = index, inputs
        if key not in self._models:
            self._models[key] = self._model(index, operators, inputs)
        model = self._models[key]
        if model is None:
            return Difference(is_placed=False)
        try:
            (expected,) = model.run([seen[each] for each in inputs])
        except TransformError:
            return Difference(is_placed=False)
        return _difference(expected, seen[index])

    def _before(self, index: int, seen: Mapping[int, Array]) -> tuple[list[Operator], tuple[int, ...]]:
        """The operators that lead to a tensor from those that can be seen, and these."""
        operators: dict[int, Operator] = {}
        inputs: dict[int, None] = {}
        waiting = [self._makers[index]]
        while waiting:
            operator = waiting.pop()
            operators[operator.index] = operator
            for each in operator.inputs:
                if each in seen:
                    inputs[each] = None
                elif each in self._makers and self._makers[each].index not in operators:
                    waiting.append(self._makers[each])
        return [operators[number] for number in sorted(operators)], tuple(sorted(inputs))

    def _model(self, index: int, operators: Sequence[Operator], inputs: tuple[int, ...]) -> ReferenceModel | None:
        """None for what remembers, or does not run by itself."""
        main = self._graph.main
        if any(_remembers(main, operator) for operator in operators):
            return None
        numbered = tuple(replace(operator, index=number) for number, operator in enumerate(operators))
        part = replace(main, operators=numbered, inputs=inputs, outputs=(index,))
        graph = Graph((part, *self._graph.subgraphs[1:]), self._graph.description)
        try:
            return ReferenceModel(write_tflite(without_unused_tensors(graph)))
        except TransformError:
            return None


def _remembers(main: Subgraph, operator: Operator) -> bool:
    """Whether an operator has more to it than its inputs."""
    variables = any(index >= 0 and main.tensors[index].is_variable for index in operator.inputs)
    return variables or operator.kind in ACTING or operator.kind == "READ_VARIABLE"


class _Parts:
    """What operations wrote, by the operator of the model that it is an output of, or a part of one."""

    def __init__(self, main: Subgraph, links: Sequence[Link]) -> None:
        self._shapes = {
            operator.index: main.tensors[operator.outputs[0]].shape for operator in main.operators if operator.outputs
        }
        self._owners = {(link.stream, link.offset): link.operator for link in links if link.makes_output}
        self._written: dict[int, list[tuple[FeatureMap, Array]]] = defaultdict(list)
        self._wholes: dict[int, list[Array]] = {}

    def clear(self) -> None:
        """Forget what was written."""
        self._written.clear()
        self._wholes.clear()

    def watch(self, stream: int, operation: Compute, memory: Memory) -> None:
        """Keep what an operation wrote, and what then stands where all parts so far began."""
        owner = self._owners.get((stream, operation.offset))
        if owner is None or operation.ofm.storage != "memory" or owner not in self._shapes:
            return
        stored = _stored(operation)
        with suppress(SimulatorError):
            self._written[owner].append((stored, read_elements(memory, stored)))
        self._wholes[owner] = list(_wholes(memory, [each for each, _ in self._written[owner]], self._shapes[owner]))

    def candidates(self) -> Iterator[tuple[int, list[Array], bool]]:
        """For each operator the ways in which what was written can be its output, and whether there is one only."""
        for owner, written in self._written.items():
            elements = prod(self._shapes[owner])
            if len(written) == 1 and written[0][1].size == elements and _is_natural(written[0][0]):
                yield owner, [written[0][1]], True
                continue
            found = list(self._wholes.get(owner, ()))
            for group in _groups([each for each, _ in written]):
                found += _arrangements([written[number][1] for number in group], elements)
            yield owner, found, False


def _stored(operation: Compute) -> FeatureMap:
    """An output as it is in memory: Ethos-U85 can turn its axes while it writes."""
    ofm = operation.ofm
    sizes = {"h": ofm.height, "w": ofm.width, "c": ofm.depth}
    height, width, depth = (sizes[axis] for axis in operation.ofm_transpose)
    return replace(ofm, height=height, width=width, depth=depth)


def _groups(maps: Sequence[FeatureMap]) -> Iterator[list[int]]:
    """The parts that may make a tensor: those of one region, also without the first, which may be a padded copy."""
    for region in dict.fromkeys(each.region for each in maps):
        group = [number for number, each in enumerate(maps) if each.region == region]
        yield group
        if len(group) > 1:
            yield group[1:]


def _natural_strides(feature_map: FeatureMap) -> tuple[int, int, int]:
    """Strides (y, x, c) in bytes of rows of pixels, or of bricks of 16 channels, that lie one after the other."""
    width, depth, size = feature_map.width, feature_map.depth, feature_map.element_bytes
    if feature_map.is_brick:
        brick = width * 16 * size
        return -(-depth // 16) * brick, 16 * size, brick
    return width * depth * size, depth * size, size


def _is_natural(feature_map: FeatureMap) -> bool:
    """Whether a map lies in memory as a tensor of its shape does."""
    y, x, c = _natural_strides(feature_map)
    return (
        (feature_map.height == 1 or feature_map.stride_y == y)
        and (feature_map.width == 1 or feature_map.stride_x == x)
        and (not feature_map.is_brick or feature_map.depth <= 16 or feature_map.stride_c == c)
    )


def _wholes(memory: Memory, maps: Sequence[FeatureMap], shape: Sequence[int]) -> Iterator[Array]:
    """The whole tensor in memory, if its parts lie where they belong: rows of pixels, or bricks of 16 channels."""
    height, width, depth = (1, 1, 1, *shape)[-3:]
    height *= prod(shape[:-3])
    for group in _groups(maps):
        written = sum(maps[number].height * maps[number].width * maps[number].depth for number in group)
        if written < prod(shape):  # others write the rest, perhaps later
            continue
        first = min((maps[number] for number in group), key=lambda each: each.tiles.bases[0])
        tiles = replace(first.tiles, width0=width, height0=height, height1=height)
        whole = replace(first, tiles=tiles, height=height, width=width, depth=depth)
        strides = _natural_strides(whole)
        whole = replace(whole, stride_y=strides[0], stride_x=strides[1], stride_c=strides[2])
        with suppress(SimulatorError):  # a buffer that rolls holds only a part
            yield read_elements(memory, whole)


def _nearest(tensor: Array, candidates: Iterable[Array], is_certain: bool) -> tuple[Difference, Array | None]:
    """The least difference of a tensor from what it may have become, and that.

    One that differs in much of it is no difference, but a tensor that was put together wrongly.
    """
    best: Difference | None = None
    nearest: Array | None = None
    for whole in candidates:
        if whole.size != tensor.size:
            continue
        array = whole.reshape(tensor.shape).astype(tensor.dtype)
        found = _difference(tensor, array)
        if best is None or found.different_elements < best.different_elements:
            best, nearest = found, array
        if not found.different_elements:
            break
    if best is None or (not is_certain and best.different_elements > MISPLACED * tensor.size):
        return Difference(is_placed=False), None
    return best, nearest


def _arrangements(parts: Sequence[Array], elements: int) -> Iterable[Array]:
    """The ways in which parts (height, width, channels) can make a whole of so many elements."""
    if sum(part.size for part in parts) != elements:
        if parts and parts[-1].size == elements:  # computed in place, step by step
            yield parts[-1]
        return
    if len(parts) == 1:
        yield parts[0]
        return
    for axis in (2, 0, 1):
        shapes = {tuple(size for each, size in enumerate(part.shape) if each != axis) for part in parts}
        if len(shapes) == 1:
            yield numpy.concatenate(parts, axis)
    # Stripes of rows, each in slices of channels; or slices of channels, each in stripes.
    for count in range(2, len(parts)):
        if len(parts) % count:
            continue
        groups = [parts[at : at + count] for at in range(0, len(parts), count)]
        for inner, outer in ((2, 0), (0, 2)):
            try:
                yield numpy.concatenate([numpy.concatenate(group, inner) for group in groups], outer)
            except ValueError:
                continue

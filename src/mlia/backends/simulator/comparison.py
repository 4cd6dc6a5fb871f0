"""The simulator beside LiteRT's reference kernels: the same samples through both, tensor by tensor.

For child processes only: LiteRT can abort on some models.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.simulator.alone import Alone, Theirs, remembers_more
from mlia.backends.simulator.kernels import Choice, Kernels
from mlia.backends.simulator.session import NOT_THERE, HostRefused, Session
from mlia.backends.simulator.written import Link, Parts
from mlia.backends.vela.stream import output_places
from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.forms import in_plain_form
from mlia.transforms.interpreter import ReferenceModel

MISPLACED = 0.25  # of the elements: when so many differ, the parts were not put together as they lie
_REFUSED = (TransformError, HostRefused)  # of LiteRT
FAR_CODES = 16  # no known difference, or sum of a few, is as large


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
    """Differences of the model's outputs, in their order, and of operators' outputs by the operators' indexes.

    LiteRT computes none of the `uncomputed` operators; `notes` say with what it computed those that need a word.
    """

    outputs: tuple[Difference, ...]
    operators: dict[int, Difference]
    uncomputed: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def compare(
    reference: bytes,
    compiled: bytes,
    links: Sequence[Link],
    samples: Iterable[Sequence[Array]],
    choice: Choice | None = None,
    progress: Callable[[str], None] | None = None,
) -> Compared:
    """Run a model in LiteRT and what was compiled from it in the simulator, one sample after the other.

    Variables keep what they hold from sample to sample. After a sample in which anything differed, both sides begin
    anew: what they remember of it would add to the differences of the next.

    Args:
        reference: the TFLite file that was compiled.
        compiled: what the compiler made of it.
        links: which operations are of which operators, and make their outputs.
        samples: for each an array per input, in codes.
        choice: how LiteRT computes the model; it is told what is run next by `progress`, in case that it dies of it.

    Raises:
        SimulatorError: the compiled model has what is not known.
        TransformError: LiteRT cannot run the model.
    """
    kernels = Kernels(choice or Choice(), progress)
    try:
        return _Comparison(reference, compiled, links, kernels).through(samples)
    except _REFUSED:
        if kernels.is_stepwise:
            raise
    return _Comparison(reference, compiled, links, Kernels(Choice(is_stepwise=True), progress)).through(samples)


class _Comparison:
    """Both sides of a comparison."""

    def __init__(self, reference: bytes, compiled: bytes, links: Sequence[Link], kernels: Kernels) -> None:
        graph = read_tflite(reference)
        plain = in_plain_form(graph)
        self._contents = (reference if plain is graph else write_tflite(plain)), compiled
        self._kernels = kernels
        self._main = graph.main
        self._places = output_places(graph.main, read_tflite(compiled).main)
        self._on_npu = {link.operator for link in links}
        self._parts = Parts(graph.main, links)
        self._comparer = _Comparer(graph, self._parts, kernels)
        self._remembers = any(remembers_more(graph.main, operator) for operator in graph.operators)

    def through(self, samples: Iterable[Sequence[Array]]) -> Compared:
        """All samples; again, once one has shown that a tensor is not where it was taken to be."""
        known = -1
        while known < len(self._comparer.joined):
            known = len(self._comparer.joined)
            found = self._once(samples)
        return found

    def _once(self, samples: Iterable[Sequence[Array]]) -> Compared:
        theirs, ours = self._sides()
        outputs = [Difference()] * len(self._main.outputs)
        operators: dict[int, Difference] = {}
        uncomputed: set[int] = set()
        for sample in samples:
            self._parts.clear()
            ours.run_parts(sample)
            made = ours.outputs()
            found = [made[place] if place is not None else NOT_THERE for place in self._places]
            theirs.run(sample)
            uncomputed |= {*theirs.uncomputed}
            now, by_operator = self._comparer.differences(theirs, sample, found)
            outputs = [before.and_then(after) for before, after in zip(outputs, now, strict=True)]
            for index, difference in by_operator.items():
                operators[index] = operators.get(index, Difference()).and_then(difference)
            if self._remembers and any(each.different_elements for each in (*now, *by_operator.values())):
                # Made anew, since LiteRT cannot reset resource variables.
                theirs, ours = self._sides()
        return Compared(tuple(outputs), operators, tuple(sorted(uncomputed)), self._kernels.notes())

    def _sides(self) -> "tuple[Theirs, Session]":
        reference, compiled = self._contents
        if self._kernels.is_stepwise:
            theirs: Theirs = _ByStep(reference, self._kernels, self._on_npu)
        else:
            theirs = _AtOnce(reference)
        return theirs, Session(compiled, self._parts.watch, self._kernels)


class _AtOnce:
    """The whole model in LiteRT."""

    uncomputed: Collection[int] = ()

    def __init__(self, content: bytes) -> None:
        self._model = ReferenceModel(content, keeps_all=True)

    def run(self, sample: Sequence[Array]) -> None:
        """Run one sample."""
        self._model.run(sample)

    def tensor(self, index: int) -> Array | None:
        """What the last run computed for a tensor."""
        return self._model.tensor(index)


class _ByStep:
    """The model in LiteRT, operator by operator. What an operator of the NPU makes is unknown where LiteRT fails."""

    def __init__(self, content: bytes, kernels: Kernels, on_npu: Collection[int]) -> None:
        self._session = Session(content, None, kernels, on_npu)

    @property
    def uncomputed(self) -> Collection[int]:
        """The operators that LiteRT has not computed."""
        return self._session.uncomputed

    def run(self, sample: Sequence[Array]) -> None:
        """Run one sample."""
        self._session.run_parts(sample)

    def tensor(self, index: int) -> Array | None:
        """What the last run computed for a tensor; None where it is unknown."""
        return self._session.tensor(index)


def outputs_of(compiled: bytes, samples: Iterable[Sequence[Array]]) -> list[list[Array]]:
    """What a compiled model computes for each sample, an array per output, in codes.

    Raises:
        SimulatorError: the compiled model has what is not known.
    """
    session = Session(compiled)
    return [session.run(sample) for sample in samples]


class _Look(Struct, frozen=True, eq=False):
    """One sample as far as it can be seen: the NPU's tensors, and how far they are from the reference."""

    seen: dict[int, Array]
    differences: dict[int, Difference]


class _Comparer:
    """The NPU's tensors beside the reference's, each with what the reference makes of the NPU's own inputs.

    What an operation wrote is taken for the output of its operator. It may be something else: the compiler joins
    operators, and changes their order. Then what reads it is as the reference says without it, and not with it. Where
    this was found in one sample, it holds for all.
    """

    def __init__(self, graph: Graph, parts: Parts, kernels: Kernels) -> None:
        self._main = graph.main
        self._parts = parts
        self._alone = Alone(graph, kernels)
        self._makers = {index: operator for operator in self._main.operators for index in operator.outputs}
        self.joined: set[int] = set()  # tensors that are nowhere: what was taken for them is something else

    def differences(
        self, theirs: Theirs, sample: Sequence[Array], found: Sequence[Array]
    ) -> tuple[list[Difference], dict[int, Difference]]:
        """Differences of one sample: of the outputs, and by operator. The reference and the parts have run it."""
        look = self._look(theirs, sample, found)
        while joined := self._misplaced(theirs, look):
            self.joined |= joined
            look = self._look(theirs, sample, found)
        operators: dict[int, Difference] = {}
        for operator in self._main.operators:
            for index in operator.outputs:
                if index in look.differences:
                    before = operators.get(operator.index, Difference())
                    operators[operator.index] = before.and_then(look.differences[index])
        return [look.differences[index] for index in self._main.outputs], operators

    def _look(self, theirs: Theirs, sample: Sequence[Array], found: Sequence[Array]) -> _Look:
        """All tensors in the order of the model, so that each is compared on the NPU's own inputs."""
        outputs = dict(zip(self._main.outputs, found, strict=True))
        look = _Look(dict(zip(self._main.inputs, sample, strict=True)), {})
        for index, array in outputs.items():
            whole = theirs.tensor(index)
            is_another = whole is not None and (whole.shape, whole.dtype) != (array.shape, array.dtype)
            if whole is not None and (index not in self._makers or is_another):
                look.differences[index] = _difference(whole, array)
        for operator in self._main.operators:
            for index in operator.outputs:
                if index in look.differences:
                    continue
                if index in outputs:  # nothing is surer than the output itself
                    self._compare(theirs, look, index, [outputs[index]], True)
                elif index not in self.joined and len(operator.outputs) == 1:
                    candidates, is_certain = self._candidates(operator)
                    self._compare(theirs, look, index, candidates, is_certain)
        return look

    def _candidates(self, operator: Operator) -> tuple[list[Array], bool]:
        """What may be an operator's output: what it wrote, or what was written of those that are joined to it."""
        found, is_certain = self._parts.candidates(operator.index)
        if found:
            return found, is_certain
        joined = [self._makers[index] for index in operator.inputs if index in self.joined]
        return [array for each in joined for array in self._candidates(each)[0]], False

    def _compare(self, theirs: Theirs, look: _Look, index: int, candidates: Sequence[Array], is_certain: bool) -> None:
        """Add a tensor to what is seen: the candidate that is nearest to what its own inputs ask for."""
        if not candidates:
            return
        maker = self._makers[index]
        whole = None if maker.index in theirs.uncomputed else theirs.tensor(index)
        alone = self._alone.expected(index, look.seen, theirs)
        basis = whole if alone is None else alone
        if basis is None or maker.index in theirs.uncomputed:
            look.differences[index] = Difference(is_placed=False)
            if is_certain:
                shape, dtype = self._main.tensors[index].shape, self._main.tensors[index].dtype
                look.seen[index] = candidates[0].reshape(shape).astype(dtype)
            return
        nearest = _nearest(basis, candidates, is_certain)
        if nearest is None:
            look.differences[index] = Difference(is_placed=False)
            return
        look.seen[index] = nearest
        difference = _difference(basis if whole is None else whole, nearest)
        is_inherited = not self._alone.is_as_the_reference(index, look.seen, theirs)
        if difference.different_elements and is_inherited:
            own = Difference(is_placed=False) if alone is None else _difference(alone, nearest)
            difference = replace(difference, own=own)
        look.differences[index] = difference

    def _misplaced(self, theirs: Theirs, look: _Look) -> set[int]:
        """Tensors that are far off, while what reads them is as it must be if they are not."""
        doubtful = {
            index
            for index, each in look.differences.items()
            if index not in self._main.outputs and _is_far(each.own or each) and index in look.seen
        }
        if not doubtful:
            return set()
        surer = {index: array for index, array in look.seen.items() if index not in doubtful}
        gone: set[int] = set()
        needed: set[int] = set()
        for index in look.differences:
            if index not in surer or index not in self._makers:
                continue
            operators, _ = self._alone.before(index, surer)
            between = {each for operator in operators for each in operator.outputs} & doubtful
            if not between:
                continue
            with_them, without = (
                self._alone.expected(index, seen, theirs, must_run=True) for seen in (look.seen, surer)
            )
            if with_them is None or without is None:
                continue
            far = [_is_far(_difference(each, look.seen[index])) for each in (with_them, without)]
            if far == [True, False]:
                gone |= between
            elif far == [False, True]:
                needed |= between & {*self._alone.before(index, look.seen)[1]}
        return gone - needed


def _difference(expected: Array, found: Array) -> Difference:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return Difference(int(expected.size), int(expected.size), 0, False)
    if expected.dtype.kind == "f":
        different = int((expected != found).sum())
        return Difference(int(expected.size), different, int(different > 0))
    apart = numpy.abs(expected.astype(numpy.int64) - found.astype(numpy.int64))
    return Difference(int(apart.size), int((apart > 0).sum()), int(apart.max(initial=0)))


def _is_far(difference: Difference) -> bool:
    """Whether it is more than roundings: of another tensor, or of another operator."""
    return difference.largest_codes > FAR_CODES or difference.different_elements > MISPLACED * difference.elements


def _nearest(tensor: Array, candidates: Iterable[Array], is_certain: bool) -> Array | None:
    """What a tensor has become: the candidate with the fewest differences, as an array of its shape and type.

    One that differs in much of it is no difference, but a tensor that was put together wrongly. None if all are.
    """
    fewest, nearest = tensor.size + 1, None
    for whole in candidates:
        if whole.size != tensor.size:
            continue
        array = whole.reshape(tensor.shape).astype(tensor.dtype)
        different = _difference(tensor, array).different_elements
        if different < fewest:
            fewest, nearest = different, array
        if not different:
            break
    return nearest if is_certain or fewest <= MISPLACED * tensor.size else None

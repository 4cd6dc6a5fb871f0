"""Differences between the NPU and the reference, operator by operator: exact, known, or not explained."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator
from mlia.results import OperatorId
from mlia.rules.verification import known_of
from mlia.simulator.differences import KnownDifference, is_explained
from mlia.verification import Outcome, TensorCheck

if TYPE_CHECKING:
    from mlia.backends.simulator.comparison import Difference

LOST = "nothing in the compiled model writes it: the compiler has lost it"
UNCOMPUTED = "LiteRT cannot compute it"
UNPLACED = "it is computed in parts that cannot be put together, or stays inside the NPU"
INHERITED = "what it reads differs already; from that it computes exactly what the reference does"
UNSEEN = "an input of it cannot be seen, and may differ"
BELOW_UNCOMPUTED = "it depends on an operator that LiteRT cannot compute"
BELOW = "it depends on an operator that cannot be judged"
TOO_FAR = "and it differs by more than {codes} codes, or by more than {few} in more than {share:.0%} of its elements"
# An output that nobody can judge may differ by so much: several roundings, but nothing that changes an answer. Behind a
# recurrent operator that is rounded otherwise each element may be, by few codes.
UNJUDGED_CODES, UNJUDGED_FEW, UNJUDGED_SHARE = 16, 4, 0.25
# What gives the same codes, clipped or in other places, where the quantization is the same.
_CARRYING = ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE")


def explain(
    graph: Graph, found: "Mapping[int, Difference]", family: str, uncomputed: Collection[int] = ()
) -> tuple[TensorCheck, ...]:
    """A verdict on the output of each operator of the main subgraph, in their order.

    Each is judged by itself: by what it makes of the inputs that it has, which may differ already. Where these cannot
    be seen, and something before them may differ for a reason that is known, it is not judged. Those of `uncomputed`
    are not computed by LiteRT, so there is nothing to compare them with.
    """
    judge = _Judge(graph, found, family)
    checks = []
    for operator in graph.operators:
        check = judge.check(operator, None if operator.index in uncomputed else found.get(operator.index))
        if operator.index in uncomputed:
            check = replace(check, outcome=Outcome.NOT_COMPUTED, reason=UNCOMPUTED)
        checks.append(check)
    return tuple(checks)


def explain_outputs(
    graph: Graph,
    names: list[str],
    found: "tuple[Difference, ...]",
    operators: tuple[TensorCheck, ...],
    lost: Collection[int] = (),
) -> tuple[TensorCheck, ...]:
    """A verdict on each output of the model, for its own difference and by what it depends on.

    `lost` are the positions of outputs that nothing in the compiled model writes.
    """
    main = graph.main
    makers = {index: operator for operator in main.operators for index in operator.outputs}
    doubtful = _below_unjudged(graph, operators)
    checks = []
    for index, name, difference in zip(main.outputs, names, found, strict=True):
        maker = makers.get(index)
        if maker is None:
            outcome = Outcome.DIFFERENT if difference.different_elements else Outcome.EXACT
            checks.append(_made(None, "input", name, difference, "", outcome))
            continue
        made = operators[maker.index]
        if not (difference.elements or difference.is_placed):  # nobody says what it should be
            reason = made.reason if made.outcome == Outcome.NOT_COMPUTED else BELOW_UNCOMPUTED
            check = _made(made.operator, made.kind, name, difference, reason, Outcome.NOT_COMPUTED)
        elif not difference.is_placed:
            why = LOST if len(checks) in lost else "its shape or type is another"
            check = _made(made.operator, made.kind, name, difference, why, Outcome.DIFFERENT)
        elif not difference.different_elements:
            check = _made(made.operator, made.kind, name, difference, "", Outcome.EXACT)
        else:
            check = _made(made.operator, made.kind, name, difference, made.reason, made.outcome)
            if check.outcome == Outcome.DOCUMENTED and index in doubtful:
                check = replace(check, outcome=Outcome.NOT_JUDGED, reason=BELOW)
        checks.append(_limited(check))
    return tuple(checks)


def _limited(check: TensorCheck) -> TensorCheck:
    """An output that is not judged may differ by little only."""
    is_wide = check.different_elements > UNJUDGED_SHARE * check.elements
    is_far = check.largest_codes > (UNJUDGED_FEW if is_wide else UNJUDGED_CODES)
    if check.outcome != Outcome.NOT_JUDGED or not is_far:
        return check
    why = TOO_FAR.format(codes=UNJUDGED_CODES, few=UNJUDGED_FEW, share=UNJUDGED_SHARE)
    return replace(check, outcome=Outcome.DIFFERENT, reason=f"{check.reason}, {why}")


def _below_unjudged(graph: Graph, operators: Sequence[TensorCheck]) -> set[int]:
    """The tensors that differ, or may, for what an operator did that is not judged."""
    found: set[int] = set()
    for operator, check in zip(graph.operators, operators, strict=True):
        reads = any(index in found for index in operator.inputs)
        if check.outcome == Outcome.NOT_JUDGED or (reads and check.outcome != Outcome.EXACT):
            found |= {*operator.outputs}
    return found


class _Judge:
    """Verdicts on operators of the main subgraph."""

    def __init__(self, graph: Graph, found: "Mapping[int, Difference]", family: str) -> None:
        self._graph = graph
        self._makers = {index: operator for operator in graph.operators for index in operator.outputs}
        self._known = {operator.index: _legitimate(graph, operator, family) for operator in graph.operators}
        self._defects = {operator.index: known_of(graph, operator, family) for operator in graph.operators}
        outputs = graph.main.outputs
        self._seen = {
            index
            for index, operator in self._makers.items()
            if (difference := found.get(operator.index)) is not None and difference.is_placed
            if len(operator.outputs) == 1 or index in outputs
        }

    def check(self, operator: Operator, found: "Difference | None") -> TensorCheck:
        """The verdict on one operator."""
        place, name = OperatorId(self._graph.main.index, operator.index), self._graph.main.operator_name(operator)
        if found is None or not (found.is_placed or found.different_elements):
            return TensorCheck(place, operator.kind, name, Outcome.NOT_COMPARED, 0, 0, 0, UNPLACED)
        if not found.different_elements:
            return _made(place, operator.kind, name, found, "", Outcome.EXACT)
        outcome, reason = self._verdict(operator, found.own or found)
        return _made(place, operator.kind, name, found, reason, outcome)

    def _verdict(self, operator: Operator, own: "Difference") -> tuple[Outcome, str]:
        """What to say of an operator that differs, by the part of it that is its own."""
        if own.is_placed and not own.different_elements:
            return Outcome.DOCUMENTED, INHERITED
        if own.different_elements:
            known = self._carried(operator)
            if known is not None and is_explained(known, own.largest_codes, own.different_elements, own.elements):
                return Outcome.DOCUMENTED, known.reason
            defect = self._defects[operator.index]
            if defect is not None and defect.is_defect:
                return Outcome.DIFFERENT, f"a known defect: {defect.reason}"
        if self._reads_doubtful(operator) or not own.different_elements:
            return Outcome.NOT_JUDGED, UNSEEN
        return Outcome.DIFFERENT, ""

    def _carried(self, operator: Operator) -> KnownDifference | None:
        """What is known of an operator, or of the unseen one whose codes it passes on as they are."""
        known, tensors = self._known[operator.index], self._graph.main.tensors
        while known is None and operator.kind in _CARRYING and operator.inputs[0] in self._makers:
            source, made = operator.inputs[0], operator.outputs[0]
            if source in self._seen or tensors[source].quantization != tensors[made].quantization:
                return None
            operator = self._makers[source]
            known = self._known[operator.index]
        return known

    def _reads_doubtful(self, operator: Operator) -> bool:
        """Whether an operator that is unseen, on the way from what can be seen, may differ for a known reason."""
        assigned = [each for each in self._graph.operators if each.kind == "ASSIGN_VARIABLE"]
        waiting, done = [operator], {operator.index}
        while waiting:
            each = waiting.pop()
            unseen = [self._makers[index] for index in each.inputs if index in self._makers and index not in self._seen]
            if each.kind == "READ_VARIABLE":  # it holds what an earlier sample put there, seen or not
                unseen += [self._makers[index] for one in assigned for index in one.inputs if index in self._makers]
            for source in unseen:
                if self._known[source.index] is not None:
                    return True
                if source.index not in done:
                    done.add(source.index)
                    waiting.append(source)
        return False


def _legitimate(graph: Graph, operator: Operator, family: str) -> KnownDifference | None:
    known = known_of(graph, operator, family)
    return None if known is None or known.is_defect else known


def _made(
    place: OperatorId | None, kind: str, name: str, found: "Difference", reason: str, outcome: Outcome
) -> TensorCheck:
    return TensorCheck(
        place, kind, name, outcome, found.elements, found.different_elements, found.largest_codes, reason
    )

"""Differences between the NPU and the reference, operator by operator: exact, known, or not explained."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlia.graph.graph import Graph, Operator
from mlia.results import OperatorId
from mlia.rules.verification import known_of
from mlia.simulator.differences import KnownDifference, is_explained
from mlia.verification import Outcome, TensorCheck

if TYPE_CHECKING:
    from mlia.backends.comparison import Difference

UNPLACED = "it is computed in parts that cannot be put together, or stays inside the NPU"
INHERITED = "what it reads differs already"


def explain(graph: Graph, found: "Mapping[int, Difference]", family: str) -> tuple[TensorCheck, ...]:
    """A verdict on the output of each operator of the main subgraph, in their order.

    An operator is explained by what is known of its kind, or by an input that differs already: then nobody can tell
    what it adds itself. What cannot be compared passes on what its inputs and its kind may have changed.
    """
    tainted: set[int] = set()
    checks = []
    for operator in graph.operators:
        known = known_of(graph, operator, family)
        reads_tainted = any(index in tainted for index in operator.inputs)
        check = _check(graph, operator, found.get(operator.index), known, reads_tainted)
        checks.append(check)
        may_differ = reads_tainted or (known is not None and not known.is_defect)
        if check.outcome == Outcome.DOCUMENTED or (check.outcome == Outcome.NOT_COMPARED and may_differ):
            tainted |= {*operator.outputs}
    return tuple(checks)


def explain_outputs(
    graph: Graph, names: list[str], found: "tuple[Difference, ...]", operators: tuple[TensorCheck, ...], family: str
) -> tuple[TensorCheck, ...]:
    """A verdict on each output of the model: that of the operator that makes it, for the output's own difference."""
    main = graph.main
    readers_differ = any(check.outcome == Outcome.DOCUMENTED for check in operators)
    checks = []
    for index, name, difference in zip(main.outputs, names, found, strict=True):
        maker = next((each for each in main.operators if index in each.outputs), None)
        if maker is None:
            checks.append(_made(None, "input", name, difference, "", Outcome.EXACT))
            continue
        known = known_of(graph, maker, family)
        unseen = operators[maker.index].outcome == Outcome.NOT_COMPARED
        inherits = operators[maker.index].reason == INHERITED or (unseen and readers_differ)
        check = _check(graph, maker, difference, known, inherits)
        checks.append(_made(check.operator, check.kind, name, difference, check.reason, check.outcome))
    return tuple(checks)


def _check(
    graph: Graph, operator: Operator, found: "Difference | None", known: KnownDifference | None, reads_tainted: bool
) -> TensorCheck:
    place, name = OperatorId(graph.main.index, operator.index), graph.main.operator_name(operator)
    if found is None or not found.is_placed:
        return TensorCheck(place, operator.kind, name, Outcome.NOT_COMPARED, 0, 0, 0, UNPLACED)
    if not found.different_elements:
        return _made(place, operator.kind, name, found, "", Outcome.EXACT)
    if known is not None and is_explained(known, found.largest_codes):
        return _made(place, operator.kind, name, found, known.reason, Outcome.DOCUMENTED)
    if known is not None and known.is_defect:
        return _made(place, operator.kind, name, found, f"a known defect: {known.reason}", Outcome.DIFFERENT)
    if reads_tainted:
        return _made(place, operator.kind, name, found, INHERITED, Outcome.DOCUMENTED)
    return _made(place, operator.kind, name, found, "", Outcome.DIFFERENT)


def _made(
    place: OperatorId | None, kind: str, name: str, found: "Difference", reason: str, outcome: Outcome
) -> TensorCheck:
    return TensorCheck(
        place, kind, name, outcome, found.elements, found.different_elements, found.largest_codes, reason
    )

"""Differences between the NPU and the reference, operator by operator: exact, known, or not explained."""

from collections.abc import Mapping
from struct import iter_unpack
from typing import TYPE_CHECKING

from mlia.graph.graph import Graph, Operator, Tensor
from mlia.results import OperatorId
from mlia.simulator.differences import KnownDifference, Trait, is_explained, known_difference
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
        known = _known(graph, operator, family)
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
        known = _known(graph, maker, family)
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


def _known(graph: Graph, operator: Operator, family: str) -> KnownDifference | None:
    inputs = [graph.main.tensor(index) for index in operator.inputs]
    dtype = inputs[0].dtype if inputs and inputs[0] is not None else ""
    return known_difference(operator.kind, dtype, family, _traits(operator, inputs))


def _traits(operator: Operator, inputs: list[Tensor | None]) -> set[Trait]:
    """What of an operator matters for known differences."""
    traits = set()
    weights = inputs[1] if len(inputs) > 1 else None
    if weights is not None and weights.quantization is not None and len(weights.quantization.scale) > 1:
        traits.add(Trait.PER_CHANNEL)
    axes = _axes(inputs) if operator.kind in ("SUM", "REDUCE_MAX", "REDUCE_MIN") else set()
    if len(axes) > 1:
        traits.add(Trait.SEVERAL_AXES)
    if axes & {2, 3} and not operator.options.get("keep_dims"):
        traits.add(Trait.DROPS_AXIS)
    if operator.kind == "MIRROR_PAD" and weights is not None and any(bytes(weights.data)[-8:]):
        traits.add(Trait.MIRRORS_CHANNELS)  # the last pair of int32 is that of the channels
    return traits


def _axes(inputs: list[Tensor | None]) -> set[int]:
    """The axes that are reduced, counted in a tensor of rank 4; none where they are not constant."""
    values, axes = (*inputs, None, None)[:2]
    if values is None or axes is None or axes.dtype != "int32":
        return set()
    rank = len(values.shape)
    return (
        {number % rank + 4 - rank for (number,) in iter_unpack("<i", bytes(axes.data[: len(axes.data) // 4 * 4]))}
        if rank
        else set()
    )

"""What the rules about operators off the NPU have in common."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from mlia.advice import Safety, Severity
from mlia.graph.graph import Graph, Subgraph
from mlia.results import Compatibility, Constraint
from mlia.rules.phrases import named
from mlia.rules.rule import Aim, Case, ConstraintRule, Finding, Fix, NpuRule, Refused

NO_OPERATOR = "Unsupported opType"  # the compiler's words for a kind that the NPU does not have
FLOAT = "float32"
_VARIABLES = "Variable handle tensors must be"  # the compiler's sentence about handles, and about what they keep


class RefusalRule(NpuRule):
    """A rule that is about operators on the CPU."""

    severity: ClassVar[Severity] = Severity.WARNING
    reads = Compatibility


class IntegerRule(ConstraintRule):
    """A rule about constraints in models that compute in integers."""

    def skip(self, case: Case) -> str:
        """Why the rule does not apply."""
        return "the model is float: quantize it first" if case.graph.computes_in_float else ""


class KindRule(IntegerRule):
    """A rule about kinds of operators that the NPU does not have."""

    @classmethod
    def is_about(cls, constraint: Constraint) -> bool:
        return constraint.violation == NO_OPERATOR

    def of_kinds(self, case: Case, *kinds: str) -> list[Refused]:
        """The refused operators of these kinds."""
        return [refused for refused in self.refusals(case) if refused.operator.kind in kinds]

    def on_integers(self, case: Case, *kinds: str) -> list[Refused]:
        """Those of them that compute without float32, which has rules of its own."""
        return [refused for refused in self.of_kinds(case, *kinds) if FLOAT not in types_of(refused)]


def is_type_of_variable(constraint: Constraint) -> bool:
    """Whether a variable is refused for the type of its data, rather than for its handle."""
    return constraint.rule.startswith(_VARIABLES) and "unsupported DataType" in constraint.violation


def places(refused: Sequence[Refused]) -> str:
    """The operators by name."""
    return named([each.placement.name for each in refused])


def kinds(refused: Sequence[Refused]) -> str:
    """The kinds of operators, each once."""
    return ", ".join(dict.fromkeys(each.placement.kind for each in refused))


def finding(
    case: Case, refused: Sequence[Refused], evidence: str, remedy: str, *fixes: Fix, why_not_tried: str = ""
) -> Finding:
    """One finding about these operators, whose remedies are judged by what they bring onto the NPU."""
    operators = tuple(dict.fromkeys(each.id for each in refused))
    return Finding(
        operators,
        evidence,
        remedy,
        fixes,
        why_not_tried if not fixes else "",
        aim=Aim.PLACEMENT,
        at_stake_ms=case.milliseconds(operators),
    )


def lossless(what: str, change: Callable[[Graph], Graph]) -> Fix:
    """A remedy that changes no bit of the outputs."""
    return Fix(what, Safety.LOSSLESS, change)


def to_validate(what: str, change: Callable[[Graph], Graph]) -> Fix:
    """A remedy that changes numbers or the model's interface."""
    return Fix(what, Safety.VALIDATE, change)


def types_of(refused: Refused) -> list[str]:
    """The types of all tensors that it computes with, inputs first."""
    indexes = (*refused.operator.inputs, *refused.operator.outputs)
    tensors = (refused.subgraph.tensor(index) for index in indexes)
    return [tensor.dtype for tensor in tensors if tensor is not None]


def follows_from_constants(refused: Sequence[Refused]) -> bool:
    """Whether one of these operators, or a parameter of it, is computed from constants alone."""
    made: dict[int, set[int]] = {}
    for each in refused:
        known = made.setdefault(each.subgraph.index, set()) or _made_of_constants(each.subgraph)
        made[each.subgraph.index] = known
        if known & {*each.operator.inputs, *each.operator.outputs}:
            return True
    return False


def makers_from_constants(case: Case, readers: Sequence[Refused]) -> list[Refused]:
    """The refused operators that compute what these read, from constants alone; a remedy removes them."""
    if not readers:
        return []
    subgraph = readers[0].subgraph
    made = _made_of_constants(subgraph) & {index for each in readers for index in each.operator.inputs}
    found = [each for each in case.refused if each.subgraph is subgraph and made & {*each.operator.outputs}]
    return list({each.id: each for each in found}.values())


def _made_of_constants(subgraph: Subgraph) -> set[int]:
    """Tensors that operators compute from constants alone, or that SHAPE gives."""
    fixed = {index for index, tensor in enumerate(subgraph.tensors) if tensor.is_constant} - {*subgraph.inputs}
    made: set[int] = set()
    for operator in subgraph.operators:
        if operator.inputs and (operator.kind == "SHAPE" or {*operator.inputs} - {-1} <= fixed | made):
            made |= {*operator.outputs}
    return made

"""How performance rules speak of operators and their costs."""

from collections.abc import Iterable

from mlia.graph.graph import Operator, Subgraph, Tensor
from mlia.results import Bound, OperatorCost, OperatorId
from mlia.rules.rule import Case

_LONGEST_NAME = 28
_NAMED = 2


def identity(cost: OperatorCost) -> OperatorId:
    """Which operator a cost is of."""
    return OperatorId(cost.subgraph, cost.index)


def named(name: str) -> str:
    """A tensor's name for a sentence; converters join several with semicolons."""
    first = name.partition(";")[0]
    return f"'{first}'" if len(first) <= _LONGEST_NAME else f"'…{first[1 - _LONGEST_NAME :]}'"


def listed(costs: Iterable[OperatorCost], limit: int = _NAMED) -> str:
    """The names of the most costly operators, and how many more there are."""
    ranked = sorted(costs, key=lambda cost: -(cost.total_cycles or 0))
    text = ", ".join(named(cost.name) for cost in ranked[:limit])
    return f"{text} and {len(ranked) - limit} more" if len(ranked) > limit else text


def counted(number: int, noun: str) -> str:
    """1 operator, 2 operators."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float) -> str:
    """A share of 0..1 as whole percent."""
    return f"{share:.0%}".replace("%", " %")


def sizes(tensor: Tensor | None) -> str:
    """The shape of a tensor, 1x32x32x8."""
    return "x".join(map(str, tensor.shape)) if tensor is not None else ""


def operand(subgraph: Subgraph, operator: Operator, position: int) -> Tensor | None:
    """An input by its position, or None where there is none."""
    inputs = operator.inputs
    return subgraph.tensor(inputs[position]) if position < len(inputs) else None


def result(subgraph: Subgraph, operator: Operator) -> Tensor | None:
    """The first output, or None where there is none."""
    return subgraph.tensors[operator.outputs[0]] if operator.outputs else None


def main_costs(case: Case, *kinds: str) -> list[OperatorCost]:
    """Costs of the main subgraph's operators that take any time, of these kinds or of all."""
    return [
        cost
        for cost in case.performance.operators
        if cost.subgraph == case.graph.main.index and cost.total_cycles and (not kinds or cost.kind in kinds)
    ]


def share(case: Case, costs: Iterable[OperatorCost]) -> float:
    """The part of the whole time that these take."""
    return case.share([identity(cost) for cost in costs])


COMPUTING = (Bound.MACS, Bound.OUTPUT_UNIT)

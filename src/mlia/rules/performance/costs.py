"""Which costs performance rules are about, and how they speak of them."""

from collections.abc import Iterable

from mlia.results import OperatorCost, OperatorId
from mlia.rules.phrases import named
from mlia.rules.rule import Case

_NAMED = 2


def identity(cost: OperatorCost) -> OperatorId:
    """Which operator a cost is of."""
    return OperatorId(cost.subgraph, cost.index)


def costliest(costs: Iterable[OperatorCost], limit: int = _NAMED) -> str:
    """The names of the most costly operators, and how many more there are."""
    ranked = sorted(costs, key=lambda cost: -(cost.total_cycles or 0))
    return named([cost.name for cost in ranked], limit)


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

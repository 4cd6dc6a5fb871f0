"""Where an operator is, said so that it is found again in a graph that remedies have changed."""

from msgspec import Struct

from mlia.graph.graph import Operator, Subgraph


class Place(Struct, frozen=True):
    """An operator by the name of its first output, and its number among those that have that name.

    Remedies give operators other indexes, but what an operator computed keeps its name and its order.
    """

    name: str
    number: int = 0


def place_of(subgraph: Subgraph, operator: Operator) -> Place | None:
    """Where an operator is; None for one without an output, or with one that has no name."""
    if not operator.outputs or not (name := subgraph.tensors[operator.outputs[0]].name):
        return None
    return Place(name, [each.index for each in with_name(subgraph, name)].index(operator.index))


def operator_at(subgraph: Subgraph, place: Place) -> Operator | None:
    """The operator that is there; None where there is none."""
    alike = with_name(subgraph, place.name)
    return alike[place.number] if place.number < len(alike) else None


def with_name(subgraph: Subgraph, name: str) -> list[Operator]:
    """The operators whose first output has that name, in order."""
    tensors = subgraph.tensors
    return [each for each in subgraph.operators if each.outputs and tensors[each.outputs[0]].name == name]

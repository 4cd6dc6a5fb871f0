"""What remedies of single operators have in common."""

from collections.abc import Callable

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator
from mlia.transforms.rewrites.network import Edit, Network, named_outside


def at_each(graph: Graph, find: Callable[[Network, Operator], Edit | None], otherwise: str) -> Graph:
    """The graph with an edit for each operator of the main subgraph that `find` has one for.

    Raises:
        TransformError: there is none, for the reason `otherwise`.
    """
    refused: set[str] = set()
    changed = graph
    while True:
        network = Network(changed.main, named_outside(changed))
        edit = None
        for operator in changed.operators:
            name = network.name(operator)
            if operator.inputs and operator.outputs and name not in refused:
                edit = find(network, operator)
                if edit is not None:
                    refused.add(name)  # what stands there now is not looked at again
                    break
        if edit is None:
            break
        changed = replace(changed, subgraphs=(edit.result(), *changed.subgraphs[1:]))
    if changed is graph:
        raise TransformError(otherwise)
    return changed


def is_fixed(network: Network, *indexes: int) -> bool:
    """Whether these tensors are there and all their sizes known and above zero."""
    return all(
        index >= 0 and not network.tensor(index).is_dynamic and network.tensor(index).elements > 0 for index in indexes
    )

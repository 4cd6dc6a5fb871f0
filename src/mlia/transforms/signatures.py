"""The part of a model that runs from its main subgraph, without the entry points beside it."""

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, OptionValue
from mlia.transforms.constants import reread


def main_alone(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The main subgraph with all that it calls, and which entry points were left out; the same graph when none was.

    Quantizers calibrate what runs from the main subgraph, and fail on what does not.
    """
    reached = [each.index for each in replace(graph, signatures=()).called_subgraphs()]
    others = [each for each in graph.signatures if each.subgraph not in reached]
    if not others:
        return graph, ()
    moved = {old: new for new, old in enumerate(reached)}
    subgraphs = tuple(
        replace(
            graph.subgraphs[old],
            index=moved[old],
            operators=tuple(_moved(operator, moved) for operator in graph.subgraphs[old].operators),
        )
        for old in reached
    )
    kept = tuple(replace(each, subgraph=moved[each.subgraph]) for each in graph.signatures if each.subgraph in moved)
    alone = reread(replace(graph, subgraphs=subgraphs, signatures=kept))
    own = next((f"signature '{each.key}'" for each in kept if not each.subgraph), "the main subgraph")
    left_out = ", ".join(f"'{each.key}'" for each in others)
    return alone, (f"only {own} is quantized, without {left_out}",)


def _moved(operator: Operator, moved: dict[int, int]) -> Operator:
    """The operator with the subgraphs that it calls under their new numbers."""
    if not operator.called:
        return operator
    options: dict[str, OptionValue] = dict(operator.options)
    for option, value in operator.options.items():
        if "subgraph" in option:
            if isinstance(value, tuple):
                options[option] = tuple(moved.get(int(each), int(each)) for each in value)
            else:
                options[option] = moved.get(operator.number(option, -1), operator.number(option, -1))
    return replace(operator, options=options)

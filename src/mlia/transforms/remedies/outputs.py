"""Outputs that the compiler loses, computed by an operator of their own."""

from collections.abc import Sequence

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph


def computed_twice(graph: Graph, positions: Sequence[int]) -> Graph:
    """The operators that make the outputs at these positions once more: for the output, and for those that read it.

    Raises:
        TransformError: an operator makes more than the output, or none makes it.
    """
    main = graph.main
    tensors, operators, outputs = list(main.tensors), list(main.operators), list(main.outputs)
    for position in positions:
        index = main.outputs[position]
        made = tensors[index]
        maker = next((each for each in operators if each.outputs == (index,)), None)
        if maker is None:
            raise TransformError(f"no operator makes '{made.name}' alone")
        outputs[position] = len(tensors)
        tensors.append(made)
        tensors[index] = replace(made, name=f"{made.name}/read")
        operators.insert(operators.index(maker) + 1, replace(maker, outputs=(outputs[position],)))
    numbered = tuple(replace(operator, index=index) for index, operator in enumerate(operators))
    changed = replace(main, tensors=tuple(tensors), operators=numbered, outputs=tuple(outputs))
    return replace(graph, subgraphs=(changed, *graph.subgraphs[1:]))

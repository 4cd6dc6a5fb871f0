"""What a builder has built as a Graph: operators named by what made them, tensors in the order of use."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_fuse import Fused
from mlia.graph.graph import Graph, Operator, Provenance, Signature, Subgraph, Tensor


def named(net: LayerBuilder, fused: Fused) -> list[Tensor]:
    """The tensors; what is left last of a layer's call has the layer's name, and no two operators share one."""
    tensors = fused.tensors
    last = {net.call_of[op.outputs[0]]: op.outputs[0] for op in fused.operators}
    for call, tensor in last.items():
        tensors[tensor] = replace(tensors[tensor], name=net.calls[call])
    seen: Counter[str] = Counter(tensors[tensor].name for tensor in net.inputs)
    for op in fused.operators:
        output = tensors[op.outputs[0]]
        seen[output.name] += 1
        if seen[output.name] > 1:
            tensors[op.outputs[0]] = replace(output, name=f"{output.name}#{seen[output.name]}")
    return tensors


def finished_graph(
    empty: Graph, provenance: Provenance, operators: Sequence[Operator], tensors: Sequence[Tensor],
    ends: tuple[Sequence[int], Sequence[int]], names: tuple[Sequence[str], Sequence[str]],
) -> Graph:  # fmt: skip
    """The graph with only the tensors that are used, numbered in the order of use.

    `ends` are inputs and outputs, `names` what the model calls them.
    """
    used = [*ends[0], *(x for op in operators for x in (*op.inputs, *op.outputs, *op.intermediates)), *ends[1]]
    place = {tensor: number for number, tensor in enumerate(dict.fromkeys(x for x in used if x >= 0))} | {-1: -1}

    def moved(indexes: Sequence[int]) -> tuple[int, ...]:
        return tuple(place[index] for index in indexes)

    renumbered = tuple(
        replace(
            op, index=number, inputs=moved(op.inputs), outputs=moved(op.outputs), intermediates=moved(op.intermediates)
        )
        for number, op in enumerate(operators)
    )
    kept = tuple(tensors[index] for index in place if index >= 0)
    inputs, outputs = moved(ends[0]), moved(ends[1])
    signature = Signature(
        "serving_default",
        0,
        dict(zip(names[0], inputs, strict=True)),
        dict(zip(_distinct(names[1]), outputs, strict=True)),
    )
    return replace(
        empty,
        subgraphs=(Subgraph(0, "main", kept, renumbered, inputs, outputs),),
        signatures=(signature,),
        provenance=provenance,
    )


def _distinct(names: Sequence[Any]) -> list[str]:
    """Names of outputs; a layer that makes several is numbered."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name] - 1}")
    return distinct

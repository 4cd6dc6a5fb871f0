"""Constants that a TFLite file stores sparse, as the dense ones that they stand for."""

from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.flatbuffer import Table
from mlia.graph.graph import Graph, Subgraph


def dense_bytes(sparsity: Table, data: memoryview, shape: Sequence[int], element_bytes: int) -> bytes:
    """The elements of a tensor of this shape, zero where the file stores none.

    A tensor is walked by its axes in an order of their own, in which an axis that is cut into blocks comes twice
    (schema.fbs, SparsityParameters). Each is either walked whole or by the indexes that it stores.

    Raises:
        ModelError: what is stored does not fit the shape.
    """
    order, blocks, axes = sparsity["traversal_order"], sparsity["block_map"], sparsity["dim_metadata"]
    rank, elements = len(shape), 1
    strides = [0] * rank
    for axis in reversed(range(rank)):
        strides[axis] = elements
        elements *= shape[axis]
    if sorted(order) != list(range(rank + len(blocks))) or len(axes) != len(order) or set(blocks) - set(range(rank)):
        raise _damage()
    steps = [*strides, *(strides[axis] for axis in blocks)]
    for number, axis in enumerate(blocks):
        steps[axis] *= axes[order.index(rank + number)]["dense_size"]
    places = [0]
    for axis, metadata in zip(order, axes, strict=True):
        places = _walked(places, metadata, steps[axis], elements)
    if len(places) * element_bytes > len(data) or not all(0 <= place < elements for place in places):
        raise _damage()
    dense = bytearray(elements * element_bytes)
    for number, place in enumerate(places):
        dense[place * element_bytes : (place + 1) * element_bytes] = data[
            number * element_bytes : (number + 1) * element_bytes
        ]
    return bytes(dense)


def _walked(places: Sequence[int], metadata: Table, step: int, most: int) -> list[int]:
    """Where the elements are, one axis further."""
    if metadata["format"] == "DENSE":
        size = metadata["dense_size"]
        if not 0 <= size * len(places) <= most:
            raise _damage()
        return [place + step * index for place in places for index in range(size)]
    segments, indexes = (
        tuple(found[1]["values"]) if (found := metadata[field]) else () for field in ("array_segments", "array_indices")
    )
    if len(segments) != len(places) + 1 or segments[0] or segments[-1] != len(indexes) or len(indexes) > most:
        raise _damage()
    if any(first > last for first, last in pairwise(segments)):
        raise _damage()
    return [
        place + step * index
        for place, (first, last) in zip(places, pairwise(segments), strict=True)
        for index in indexes[first:last]
    ]


def _damage() -> ModelError:
    return ModelError("the file is damaged: a sparse tensor does not fit its shape")


def without_densify(graph: Graph) -> Graph:
    """The graph without the operators that make sparse constants dense when it runs: they are dense already."""
    return replace(graph, subgraphs=tuple(_without(subgraph) for subgraph in graph.subgraphs))


def _without(subgraph: Subgraph) -> Subgraph:
    constants = {
        operator.outputs[0]: operator.inputs[0]
        for operator in subgraph.operators
        if operator.kind == "DENSIFY" and operator.inputs and operator.outputs
        if subgraph.tensors[operator.inputs[0]].is_constant and operator.outputs[0] not in subgraph.outputs
    }
    kept = [operator for operator in subgraph.operators if not constants.keys() & set(operator.outputs)]
    operators = tuple(
        replace(operator, index=number, inputs=tuple(constants.get(index, index) for index in operator.inputs))
        for number, operator in enumerate(kept)
    )
    return replace(subgraph, operators=operators)

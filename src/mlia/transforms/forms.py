"""Forms of a model that LiteRT refuses, or reads wrongly, while they mean what another form means."""

from struct import iter_unpack, pack

from msgspec.structs import replace

from mlia.graph.graph import Graph, Subgraph, Tensor

_BIASES = {"CONV_2D": (0, 2), "DEPTHWISE_CONV_2D": (0, 2), "FULLY_CONNECTED": (0, 2), "TRANSPOSE_CONV": (2, 3)}
"""Where the input and the bias of an operator are."""


def in_plain_form(graph: Graph) -> Graph:
    """The same model, with the same numbers, as LiteRT takes it; the graph itself where there is nothing to do.

    A vector is quantized along its only axis, whatever number the file gives that (LiteRT refuses all but 0). A bias
    beside int16 is int64: LiteRT 2.3 refuses int32, or reads two numbers of it as one.
    """
    subgraphs = tuple(map(_plain, graph.subgraphs))
    return graph if subgraphs == graph.subgraphs else replace(graph, subgraphs=subgraphs)


def _has_short_bias(subgraph: Subgraph, kind: str, inputs: tuple[int, ...]) -> bool:
    """Whether an operator on int16 has a bias of int32."""
    data, bias = _BIASES.get(kind, (0, len(inputs)))
    if len(inputs) <= bias or inputs[bias] < 0:
        return False
    return subgraph.tensors[inputs[data]].dtype == "int16" and subgraph.tensors[inputs[bias]].dtype == "int32"


def _plain(subgraph: Subgraph) -> Subgraph:
    tensors = [_along_its_axis(tensor) for tensor in subgraph.tensors]
    for operator in subgraph.operators:
        if _has_short_bias(subgraph, operator.kind, operator.inputs):
            index = operator.inputs[_BIASES[operator.kind][1]]
            if tensors[index].is_constant and tensors[index].dtype == "int32":
                tensors[index] = _widened(tensors[index])
    is_same = all(new is old for new, old in zip(tensors, subgraph.tensors, strict=True))
    return subgraph if is_same else replace(subgraph, tensors=tuple(tensors))


def _along_its_axis(tensor: Tensor) -> Tensor:
    quantization = tensor.quantization
    if quantization is None or len(tensor.shape) != 1 or not quantization.axis:
        return tensor
    return replace(tensor, quantization=replace(quantization, axis=0))


def _widened(tensor: Tensor) -> Tensor:
    numbers = [number for (number,) in iter_unpack("<i", bytes(tensor.data))]
    return replace(tensor, dtype="int64", data=memoryview(pack(f"<{len(numbers)}q", *numbers)))

"""Models that compute in float but store narrow weights, as models of float32 throughout.

1. A constant that a DEQUANTIZE widens (float16 and some int8 files) becomes a float32 constant.
2. A constant int8 weight that an operator on float data reads (hybrid files) becomes float32 as well.

The graph computes the same: hybrid kernels round activations on the fly, which is left out.
"""

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.transforms.constants import as_data, real, reread

NARROW = ("float16", "int8", "uint8", "int16")


def with_float_weights(graph: Graph) -> tuple[Graph, int]:
    """The graph with float32 weights, and how many constants were widened; the same graph when none was."""
    widened = 0
    subgraphs = []
    for subgraph in graph.subgraphs:
        subgraph, count = _widen(subgraph)
        subgraphs.append(subgraph)
        widened += count
    if not widened:
        return graph, 0
    return reread(replace(graph, subgraphs=tuple(subgraphs))), widened


def _widen(subgraph: Subgraph) -> tuple[Subgraph, int]:
    tensors = list(subgraph.tensors)
    operators: list[Operator] = []
    replaced: dict[int, int] = {}
    widened: set[int] = set()
    for operator in subgraph.operators:
        source = subgraph.tensor(operator.inputs[0]) if operator.kind == "DEQUANTIZE" else None
        if source is not None and source.is_constant and source.dtype in NARROW:
            index = operator.inputs[0]
            tensors[index] = _as_float(source)
            replaced[operator.outputs[0]] = index
            widened.add(index)
            continue
        operators.append(operator)
    for operator in operators:
        if not _computes_in_float(operator, subgraph):
            continue
        for index in operator.inputs:
            tensor = subgraph.tensor(index)
            if tensor is not None and tensor.is_constant and tensor.quantization and tensor.dtype in NARROW:
                tensors[index] = _as_float(tensor)
                widened.add(index)
    operators = [
        replace(operator, index=index, inputs=tuple(replaced.get(i, i) for i in operator.inputs))
        for index, operator in enumerate(operators)
    ]
    return replace(subgraph, tensors=tuple(tensors), operators=tuple(operators)), len(widened)


def _computes_in_float(operator: Operator, subgraph: Subgraph) -> bool:
    tensors = [subgraph.tensor(index) for index in (*operator.inputs[:1], *operator.outputs)]
    return bool(tensors) and all(tensor is not None and tensor.dtype == "float32" for tensor in tensors)


def _as_float(tensor: Tensor) -> Tensor:
    return replace(tensor, dtype="float32", quantization=None, data=as_data(real(tensor)))

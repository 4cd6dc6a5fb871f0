"""Activations that stand alone behind an operator that can apply them itself, joined to it: the same numbers.

Some converters leave them apart, which costs an operator, and a tensor of the same size.
"""

from collections import Counter

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite

ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")
# Operators whose options have a fused activation that every TFLite kernel applies.
TAKING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D")
_OPTION = "fused_activation_function"


def with_fused_activations(graph: Graph) -> Graph:
    """The graph with each activation joined to what computes its input, where nothing else reads that input.

    The joined operator has the activation's output, and so its name.
    """
    subgraphs = tuple(_fuse(subgraph) for subgraph in graph.subgraphs)
    if subgraphs == graph.subgraphs:
        return graph
    content = write_tflite(replace(graph, subgraphs=subgraphs))
    return replace(read_tflite(content), provenance=graph.provenance)


def _fuse(subgraph: Subgraph) -> Subgraph:
    reads = Counter([*subgraph.outputs, *(index for operator in subgraph.operators for index in operator.inputs)])
    kept: list[Operator] = []
    producer: dict[int, int] = {}
    for operator in subgraph.operators:
        source = producer.get(operator.inputs[0]) if operator.kind in ACTIVATIONS else None
        if source is not None and reads[operator.inputs[0]] == 1 and _takes(kept[source]):
            options = {**kept[source].options, _OPTION: operator.kind}
            kept[source] = replace(kept[source], options=options, outputs=operator.outputs)
            producer[operator.outputs[0]] = source
            continue
        producer.update(dict.fromkeys(operator.outputs, len(kept)))
        kept.append(operator)
    renumbered = tuple(replace(operator, index=index) for index, operator in enumerate(kept))
    return replace(subgraph, operators=renumbered)


def _takes(operator: Operator) -> bool:
    return operator.kind in TAKING and bool(operator.options_table) and operator.options.get(_OPTION, "NONE") == "NONE"

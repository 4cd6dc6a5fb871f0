"""What a model has of which nothing was measured: there the band of the estimate is not known."""

from collections.abc import Sequence

from mlia.backends.ethos_u.coefficients import coefficients_for, memories_of
from mlia.backends.ethos_u.features import StepFeatures
from mlia.graph.graph import Graph
from mlia.targets.target import Target

INT16, LSTM, TRANSFORMERS, SPARSE = "int16", "LSTM", "transformers", "2:4 sparse weights"
CONNECTED, ELEMENTWISE = "fully connected networks", "elementwise-bound networks"
MOVED, SINGLE, IN_DRAM = "resize and transpose", "single operators", "feature maps in DRAM"
KINDS = (INT16, LSTM, TRANSFORMERS, CONNECTED, ELEMENTWISE, SPARSE, MOVED, SINGLE, IN_DRAM)
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D"}
MOST = 0.5  # of Vela's cycles: what more than half of the time goes to is what a network is


def kinds_of(graph: Graph, features: Sequence[StepFeatures]) -> tuple[str, ...]:
    """Which of KINDS a model has, as its steps were compiled."""
    operators = [operator for subgraph in graph.subgraphs for operator in subgraph.operators]
    kinds = {operator.kind for operator in operators}
    elementwise = sum(step.total_cycles for step in features if step.kind == "elementwise")
    has = {
        INT16: any(each.dtype == "int16" and not each.is_constant for each in graph.main.tensors),
        LSTM: any(kind.endswith("SEQUENCE_LSTM") for kind in kinds),
        TRANSFORMERS: "BATCH_MATMUL" in kinds,
        CONNECTED: "FULLY_CONNECTED" in kinds and not kinds & CONVOLUTIONS,
        ELEMENTWISE: elementwise > MOST * sum(step.total_cycles for step in features),
        SPARSE: any(step.is_sparse for step in features),
        MOVED: any(kind.startswith("RESIZE_") or kind == "TRANSPOSE" for kind in kinds),
        SINGLE: len(operators) == 1,
        IN_DRAM: any(
            transfer.memory == "dram" and transfer.feature_map_read + transfer.feature_map_written
            for step in features
            for transfer in step.transfers
        ),
    }
    return tuple(kind for kind in KINDS if has[kind])


def not_measured(graph: Graph, features: Sequence[StepFeatures], target: Target) -> tuple[str, ...]:
    """What of a model and of a target's memories no measurement is like, in a few words each."""
    coefficients = coefficients_for(target)
    kinds = [kind for kind in kinds_of(graph, features) if kind in coefficients.without]
    memories = [text for text in memories_of(target) if text not in coefficients.measured_memories]
    return (*kinds, *memories)

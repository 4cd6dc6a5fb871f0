"""What a model is like of what was measured, and what it has of which nothing was: how wide the band of its time is."""

from collections.abc import Sequence

from mlia.backends.ethos_u.coefficients import coefficients_for, memories_of
from mlia.backends.ethos_u.features import StepFeatures
from mlia.graph.graph import Graph
from mlia.targets.coefficients import Coefficients
from mlia.targets.target import Target

INT16, LSTM, TRANSFORMERS, SPARSE = "int16", "LSTM", "transformers", "2:4 sparse weights"
CONNECTED, ELEMENTWISE = "fully connected networks", "elementwise-bound networks"
MOVED, SINGLE = "resize and transpose", "single operators"
IN_DRAM, IN_SRAM, BROADCAST = "feature maps in DRAM", "weights in SRAM", "broadcast constants"
KINDS = (INT16, LSTM, TRANSFORMERS, CONNECTED, ELEMENTWISE, SPARSE, MOVED, SINGLE, IN_DRAM, IN_SRAM, BROADCAST)
# By the names of TFLite and of TOSA.
CONVOLUTIONS = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D",
    "CONV2D", "DEPTHWISE_CONV2D", "TRANSPOSE_CONV2D", "CONV3D",
}  # fmt: skip
PRODUCTS, MOVES = {"BATCH_MATMUL", "MATMUL"}, {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RESIZE", "TRANSPOSE"}
# What the band of a model goes by: what its time is like.
CONVOLUTIONAL = "convolutional networks"
STREAMING = "networks that stream weights (fully connected or recurrent)"
LINEAR_MAPS, BRICK_MAPS = "feature maps in DRAM as NHWC", "feature maps in DRAM as NHCWB16"
LIKES = (CONVOLUTIONAL, STREAMING, LINEAR_MAPS, BRICK_MAPS)
OWN = "what was measured on this board"
# Nothing measured is like it: from half to twice the estimate is what is assumed, and Vela's own figure is in it.
UNLIKE = (0.5, 2.0)
MOST = 0.5  # of Vela's cycles: what more than half of the time goes to is what a network is
MUCH = 0.1  # of Vela's cycles: what is not measured must not have more of the time that is


def kinds_of(graph: Graph, features: Sequence[StepFeatures]) -> tuple[str, ...]:
    """Which of KINDS a model has, as its steps were compiled."""
    subgraphs = graph.called_subgraphs()
    operators = [operator for subgraph in subgraphs for operator in subgraph.operators]
    activations = [tensor for subgraph in subgraphs for tensor in subgraph.tensors if not tensor.is_constant]
    kinds = {operator.kind for operator in operators}
    near = [transfer for step in features for transfer in step.transfers if transfer.memory == "sram"]
    far = [transfer for step in features for transfer in step.transfers if transfer.memory != "sram"]
    whole = sum(step.total_cycles for step in features)
    elementwise = sum(step.total_cycles for step in features if step.kind == "elementwise")
    broadcast = sum(step.total_cycles for step in features if is_broadcast(step))
    has = {
        INT16: any(tensor.dtype == "int16" for tensor in activations),
        LSTM: any(kind.endswith("SEQUENCE_LSTM") for kind in kinds),
        TRANSFORMERS: bool(kinds & PRODUCTS),
        CONNECTED: "FULLY_CONNECTED" in kinds and not kinds & CONVOLUTIONS,
        ELEMENTWISE: elementwise > MOST * whole,
        SPARSE: any(step.is_sparse for step in features),
        MOVED: bool(kinds & MOVES),
        SINGLE: len(operators) == 1,
        IN_DRAM: any(each.memory == "dram" and each.feature_map_read + each.feature_map_written for each in far),
        IN_SRAM: any(each.weights for each in near) and not any(each.weights + each.copied for each in far),
        BROADCAST: broadcast > MUCH * whole,
    }
    return tuple(kind for kind in KINDS if has[kind])


def is_broadcast(step: StepFeatures) -> bool:
    """Whether an elementwise step takes a small constant for each of many results, which Vela reads anew for each."""
    far = [transfer for transfer in step.transfers if transfer.memory != "sram"]
    return step.kind == "elementwise" and any(each.feature_map_read > 2 * each.input_bytes > 0 for each in far)


def like_of(features: Sequence[StepFeatures]) -> str:
    """Which of LIKES a model is, by where most of its bytes and of Vela's cycles are."""
    far = [transfer for step in features for transfer in step.transfers if transfer.memory != "sram"]
    in_dram = [transfer for transfer in far if transfer.memory == "dram"]  # of flash only constants are read
    maps = sum(each.input_bytes + each.feature_map_written for each in in_dram)
    if maps > sum(each.weights + each.scales + each.copied for each in far):
        linear = sum(each.linear_input_bytes + each.linear_written for each in in_dram)
        return LINEAR_MAPS if linear > MOST * maps else BRICK_MAPS
    streamed = sum(step.total_cycles for step in features if step.is_one_unit and step.kind != "pool")
    return STREAMING if streamed > MOST * sum(step.total_cycles for step in features) else CONVOLUTIONAL


def band_of(
    graph: Graph, features: Sequence[StepFeatures], coefficients: Coefficients, cycles: float, vela_cycles: float
) -> tuple[str, float, float]:
    """What the band of a model rests on, in words, and between which multiples of the estimate a measurement should be.

    `cycles` are estimated, `vela_cycles` the compiler's: of what nothing was measured, its figure is in the band.
    """
    like = like_of(features)
    bands = {band.like: band for band in coefficients.bands}
    unknown = [kind for kind in kinds_of(graph, features) if kind in coefficients.without]
    if not bands:  # a profile's own, which rests on its own runs
        return OWN, coefficients.band_low, coefficients.band_high
    if like in bands and not unknown:
        return like, bands[like].low, bands[like].high
    low, high = UNLIKE
    share = vela_cycles / cycles if cycles else 1.0
    return "", min(low, share), max(high, share)


def not_measured(graph: Graph, features: Sequence[StepFeatures], target: Target) -> tuple[str, ...]:
    """What of a model and of a target's memories no measurement is like, in a few words each."""
    coefficients = coefficients_for(target)
    kinds = [kind for kind in kinds_of(graph, features) if kind in coefficients.without]
    memories = [text for text in memories_of(target) if text not in coefficients.measured_memories]
    return (*kinds, *memories)

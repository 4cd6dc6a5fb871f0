"""Cheaper activations in the place of costly ones. Models should be trained with them."""

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator
from mlia.transforms.remedies.applying import apply_rewrites
from mlia.transforms.rewrites.approximate import silu_as_hard_swish
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, operator
from mlia.transforms.rewrites.rewrite import local

SMOOTH = ("HARD_SWISH", "GELU", "ELU", "LEAKY_RELU", "PRELU")
_TAKING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SCALING = (*_TAKING, "ADD")


def hard_swishes(graph: Graph) -> Graph:
    """HARD_SWISH for each x * LOGISTIC(x).

    Raises:
        TransformError: there is none.
    """
    return apply_rewrites(graph, local(silu_as_hard_swish))


def plain_relus(graph: Graph) -> Graph:
    """RELU, done by the convolution in front, for each HARD_SWISH, GELU, ELU, LEAKY_RELU, PRELU and x * LOGISTIC(x).

    Raises:
        TransformError: there is none behind a convolution.
    """
    return apply_rewrites(graph, local(_relu))


def _relu(network: Network, found: Operator) -> Edit | None:
    source = smooth_input(network, found)
    if source is None or len(found.outputs) != 1:
        return None
    made = network.maker(source, *_TAKING)
    before, after = network.tensor(source), network.tensor(found.outputs[0])
    readers = [reader for reader in network.readers(source) if reader is not found]
    if made is None or source in network.seen or made.options.get(ACTIVATION, NONE) != NONE:
        return None
    if before.dtype != after.dtype or any(not {*reader.outputs} <= {*found.inputs} for reader in readers):
        return None
    edit = Edit(network, found, "now a RELU")
    options = {**made.options, ACTIVATION: "RELU"}
    edit.put(made, replace(made, outputs=found.outputs, options=options))
    edit.put(found)
    return edit


def slopes_alike(graph: Graph) -> Graph:
    """LEAKY_RELU with the mean slope of all channels for each PRELU.

    Raises:
        TransformError: there is none whose mean slope is between -1 and 1.
    """
    return apply_rewrites(graph, local(_leaky))


def _leaky(network: Network, found: Operator) -> Edit | None:
    slopes = network.real(found.inputs[1]) if found.kind == "PRELU" and len(found.inputs) == 2 else None
    if slopes is None or not slopes.size or not abs(float(slopes.mean())) <= 1:
        return None
    edit = Edit(network, found, "now a LEAKY_RELU")
    slope = {"alpha": float(slopes.mean())}
    edit.put(found, operator("LEAKY_RELU", found.inputs[:1], found.outputs[0], "LeakyReluOptions", slope))
    return edit


def joined_results(graph: Graph) -> Graph:
    """RELUs and QUANTIZE that change the scale behind a convolution or an ADD, which writes in that scale itself.

    One rounding less, so that codes may differ by one or two.

    Raises:
        TransformError: there is none.
    """
    return apply_rewrites(graph, local(_joined))


def _joined(network: Network, found: Operator) -> Edit | None:
    if found.kind not in ("RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE") or len(found.outputs) != 1:
        return None
    (source, *_), (output,) = found.inputs, found.outputs
    made = network.maker(source, *_SCALING)
    before, after = network.tensor(source), network.tensor(output)
    if made is None or not network.is_private(source) or before.shape != after.shape:
        return None
    own = made.options.get(ACTIVATION, NONE)
    if before.dtype != "int8" or after.dtype != "int8" or (found.kind != "QUANTIZE" and own != NONE):
        return None
    if before.quantization is None or after.quantization is None:
        return None
    edit = Edit(network, found, f"'{network.name(made)}' writes it")
    activation = own if found.kind == "QUANTIZE" else found.kind
    edit.put(made, replace(made, outputs=found.outputs, options={**made.options, ACTIVATION: activation}))
    edit.put(found)
    return edit


def smooth_input(network: Network, found: Operator) -> int | None:
    """What a costly activation is a function of; None for other operators."""
    if found.kind in SMOOTH:
        return found.inputs[0]
    if found.kind != "MUL" or len(found.inputs) != 2:
        return None
    for source, gate in (found.inputs, found.inputs[::-1]):
        logistic = network.maker(gate, "LOGISTIC")
        if logistic is not None and logistic.inputs[0] == source and network.is_private(gate):
            return source
    return None

"""Operators that an Ethos-U does not have, written with some that it has."""

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, OptionValue, Quantization
from mlia.transforms.remedies.local import at_each
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, operator

_SOFTMAX = Quantization((1 / 256,), (-128,))  # what LiteRT's SOFTMAX of int8 writes


def smallest_as_largest(graph: Graph) -> Graph:
    """ARG_MIN of int8 as ARG_MAX of its negative; the indexes are the same, also where several are smallest.

    Raises:
        TransformError: there is none on int8.
    """
    return at_each(graph, _negated, "no ARG_MIN along a constant axis reads int8 with one scale")


def _negated(network: Network, found: Operator) -> Edit | None:
    source = network.tensor(found.inputs[0])
    quantization = source.quantization
    if found.kind != "ARG_MIN" or len(found.inputs) != 2 or network.constant(found.inputs[1]) is None:
        return None
    if source.dtype != "int8" or quantization is None or len(quantization.scale) != 1:
        return None
    edit, name = Edit(network, found, "ARG_MAX of the negative"), network.name(found)
    zero = (*quantization.zero_point, 0)[0]
    nothing = edit.constant(f"{name}/zero", numpy.array([zero], numpy.int8), quantization)
    # With this zero point, the negative of the number that the code c stands for has the code -1 - c.
    turned = replace(quantization, zero_point=(-1 - zero,))
    negative = edit.tensor(replace(source, name=f"{name}/negative", quantization=turned))
    subtracting: dict[str, OptionValue] = {ACTIVATION: NONE}
    minus = operator("SUB", [nothing, found.inputs[0]], negative, "SubOptions", subtracting)
    kind: dict[str, OptionValue] = {"output_type": found.options.get("output_type", "INT32")}
    largest = operator("ARG_MAX", [negative, found.inputs[1]], found.outputs[0], "ArgMaxOptions", kind)
    edit.put(found, replace(minus, version=2), replace(largest, version=2))
    return edit


def softmax_at_the_end(graph: Graph) -> Graph:
    """LOG_SOFTMAX that writes an output of the model as SOFTMAX: shares instead of their logarithms, in one order.

    Raises:
        TransformError: there is none on int8.
    """
    return at_each(graph, _without_logarithm, "no LOG_SOFTMAX of int8 writes an output of the model")


def _without_logarithm(network: Network, found: Operator) -> Edit | None:
    (output, *_) = found.outputs
    after = network.tensor(output)
    if found.kind != "LOG_SOFTMAX" or output not in network.subgraph.outputs or network.readers(output):
        return None
    if after.dtype != "int8" or network.tensor(found.inputs[0]).dtype != "int8":
        return None
    edit = Edit(network, found, "SOFTMAX without the logarithm")
    edit.set_tensor(output, replace(after, quantization=_SOFTMAX))
    softmax = operator("SOFTMAX", found.inputs, output, "SoftmaxOptions", {"beta": 1.0})
    edit.put(found, replace(softmax, version=2))
    return edit

"""Swaps of activations that change what a model computes."""

from mlia.graph.graph import Operator
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, operator


def silu_as_hard_swish(network: Network, found: Operator) -> Edit | None:
    """x * LOGISTIC(x) becomes HARD_SWISH: one table look-up instead of that and a product of two tensors."""
    if found.kind != "MUL" or found.options.get(ACTIVATION, NONE) != NONE:
        return None
    for source, gate in (found.inputs, found.inputs[::-1]):
        logistic = network.maker(gate, "LOGISTIC")
        if logistic is not None and logistic.inputs[0] == source and network.is_private(gate):
            edit = Edit(network, found, "x * LOGISTIC(x) is now HARD_SWISH")
            edit.put(found, operator("HARD_SWISH", [source], found.outputs[0], "HardSwishOptions"))
            return edit
    return None


SWAPS = (silu_as_hard_swish,)

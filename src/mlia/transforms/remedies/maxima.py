"""Maxima over windows, along one axis after the other: the largest of the rows' largest numbers."""

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator
from mlia.transforms.remedies.shaping import reshaped
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, without_unused_tensors

SMALLEST = 4  # rows and columns: smaller windows gain nothing


def maxima_in_turn(graph: Graph) -> Graph:
    """Each MAX_POOL_2D of k x l as one of k x 1 and one of 1 x l: k + l comparisons instead of k * l.

    Padding takes no part in a maximum, and a maximum rounds nothing, so that the outputs are bit-identical.

    Raises:
        TransformError: there is none with at least `SMALLEST` rows and columns.
    """
    changed = graph
    for index in reversed(range(len(graph.operators))):
        network = Network(changed.main)
        edit = _in_turn(network, network.operators[index])
        if edit is not None:
            changed = replace(changed, subgraphs=(edit.result(), *changed.subgraphs[1:]))
    if changed is graph:
        raise TransformError("no MAX_POOL_2D is over so many rows and columns")
    return without_unused_tensors(changed)


def _in_turn(network: Network, found: Operator) -> Edit | None:
    if found.kind != "MAX_POOL_2D" or min(found.number("filter_height"), found.number("filter_width")) < SMALLEST:
        return None
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    if (
        len(before.shape) != 4
        or len(after.shape) != 4
        or -1 in (*before.shape_signature[1:], *after.shape_signature[1:])
    ):
        return None
    edit = Edit(network, found, "along the height, then along the width")
    batch, _, width, channels = before.shape
    between = edit.tensor(reshaped(before, (batch, after.shape[1], width, channels), f"{network.name(found)}/rows"))
    rows = {**found.options, "filter_width": 1, "stride_w": 1, ACTIVATION: NONE}
    columns = {**found.options, "filter_height": 1, "stride_h": 1}
    first = replace(found, outputs=(between,), options=rows)
    edit.put(found, first, replace(found, inputs=(between,), options=columns))
    return edit

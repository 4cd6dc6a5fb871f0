"""Averages over all of a feature map: AVERAGE_POOL_2D instead of MEAN, which an NPU computes with wider numbers."""

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, OptionValue
from mlia.transforms.remedies.shaping import reshape, reshaped
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, operator, without_unused_tensors

MOST_ROWS = 256  # of a pool's kernel, and as many columns


def means_as_pools(graph: Graph) -> Graph:
    """Each MEAN over height and width as an AVERAGE_POOL_2D with a QUANTIZE behind it where the scale changes.

    The average is rounded to the input's scale first, so that a code may differ.

    Raises:
        TransformError: there is no such MEAN.
    """
    changed = graph
    for _ in graph.operators:
        network = Network(changed.main)
        edit = next((edit for found in changed.operators if (edit := _pool(network, found)) is not None), None)
        if edit is None:
            break
        changed = replace(changed, subgraphs=(edit.result(), *changed.subgraphs[1:]))
    if changed is graph:
        raise TransformError("no MEAN is over the height and the width of a feature map")
    return without_unused_tensors(changed)


def is_over_map(network: Network, found: Operator) -> bool:
    """Whether it averages height and width of an int8 feature map, and a pool can do that."""
    if found.kind != "MEAN" or len(found.inputs) != 2 or len(found.outputs) != 1:
        return False
    axes = network.constant(found.inputs[1])
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    if axes is None or before.dtype != "int8" or after.dtype != "int8" or len(before.shape) != 4:
        return False
    if -1 in (*before.shape_signature[1:], *after.shape_signature[1:]):
        return False
    return {int(axis) % 4 for axis in axes.reshape(-1)} == {1, 2} and max(before.shape[1:3]) <= MOST_ROWS


def _pool(network: Network, found: Operator) -> Edit | None:
    if not is_over_map(network, found):
        return None
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    batch, height, width, channels = before.shape
    edit = Edit(network, found, "now AVERAGE_POOL_2D")
    name = after.name
    options: dict[str, OptionValue] = {
        "padding": "VALID", "stride_w": width, "stride_h": height, "filter_width": width, "filter_height": height,
        ACTIVATION: NONE,
    }  # fmt: skip
    last, is_flat = (found.inputs[0], before), len(after.shape) != 4
    made: list[Operator] = []
    steps = ["pool", *(["scale"] if before.quantization != after.quantization else []), *(["flat"] if is_flat else [])]
    for step in steps:
        shape = after.shape if step == "flat" else (batch, 1, 1, channels)
        like = replace(before if step == "pool" else after, is_variable=False)
        is_last = step == steps[-1]
        output = found.outputs[0] if is_last else edit.tensor(reshaped(like, shape, f"{name}/{step}"))
        if step == "pool":
            made.append(replace(operator("AVERAGE_POOL_2D", [last[0]], output, "Pool2DOptions", options), version=2))
        elif step == "scale":
            made.append(operator("QUANTIZE", [last[0]], output, "QuantizeOptions"))
        else:
            made.append(reshape(edit, last[0], output, after.is_dynamic, after.shape, name))
        last = (output, like)
    edit.put(found, *made)
    return edit

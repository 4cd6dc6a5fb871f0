"""Columns of a feature map as channels, for convolutions that read too few channels to fill a MAC array.

In memory, a row of W columns with C channels is the same as W / p columns with p * C channels. A convolution that
reads p columns at a time and writes g of its old columns at a time, side by side in its channels, computes the same
sums: its weights are the old ones in other places, and zeros. Both RESHAPEs move nothing.
"""

from collections.abc import Iterator

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Quantization
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.places import Place, operator_at
from mlia.transforms.remedies.rows import place_when_lying, rows_instead_of_columns
from mlia.transforms.remedies.shaping import reshape, reshaped
from mlia.transforms.rewrites.network import Edit, Network, operator, without_unused_tensors

MOST_CHANNELS = 4  # of the input: more fill an array better


class Folding(Struct, frozen=True):
    """`columns` of the input are read and `outputs` columns written at a time; taps begin at group `first`."""

    columns: int
    outputs: int
    first: int
    taps: int


def folded_rows(graph: Graph, place: Place, outputs: int) -> Graph:
    """The convolution at that place with its rows laid along the width, writing `outputs` of them at a time.

    Raises:
        TransformError: it cannot be laid or folded so.
    """
    return folded_columns(rows_instead_of_columns(graph), place_when_lying(graph, place), outputs)


def folded_columns(graph: Graph, place: Place, outputs: int) -> Graph:
    """The convolution at that place, writing `outputs` columns at a time.

    The sums of integers are the same, whatever their order, so that the outputs are bit-identical.

    Raises:
        TransformError: it cannot be folded so.
    """
    network, found = Network(graph.main), operator_at(graph.main, place)
    ways = foldings(network, found) if found is not None else ()
    folding = next((folding for folding in ways if folding.outputs == outputs), None)
    if found is not None and folding is not None:
        main = _folded(network, found, folding).result()
        return without_unused_tensors(replace(graph, subgraphs=(main, *graph.subgraphs[1:])))
    raise TransformError(f"'{place.name}' cannot write {outputs} columns at a time")


def _width(network: Network, found: Operator) -> int:
    return network.tensor(found.outputs[0]).shape[2]


def foldings(network: Network, found: Operator) -> Iterator[Folding]:
    """The ways to fold a convolution, narrowest first."""
    if not _is_foldable(network, found):
        return
    weights, source = network.tensor(found.inputs[1]), network.tensor(found.inputs[0])
    width, after = source.shape[2], _width(network, found)
    stride, spread = found.number("stride_w", 1), found.number("dilation_w_factor", 1)
    reach = (weights.shape[2] - 1) * spread
    is_same = found.options.get("padding") == "SAME"
    in_front = max((after - 1) * stride + reach + 1 - width, 0) // 2 if is_same else 0
    for outputs in range(1, after + 1):
        columns = width if outputs == after else outputs * stride
        if after % outputs or width % columns or columns == 1:
            continue
        groups = width // columns
        if groups == 1:
            first, last = 0, 0
        else:
            first, last = -in_front // columns, ((outputs - 1) * stride + reach - in_front) // columns
        taps = last - first + 1
        if is_same and groups == after // outputs:
            while (taps - 1) // 2 != -first or first + taps <= last:  # where SAME pads like before
                first, taps = (first, taps + 1) if (taps - 1) // 2 < -first else (first - 1, taps + 1)
        elif groups - taps + 1 != after // outputs:
            continue
        yield Folding(columns, outputs, first, taps)


def _is_foldable(network: Network, found: Operator) -> bool:
    if found.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(found.inputs) < 2:
        return False
    source, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    weights, values = network.tensor(found.inputs[1]), network.constant(found.inputs[1])
    if (
        len(source.shape) != 4
        or len(after.shape) != 4
        or -1 in (*source.shape_signature[1:], *after.shape_signature[1:])
    ):
        return False
    if values is None or values.ndim != 4 or weights.dtype != "int8" or source.dtype not in ("int8", "int16"):
        return False
    if any(index >= 0 and network.constant(index) is None for index in found.inputs[2:]):
        return False
    if weights.quantization is None or any(weights.quantization.zero_point):
        return False
    most = MOST_CHANNELS if found.kind == "CONV_2D" else 1
    channels = weights.shape[3] if found.kind == "CONV_2D" else source.shape[3]
    return source.shape[3] == channels <= most and min(*source.shape, *after.shape) > 0


def _folded(network: Network, found: Operator, folding: Folding) -> Edit:
    source, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    old, name = network.tensor(found.inputs[1]), network.name(found)
    values = network.constant(found.inputs[1])
    assert values is not None  # foldings() looked
    if found.kind == "DEPTHWISE_CONV_2D":
        values = values.transpose(3, 1, 2, 0)
    edit = Edit(network, found, f"{folding.outputs} columns at a time")
    batch, height, width, channels = source.shape
    shape = (batch, height, width // folding.columns, channels * folding.columns)
    wide = edit.tensor(reshaped(source, shape, f"{name}/columns"))
    into = reshape(edit, found.inputs[0], wide, source.is_dynamic, shape, f"{name}/columns")
    weights = _weights(values, found, folding, width, _in_front(network, found))
    inputs = [wide, edit.constant(old.name, weights, _repeated(old.quantization, folding.outputs, 0))]
    for index in found.inputs[2:]:
        bias = network.constant(index)
        if bias is None:
            inputs.append(index)
            continue
        tensor = network.tensor(index)
        repeated = numpy.tile(bias, folding.outputs)
        inputs.append(edit.constant(tensor.name, repeated, _repeated(tensor.quantization, folding.outputs, 0)))
    batch, height, width, channels = after.shape
    shape = (batch, height, width // folding.outputs, channels * folding.outputs)
    made = edit.tensor(reshaped(after, shape, f"{name}/folded"))
    options = {key: value for key, value in found.options.items() if key != "depth_multiplier"}
    options |= {"stride_w": 1, "dilation_w_factor": 1}
    folded = operator("CONV_2D", inputs, made, "Conv2DOptions", options)
    version = found.version if found.kind == "CONV_2D" else 3
    back = reshape(edit, made, found.outputs[0], after.is_dynamic, after.shape, name)
    edit.put(found, into, replace(folded, version=version), back)
    return edit


def _in_front(network: Network, found: Operator) -> int:
    """Columns of padding in front of the first."""
    if found.options.get("padding") != "SAME":
        return 0
    width, after = network.tensor(found.inputs[0]).shape[2], _width(network, found)
    reach = (network.tensor(found.inputs[1]).shape[2] - 1) * found.number("dilation_w_factor", 1)
    return max((after - 1) * found.number("stride_w", 1) + reach + 1 - width, 0) // 2


def _weights(values: Array, found: Operator, folding: Folding, width: int, in_front: int) -> Array:
    """(outputs * filters, height, taps, columns * channels), zero where a column is not read."""
    filters, height, taps, channels = values.shape
    shape = (folding.outputs, filters, height, folding.taps, folding.columns, channels)
    made = numpy.zeros(shape, values.dtype)
    for column in range(folding.outputs):
        for tap in range(taps):
            place = column * found.number("stride_w", 1) + tap * found.number("dilation_w_factor", 1) - in_front
            if width == folding.columns and not 0 <= place < width:
                continue  # always padding
            group, within = divmod(place, folding.columns)
            made[column, :, :, group - folding.first, within] = values[:, :, tap]
    return made.reshape(folding.outputs * filters, height, folding.taps, folding.columns * channels)


def _repeated(quantization: Quantization | None, times: int, axis: int) -> Quantization | None:
    if quantization is None or len(quantization.scale) == 1:
        return quantization
    zeros = (0,) * len(quantization.scale) * times
    return Quantization(quantization.scale * times, zeros, axis)

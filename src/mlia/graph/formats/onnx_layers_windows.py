"""ONNX's convolutions, pools and resizes as TFLite's: channels last, one spatial axis as two with a height of 1."""

from typing import Any

import numpy

from mlia.graph.formats.onnx_flow import Array, Flow, Value, channels_last
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference_windows import counts, resizings
from mlia.graph.formats.onnx_windows import Resizing, Windows, transposed_windows_of, windows_of
from mlia.graph.graph import OptionValue

_POSITIVE = ("RELU", "RELU6", "LOGISTIC", "SOFTMAX")  # of which no result is below zero
_LOWEST = float(numpy.finfo(numpy.float32).min)


def planar(flow: Flow, node: Node) -> int:
    """The first input as (N, H, W, C)."""
    rank = len(flow.shape(node.inputs[0]))
    if rank not in (3, 4):
        node.refuse(f"its input has {rank} axes, and 3 and 4 are read")
    x = flow.ordered(node.inputs[0], channels_last(rank))
    if rank == 4:
        return x
    batch, length, channels = flow.net.shape(x)
    return flow.net.reshape(x, (batch, 1, length, channels), f"{node.name}/expand", extra=True)


def linear(flow: Flow, node: Node, x: int) -> Value:
    """Undo `planar`."""
    rank = len(flow.shape(node.inputs[0]))
    if rank == 4:
        return Value(x, channels_last(4))
    batch, _, length, channels = flow.net.shape(x)
    return Value(flow.net.reshape(x, (batch, length, channels), node.name, extra=True), channels_last(3))


def _wide(places: Windows) -> Windows:
    """The same windows over two axes."""
    if len(places.kernel) == 2:
        return places
    return Windows(
        (1, *places.kernel), (1, *places.stride), (1, *places.dilation), (0, *places.before), (0, *places.behind),
        (1, *places.output),
    )  # fmt: skip


def _padded(flow: Flow, node: Node, x: int, places: Windows, value: float = 0.0) -> int:
    """The input with what its windows read beyond it, for a VALID operator."""
    sizes = flow.net.shape(x)[1:3]
    amounts = [(0, 0), *((places.before[axis], max(places.reach(axis, sizes[axis]), 0)) for axis in (0, 1)), (0, 0)]
    return padded(flow, x, amounts, value, f"{node.name}/pad")


def padded(flow: Flow, x: int, amounts: Any, value: float, name: str) -> int:
    """PAD, or PADV2 where it is not with zeros."""
    if not any(any(pair) for pair in amounts):
        return x
    if not value:
        return flow.net.pad(x, amounts, name, extra=True)
    shape = [size + before + behind for size, (before, behind) in zip(flow.net.shape(x), amounts, strict=True)]
    inputs = [x, flow.net.sizes(f"{name}/amounts", amounts), flow.net.number(f"{name}/value", value)]
    output = flow.net.emit("PADV2", inputs, shape, name, "PadV2Options")
    flow.net.extra.add(output)
    return output


def convolution(flow: Flow, node: Node) -> Value:
    """Conv: CONV_2D, or DEPTHWISE_CONV_2D where each channel has filters of its own. ONNX: (filters, inputs, …)."""
    w = _weights(flow, node)
    x = planar(flow, node)
    places = _wide(windows_of(node, flow.shape(node.inputs[0])[2:], w.shape[2:]))
    if w.ndim == 3:
        w = w[:, :, None]
    filters, groups = w.shape[0], node.integer("group", 1)
    channels = flow.net.shape(x)[-1]
    bias = _bias(flow, node, filters)
    is_depthwise = groups == channels and groups > 1 and w.shape[1] == 1
    values = w[:, 0].transpose(1, 2, 0)[None] if is_depthwise else w.transpose(0, 2, 3, 1)
    weights = flow.weighed(node, flow.net.weight(f"{node.name}/weights", w, values))
    x = _padded(flow, node, x, places)
    options: dict[str, OptionValue] = {
        "padding": "VALID", "stride_h": places.stride[0], "stride_w": places.stride[1],
        "fused_activation_function": "NONE", "dilation_h_factor": places.dilation[0],
        "dilation_w_factor": places.dilation[1],
    }  # fmt: skip
    kind, table, version = "CONV_2D", "Conv2DOptions", 1
    if is_depthwise:
        kind, table, version = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 2 if max(places.dilation) > 1 else 1
        options["depth_multiplier"] = filters // channels
    shape = (flow.net.shape(x)[0], *places.output, filters)
    return linear(flow, node, flow.net.emit(kind, [x, weights, bias], shape, node.name, table, options, version))


def transposed(flow: Flow, node: Node) -> Value:
    """ConvTranspose: a VALID TRANSPOSE_CONV, and what ONNX cuts from it. ONNX: (inputs, filters / groups, …)."""
    w = _weights(flow, node)
    x = planar(flow, node)
    places = _wide(transposed_windows_of(node, flow.shape(node.inputs[0])[2:], w.shape[2:]))
    if w.ndim == 3:
        w = w[:, :, None]
    groups = node.integer("group", 1)
    w = _dilated(_dense(w, groups), places)
    _, filters, rows, columns = w.shape
    batch, height, width, _ = flow.net.shape(x)
    weights = flow.net.weight(f"{node.name}/weights", w, w.transpose(1, 2, 3, 0))
    if groups == 1:
        flow.weighed(node, weights)
    bias = _bias(flow, node, filters)
    full = ((height - 1) * places.stride[0] + rows, (width - 1) * places.stride[1] + columns)
    # TFLite's VALID gives at least stride * size.
    given = tuple(max(f, n * s) for f, n, s in zip(full, (height, width), places.stride, strict=True))
    padding, cut, target = "VALID", places.before, given
    options: dict[str, OptionValue] = {
        "stride_h": places.stride[0], "stride_w": places.stride[1], "fused_activation_function": "NONE",
    }  # fmt: skip
    same = [n * s for n, s in zip((height, width), places.stride, strict=True)]
    totals = [max(f - n, 0) for f, n in zip(full, same, strict=True)]
    if list(places.output) == same and all(b == t // 2 for b, t in zip(places.before, totals, strict=True)):
        padding, cut, target = "SAME", (0, 0), places.output
    options["padding"] = padding
    sizes = flow.net.sizes(f"{node.name}/shape", (batch, *target, filters))
    y = flow.net.emit(
        "TRANSPOSE_CONV", [sizes, weights, x, bias], (batch, *target, filters), node.name, "TransposeConvOptions",
        options, version=3, dtype="float32",
    )  # fmt: skip
    ends = [c + o for c, o in zip(cut, places.output, strict=True)]
    if any(e > t for e, t in zip(ends, target, strict=True)):
        node.refuse("its output_padding is larger than what its windows reach")
    if (*places.output,) != tuple(target):
        y = flow.net.sliced(y, [0, *cut, 0], [batch, *ends, filters], f"{node.name}/cut")
        flow.net.extra.add(y)
    return linear(flow, node, y)


def _dense(w: Array, groups: int) -> Array:
    """Weights of groups as those of all channels, with zeros in between: TRANSPOSE_CONV knows no groups."""
    if groups == 1:
        return w
    channels, filters = w.shape[:2]
    dense = numpy.zeros((channels, filters * groups, *w.shape[2:]), numpy.float32)
    part = channels // groups
    for group in range(groups):
        rows = slice(group * part, (group + 1) * part)
        dense[rows, group * filters : (group + 1) * filters] = w[rows]
    return dense


def _dilated(w: Array, places: Windows) -> Array:
    """A kernel with its zeros written out: TRANSPOSE_CONV knows no dilation."""
    if max(places.dilation) == 1:
        return w
    sizes = [(k - 1) * d + 1 for k, d in zip(places.kernel, places.dilation, strict=True)]
    spread = numpy.zeros((*w.shape[:2], *sizes), numpy.float32)
    spread[:, :, :: places.dilation[0], :: places.dilation[1]] = w
    return spread


def max_pool(flow: Flow, node: Node) -> Value:
    """MaxPool. Where TFLite's padding is another, zeros do if nothing is below them, or a first pool of stride 1."""
    x = planar(flow, node)
    places = _pool_windows(flow, node)
    if max(places.dilation) > 1:
        node.refuse(f"its dilations are {places.dilation}")
    sizes = flow.net.shape(x)[1:3]
    padding = _padding(places, sizes)
    if padding:
        return linear(
            flow, node, flow.net.pool("MAX_POOL_2D", x, _two(places.kernel), _two(places.stride), padding, node.name)
        )
    if _makers(flow, x) in _POSITIVE:
        y = _padded(flow, node, x, places)
    elif all(b == k // 2 and k % 2 for b, k in zip(places.before, places.kernel, strict=True)) and all(
        places.reach(axis, sizes[axis]) <= places.kernel[axis] // 2 for axis in (0, 1)
    ):
        whole = flow.net.pool("MAX_POOL_2D", x, _two(places.kernel), (1, 1), "SAME", f"{node.name}/every")
        y = flow.net.pool("MAX_POOL_2D", whole, (1, 1), _two(places.stride), "VALID", node.name)
        return linear(flow, node, y)
    else:
        y = _padded(flow, node, x, places, _LOWEST)
    return linear(
        flow, node, flow.net.pool("MAX_POOL_2D", y, _two(places.kernel), _two(places.stride), "VALID", node.name)
    )


def average_pool(flow: Flow, node: Node) -> Value:
    """AveragePool; where padding counts otherwise than in TFLite, each average is corrected by its count."""
    x = planar(flow, node)
    places = _pool_windows(flow, node)
    if max(places.dilation) > 1:
        node.refuse(f"its dilations are {places.dilation}")
    sizes = flow.net.shape(x)[1:3]
    counted = numpy.asarray(
        counts(node, windows_of(node, flow.shape(node.inputs[0])[2:], ()), flow.shape(node.inputs[0])[2:])
    )
    factors = (places.kernel[0] * places.kernel[1] / counted).astype(numpy.float32).reshape(1, *places.output, 1)
    padding = _padding(places, sizes)
    if padding and (padding == "VALID" or not node.integer("count_include_pad", 0)):
        y = flow.net.pool("AVERAGE_POOL_2D", x, _two(places.kernel), _two(places.stride), padding, node.name)
        return linear(flow, node, y)
    x = _padded(flow, node, x, places)
    y = flow.net.pool("AVERAGE_POOL_2D", x, _two(places.kernel), _two(places.stride), "VALID", node.name)
    if (factors != 1).any():
        y = flow.net.binary("MUL", y, flow.net.constant(f"{node.name}/factors", factors), node.name)
    return linear(flow, node, y)


def _pool_windows(flow: Flow, node: Node) -> Windows:
    return _wide(windows_of(node, flow.shape(node.inputs[0])[2:], ()))


def _padding(places: Windows, sizes: Any) -> str:
    """TFLite's word for the padding, if it has one."""
    words = {"VALID", "SAME"}
    for axis in (0, 1):
        kernel, stride, size = places.kernel[axis], places.stride[axis], sizes[axis]
        if places.before[axis] or places.reach(axis, size) > 0 or places.output[axis] != (size - kernel) // stride + 1:
            words.discard("VALID")
        same = -(-size // stride)
        total = max((same - 1) * stride + kernel - size, 0)
        if places.output[axis] != same or places.before[axis] != total // 2:
            words.discard("SAME")
    return max(words, default="")


def _two(sizes: Any) -> tuple[int, int]:
    return int(sizes[0]), int(sizes[1])


def _makers(flow: Flow, x: int) -> str:
    """The kind of the operator that computes a tensor."""
    return next((op.kind for op in reversed(flow.net.operators) if op.outputs[0] == x), "")


def global_pool(kind: str) -> Any:
    """GlobalAveragePool and GlobalMaxPool."""

    def build(flow: Flow, node: Node) -> Value:
        rank = len(flow.shape(node.inputs[0]))
        x = flow.ordered(node.inputs[0], channels_last(rank))
        return Value(flow.net.reduce(kind, x, range(1, rank - 1), node.name, keep=True), channels_last(rank))

    return build


def resize(flow: Flow, node: Node) -> Value:
    """Resize and Upsample: TFLite's own where it takes the same places, copies or products otherwise."""
    name = node.inputs[0]
    rank = len(flow.shape(name))
    further = [flow.settled(node, place, "size") for place in range(1, len(node.inputs))]
    steps = resizings(node, flow.shape(name), further)
    value = Value(flow.ordered(name, channels_last(rank)), channels_last(rank))
    if rank == 4 and steps[0].is_identity and steps[1].is_identity:
        found = _resize_operator(node, steps[2:])
        if found:
            kind, table, options = found
            size = flow.net.sizes(f"{node.name}/size", [each.output for each in steps[2:]])
            shape = (steps[0].size, steps[2].output, steps[3].output, steps[1].size)
            return Value(flow.net.emit(kind, [value.index, size], shape, node.name, table, options), value.order)
    for axis, step in enumerate(steps):
        if step.is_identity:
            continue
        value = _resized(flow, node, value, axis, step)
    return value


def _resized(flow: Flow, node: Node, value: Value, axis: int, step: Resizing) -> Value:
    """Along one axis: each place copied, or a product with constants."""
    places = step.places
    if places is not None:
        return Value(
            gathered(flow, value.index, places, value.order.index(axis), f"{node.name}/axis_{axis}"), value.order
        )
    rank = len(value.order)
    order = (*(each for each in value.order if each != axis), axis)
    x = flow.turned(value, order)
    weights = flow.net.constant(f"{node.name}/axis_{axis}/weights", step.weights.astype(numpy.float32))
    y = flow.net.dense(x, weights, None, f"{node.name}/axis_{axis}")
    return Value(flow.turned(Value(y, order), value.order) if rank > 2 else y, value.order if rank > 2 else order)


def gathered(flow: Flow, x: int, places: Any, axis: int, name: str) -> int:
    """GATHER of constant places along one axis."""
    shape = list(flow.net.shape(x))
    shape[axis] = len(places)
    inputs = [x, flow.net.sizes(f"{name}/places", places)]
    return flow.net.emit("GATHER", inputs, shape, name, "GatherOptions", {"axis": axis, "batch_dims": 0})


def _resize_operator(node: Node, steps: Any) -> tuple[str, str, dict[str, OptionValue]] | None:
    """TFLite's RESIZE operator that takes the same places with the same weights along both axes."""
    for kind, table in (
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"), ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    ):  # fmt: skip
        for corners, centers in ((False, True), (False, False), (True, False)):
            if all(_close(_tflite_weights(kind, each, corners, centers), each.weights) for each in steps):
                return kind, table, {"align_corners": corners, "half_pixel_centers": centers}
    return None


def _close(ours: Array, theirs: Array) -> bool:
    return bool(abs(ours - theirs).max() < 1e-5)


def _tflite_weights(kind: str, step: Resizing, corners: bool, centers: bool) -> Array:
    """What TFLite's reference kernels (resize_bilinear.h, resize_nearest_neighbor.h) do along one axis."""
    scale = step.size / step.output
    if corners and step.output > 1:
        scale = (step.size - 1) / (step.output - 1)
    weights = numpy.zeros((step.output, step.size))
    for x in range(step.output):
        if kind == "RESIZE_NEAREST_NEIGHBOR":
            spot = float(numpy.float32((x + (0.5 if centers else 0.0)) * scale))
            place = int(numpy.floor(spot + 0.5)) if corners else int(numpy.floor(spot))
            weights[x, min(max(place, 0), step.size - 1)] = 1
            continue
        spot = (x + 0.5) * scale - 0.5 if centers else x * scale
        low = int(numpy.floor(spot))
        weights[x, min(max(low, 0), step.size - 1)] += 1 - (spot - low)
        weights[x, min(max(low + 1, 0), step.size - 1)] += spot - low
    return weights


def depth_to_space(flow: Flow, node: Node) -> Value:
    """DepthToSpace; its mode CRD needs the channels in another order first."""
    x = flow.ordered(node.inputs[0], channels_last(4))
    block = node.integer("blocksize", 1)
    batch, height, width, channels = flow.net.shape(x)
    depth = channels // block**2
    if node.text("mode", "DCR") == "CRD":
        places = numpy.arange(channels).reshape(depth, block * block).T.reshape(-1)
        x = gathered(flow, x, places, 3, f"{node.name}/order")
    shape = (batch, height * block, width * block, depth)
    options: dict[str, OptionValue] = {"block_size": block}
    return Value(
        flow.net.emit("DEPTH_TO_SPACE", [x], shape, node.name, "DepthToSpaceOptions", options), channels_last(4)
    )


def space_to_depth(flow: Flow, node: Node) -> Value:
    """SpaceToDepth."""
    x = flow.ordered(node.inputs[0], channels_last(4))
    block = node.integer("blocksize", 1)
    batch, height, width, channels = flow.net.shape(x)
    shape = (batch, height // block, width // block, channels * block**2)
    options: dict[str, OptionValue] = {"block_size": block}
    return Value(
        flow.net.emit("SPACE_TO_DEPTH", [x], shape, node.name, "SpaceToDepthOptions", options), channels_last(4)
    )


def lrn(flow: Flow, node: Node) -> Value:
    """LRN over an odd number of channels."""
    rank, size = len(flow.shape(node.inputs[0])), node.integer("size", 1)
    if size % 2 == 0 or rank != 4:
        node.refuse(f"its size is {size}, for {rank} axes")
    x = flow.ordered(node.inputs[0], channels_last(4))
    options: dict[str, OptionValue] = {
        "radius": size // 2, "bias": node.number("bias", 1.0), "alpha": node.number("alpha", 1e-4) / size,
        "beta": node.number("beta", 0.75),
    }  # fmt: skip
    kind = "LOCAL_RESPONSE_NORMALIZATION"
    y = flow.net.emit(kind, [x], flow.net.shape(x), node.name, "LocalResponseNormalizationOptions", options)
    return Value(y, channels_last(4))


def _weights(flow: Flow, node: Node) -> Array:
    w = flow.settled(node, 1, "kernel")
    if w is None or w.ndim not in (3, 4) or w.ndim != len(flow.shape(node.inputs[0])):
        node.refuse("its kernel has another number of axes than its input, or more than 4")
    return w


def _bias(flow: Flow, node: Node, filters: int) -> int:
    """The bias; TFLite's converters write zeros where there is none, and so do we."""
    bias = flow.settled(node, 2, "bias")
    values = numpy.zeros(filters, numpy.float32) if bias is None else bias.reshape(-1)
    return flow.net.constant(f"{node.name}/bias", values.astype(numpy.float32))


WINDOWS: dict[str, Any] = {
    "Conv": convolution, "ConvTranspose": transposed, "MaxPool": max_pool, "AveragePool": average_pool,
    "GlobalAveragePool": global_pool("MEAN"), "GlobalMaxPool": global_pool("REDUCE_MAX"), "Resize": resize,
    "Upsample": resize, "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth, "LRN": lrn,
}  # fmt: skip

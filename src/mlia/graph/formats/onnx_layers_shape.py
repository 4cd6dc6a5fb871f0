"""ONNX's operators that move elements as TFLite's, with as few moves as the order of axes allows."""

from typing import Any

import numpy

from mlia.graph.formats.onnx_flow import Flow, Value, plain, without
from mlia.graph.formats.onnx_layers_arithmetic import cast as cast_to
from mlia.graph.formats.onnx_layers_windows import gathered, padded
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference_shape import cast_type, padding, slices, split_sizes
from mlia.graph.graph import OptionValue


def reshaped(flow: Flow, node: Node) -> Value:
    """Reshape, Flatten, Squeeze and Unsqueeze: the new shape is known."""
    for place in range(1, len(node.inputs)):
        flow.settled(node, place, "shape")
    return flow.reshaped(node.inputs[0], flow.shape(node.outputs[0]), node.name)


def transpose(flow: Flow, node: Node) -> Value:
    """Transpose gives axes other names; nothing moves yet."""
    value = flow.value(node.inputs[0])
    order = node.integers("perm") or list(plain(len(value.order)))[::-1]
    return Value(value.index, tuple(order.index(axis) for axis in value.order))


def same(flow: Flow, node: Node) -> Value:
    """Identity and Dropout."""
    return flow.value(node.inputs[0])


def concat(flow: Flow, node: Node) -> Value:
    """Concat, in the order of its largest computed input."""
    names = [name for name in node.inputs if numpy.prod(flow.shape(name)) > 0]
    rank = len(flow.shape(names[0]))
    leader = max(
        (name for name in names if name not in flow.trace.constants), key=lambda name: int(numpy.prod(flow.shape(name)))
    )
    order = flow.value(leader).order
    tensors = [flow.ordered(name, order) for name in names]
    if len(tensors) == 1:
        return Value(tensors[0], order)
    return Value(flow.net.concatenation(tensors, order.index(node.integer("axis", 1) % rank), node.name), order)


def _cut(flow: Flow, value: Value, axis: int, begin: int, end: int, name: str, drop: bool = False) -> Value:
    """Part of one axis."""
    shape, place = flow.net.shape(value.index), value.order.index(axis)
    starts, ends = [0] * len(shape), list(shape)
    starts[place], ends[place] = begin, end
    index = flow.net.sliced(value.index, starts, ends, name, drop=[place] if drop else [])
    return Value(index, without(value.order, [axis]) if drop else value.order)


def sliced(flow: Flow, node: Node) -> Value:
    """Slice: STRIDED_SLICE, or GATHER along axes that it runs through backwards."""
    value, shape = flow.value(node.inputs[0]), flow.shape(node.inputs[0])
    parts = slices(node, shape, *(flow.settled(node, place, "place") for place in range(1, len(node.inputs))))
    for axis, (begin, end, step) in enumerate(parts):
        if step < 0:
            index = gathered(
                flow, value.index, list(range(begin, end, step)), value.order.index(axis), f"{node.name}/axis_{axis}"
            )
            value = Value(index, value.order)
            parts[axis] = (0, len(range(begin, end, step)), 1)
    ordered = [parts[axis] for axis in value.order]
    if all(part == (0, size, 1) for part, size in zip(ordered, flow.net.shape(value.index), strict=True)):
        return value
    begins, ends, steps = (list(each) for each in zip(*ordered, strict=True))
    return Value(flow.net.sliced(value.index, begins, ends, node.name, steps=steps), value.order)


def split(flow: Flow, node: Node) -> list[Value]:
    """Split, each part cut by itself, so that those that nothing reads cost nothing."""
    name = node.inputs[0]
    value, shape = flow.value(name), flow.shape(name)
    axis = node.integer("axis", 0) % len(shape)
    begin, parts = 0, []
    for number, size in enumerate(split_sizes(node, shape[axis], flow.settled(node, 1, "sizes"))):
        parts.append(_cut(flow, value, axis, begin, begin + size, f"{node.name}/{number}"))
        begin += size
    return parts


def pad(flow: Flow, node: Node) -> Value:
    """Pad: PAD, PADV2, MIRROR_PAD, or GATHER of the places that it repeats; negative amounts are cut."""
    value, shape = flow.value(node.inputs[0]), flow.shape(node.inputs[0])
    given = [flow.settled(node, place, "amount") for place in range(1, len(node.inputs))]
    pairs, fill = padding(node, len(shape), *given)
    mode = node.text("mode", "constant")
    if any(min(pair) < 0 for pair in pairs):
        cuts = [(max(-before, 0), size - max(-behind, 0)) for size, (before, behind) in zip(shape, pairs, strict=True)]
        if mode != "constant":
            node.refuse("it cuts and repeats at once")
        begins, ends = (list(each) for each in zip(*(cuts[axis] for axis in value.order), strict=True))
        value = Value(flow.net.sliced(value.index, begins, ends, f"{node.name}/cut"), value.order)
        pairs = [(max(before, 0), max(behind, 0)) for before, behind in pairs]
    ordered = [pairs[axis] for axis in value.order]
    if not any(any(pair) for pair in pairs):
        return value
    if mode == "constant":
        if flow.net.dtype(value.index) != "float32" and fill:
            node.refuse("it pads integers with a number")
        index = padded(flow, value.index, ordered, fill, node.name)
        flow.net.extra.discard(index)
        return Value(index, value.order)
    if mode == "reflect":
        inputs = [value.index, flow.net.sizes(f"{node.name}/amounts", ordered)]
        sizes = [n + b + e for n, (b, e) in zip(flow.net.shape(value.index), ordered, strict=True)]
        index = flow.net.emit("MIRROR_PAD", inputs, sizes, node.name, "MirrorPadOptions", {"mode": "REFLECT"})
        return Value(index, value.order)
    for axis, pair in enumerate(pairs):
        if any(pair):
            places = numpy.pad(numpy.arange(shape[axis]), pair, mode)  # type: ignore[call-overload]
            index = gathered(flow, value.index, places, value.order.index(axis), f"{node.name}/axis_{axis}")
            value = Value(index, value.order)
    return value


def expand(flow: Flow, node: Node) -> Value:
    """Expand and Tile: TILE, where something is repeated."""
    for place in range(1, len(node.inputs)):
        flow.settled(node, place, "shape")
    before, after = flow.shape(node.inputs[0]), flow.shape(node.outputs[0])
    value = flow.value(node.inputs[0])
    if len(before) < len(after):
        wide = (*[1] * (len(after) - len(before)), *before)
        index = flow.net.reshape(flow.plain(node.inputs[0]), wide, f"{node.name}/wide", extra=True)
        value, before = Value(index, plain(len(after))), wide
    times = [after[axis] // before[axis] for axis in value.order]
    if all(each == 1 for each in times):
        return value
    inputs = [value.index, flow.net.sizes(f"{node.name}/times", times)]
    shape = [after[axis] for axis in value.order]
    return Value(flow.net.emit("TILE", inputs, shape, node.name, "TileOptions"), value.order)


def gather(flow: Flow, node: Node) -> Value:
    """Gather: a slice where the places are constant and follow each other, GATHER elsewhere."""
    name = node.inputs[0]
    rank, places = len(flow.shape(name)), flow.constant(node, 1)
    axis = node.integer("axis", 0) % rank
    if places is None:
        axes = len(flow.shape(node.inputs[1]))
        inputs = [flow.plain(name), flow.plain(node.inputs[1])]
        options: dict[str, OptionValue] = {"axis": axis, "batch_dims": 0}
        y = flow.net.emit("GATHER", inputs, flow.shape(node.outputs[0]), node.name, "GatherOptions", options)
        return Value(y, plain(rank - 1 + axes))
    value = flow.value(name)
    size = flow.shape(name)[axis]
    flat = [int(place) % size for place in places.reshape(-1)]
    if places.ndim == 0:
        return _cut(flow, value, axis, flat[0], flat[0] + 1, node.name, drop=True)
    if flat == list(range(flat[0], flat[0] + len(flat))):
        found = _cut(flow, value, axis, flat[0], flat[0] + len(flat), node.name)
    else:
        found = Value(gathered(flow, value.index, flat, value.order.index(axis), node.name), value.order)
    if places.ndim == 1:
        return found
    index = flow.turned(found, plain(rank))
    return Value(flow.net.reshape(index, flow.shape(node.outputs[0]), node.name), plain(rank - 1 + places.ndim))


def scatter(flow: Flow, node: Node) -> Value:
    """ScatterND to constant places: a Concat where it writes a rectangle, as exporters write `x[..., :n] = y`.

    Elsewhere every element is gathered from what was there or from what is written.
    """
    places, net = flow.settled(node, 1, "place"), flow.net
    shape = flow.shape(node.inputs[0])
    if node.text("reduction", "none") != "none":
        node.refuse("it combines what it writes with what was there")
    whole = numpy.arange(int(numpy.prod(shape))).reshape(shape)
    flat = whole[tuple(numpy.moveaxis(places, -1, 0))].reshape(-1)
    spots = numpy.unravel_index(flat, shape)
    corner, behind = [int(each.min()) for each in spots], [int(each.max()) + 1 for each in spots]
    part = whole[tuple(slice(b, e) for b, e in zip(corner, behind, strict=True))]
    if part.size == flat.size and (part.reshape(-1) == flat).all():
        updates = net.reshape(flow.plain(node.inputs[2]), part.shape, f"{node.name}/part", extra=True)
        return _surrounded(flow, node, updates, corner, behind)
    sources = numpy.arange(whole.size)
    sources[flat] = whole.size + numpy.arange(flat.size)
    lines = [
        net.reshape(flow.plain(node.inputs[place]), (size,), f"{node.name}/line", extra=True)
        for place, size in ((0, whole.size), (2, flat.size))
    ]
    everything = net.concatenation(lines, 0, f"{node.name}/everything")
    chosen = gathered(flow, everything, sources, 0, f"{node.name}/chosen")
    return Value(net.reshape(chosen, shape, node.name, extra=True), plain(len(shape)))


def _surrounded(flow: Flow, node: Node, part: int, corner: list[int], behind: list[int]) -> Value:
    """A rectangle with what is around it, axis by axis."""
    net, shape, whole = flow.net, flow.shape(node.inputs[0]), flow.plain(node.inputs[0])
    rank = len(shape)
    for axis in reversed(range(rank)):
        pieces = []
        for begin, end in ((0, corner[axis]), (behind[axis], shape[axis])):
            if begin < end:
                starts = [*corner[:axis], begin, *[0] * (rank - axis - 1)]
                ends = [*behind[:axis], end, *shape[axis + 1 :]]
                pieces.append((begin, net.sliced(whole, starts, ends, f"{node.name}/around")))
        if pieces:
            parts = [x for _, x in sorted([*pieces, (corner[axis], part)])]
            part = net.concatenation(parts, axis, node.name)
    return Value(part, plain(rank))


def where(flow: Flow, node: Node) -> Value:
    """Where."""
    (condition, x, y), order = flow.operands(node, node.inputs)
    shape = numpy.broadcast_shapes(*(flow.net.shape(each) for each in (condition, x, y)))
    index = flow.net.emit(
        "SELECT_V2", [condition, x, y], shape, node.name, "SelectV2Options", dtype=flow.net.dtype(x)
    )  # fmt: skip
    return Value(index, order)


def cast(flow: Flow, node: Node) -> Value:
    """Cast and CastLike."""
    dtype = cast_type(node) if node.kind == "Cast" else flow.trace.dtypes[node.inputs[1]]
    value = flow.value(node.inputs[0])
    return Value(cast_to(flow, value.index, dtype, node.name), value.order)


def cumulative_sum(flow: Flow, node: Node) -> Value:
    """CumSum."""
    axis, value = flow.settled(node, 1, "axis"), flow.value(node.inputs[0])
    place = value.order.index(int(axis.reshape(-1)[0]) % len(value.order))
    options: dict[str, OptionValue] = {
        "exclusive": bool(node.integer("exclusive", 0)), "reverse": bool(node.integer("reverse", 0)),
    }  # fmt: skip
    inputs = [value.index, flow.net.sizes(f"{node.name}/axis", place)]
    y = flow.net.emit("CUMSUM", inputs, flow.net.shape(value.index), node.name, "CumsumOptions", options)
    return Value(y, value.order)


SHAPES: dict[str, Any] = {
    "Reshape": reshaped, "Flatten": reshaped, "Squeeze": reshaped, "Unsqueeze": reshaped, "Transpose": transpose,
    "Identity": same, "Dropout": same, "Concat": concat, "Slice": sliced, "Split": split, "Pad": pad,
    "Expand": expand, "Tile": expand, "Gather": gather, "ScatterND": scatter, "Where": where, "Cast": cast,
    "CastLike": cast, "CumSum": cumulative_sum,
}  # fmt: skip

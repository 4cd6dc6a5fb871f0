"""Layers of Keras that pool, pad, cut, resize and reorder."""

import math
from typing import Any

from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer
from mlia.graph.formats.keras_layers_convolution import linear, planar


def pooling(kind: str, rank: int) -> Any:
    """MaxPooling and AveragePooling along one or two axes."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        window = layer.pair("pool_size", 2, rank)
        stride = window if layer.config.get("strides") is None else layer.pair("strides", 1, rank)
        layer.demand("padding", "valid", "same")
        padding = str(layer.config.get("padding", "valid")).upper()
        y = planar(net, layer, x, rank)
        y = net.pool(kind, y, window, stride, padding, layer.name if rank == 2 else f"{layer.name}/planar")
        return linear(net, y, rank, layer.name)

    return build


def global_pooling(kind: str, rank: int) -> Any:
    """GlobalAveragePooling and GlobalMaxPooling: MEAN or REDUCE_MAX over all axes between batch and channels."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        layer.demand("data_format", "channels_last", None)
        layer.expect(net.shape(x), rank + 2)
        return net.reduce(kind, x, range(1, rank + 1), layer.name, keep=layer.flag("keepdims"))

    return build


def zero_padding(rank: int) -> Any:
    """ZeroPadding1D and 2D."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        return net.pad(x, _amounts(net, layer, x, "padding", rank), layer.name)

    return build


def cropping(rank: int) -> Any:
    """Cropping1D and 2D."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        return net.crop(x, _amounts(net, layer, x, "cropping", rank), layer.name)

    return build


def up_sampling(rank: int) -> Any:
    """UpSampling1D and 2D by whole factors."""

    def build(net: LayerBuilder, layer: Layer, x: int) -> int:
        layer.demand("interpolation", "nearest", "bilinear")
        factors = layer.pair("size", 2, rank)
        y = planar(net, layer, x, rank)
        _, height, width, _ = net.shape(y)
        size = (height * factors[0], width * factors[1])
        name = layer.name if rank == 2 else f"{layer.name}/planar"
        # Of a whole factor, all ways to find the nearest point agree; the plainest one runs everywhere.
        nearest = layer.config.get("interpolation", "nearest") == "nearest"
        return linear(net, _resize(net, y, size, name, nearest, half_pixel=not nearest), rank, layer.name)

    return build


def resizing(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Resizing to a fixed size."""
    layer.demand("data_format", "channels_last", None)
    layer.demand("interpolation", "bilinear", "nearest")
    for option in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"):
        layer.demand(option, False, None)
    layer.expect(net.shape(x), 4)
    size = (int(layer.config["height"]), int(layer.config["width"]))
    if size == net.shape(x)[1:3]:
        return x
    return _resize(net, x, size, layer.name, layer.config.get("interpolation") == "nearest", half_pixel=True)


def flatten(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Flatten: all axes but the batch become one."""
    layer.demand("data_format", "channels_last", None)
    batch, *rest = net.shape(x)
    return net.reshape(x, (batch, math.prod(rest)), layer.name)


def reshape(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Reshape of what is behind the batch."""
    batch = net.shape(x)[0]
    return net.reshape(x, completed(net, layer, x, (batch, *layer.config["target_shape"])), layer.name)


def completed(net: LayerBuilder, layer: Layer, x: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with its one -1 computed."""
    known = math.prod(size for size in shape if size != -1)
    elements = math.prod(net.shape(x))
    if shape.count(-1) > 1 or min(shape, default=1) < -1 or known == 0 or elements % known:
        layer.refuse(f"it reshapes {net.shape(x)} to {shape}")
    return tuple(elements // known if size == -1 else size for size in shape)


def permute(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Permute: axes are counted from 1, the batch stays."""
    return net.transpose(x, [0, *layer.config["dims"]], layer.name)


def repeat_vector(net: LayerBuilder, layer: Layer, x: int) -> int:
    """RepeatVector: (B, C) to (B, n, C)."""
    layer.expect(net.shape(x), 2)
    batch, channels = net.shape(x)
    times = int(layer.config["n"])
    y = net.reshape(x, (batch, 1, channels), f"{layer.name}/expand")
    return net.emit(
        "TILE", [y, net.sizes(f"{layer.name}/times", [1, times, 1])], (batch, times, channels), layer.name,
        "TileOptions",
    )  # fmt: skip


def embedding(net: LayerBuilder, layer: Layer, x: int) -> int:
    """Embedding: rows of a table, by integer."""
    layer.demand("mask_zero", False, None)
    if net.dtype(x) != "int32":
        layer.refuse(f"its input is {net.dtype(x)} and not int32")
    (table,) = layer.arrays((None, int(layer.config["output_dim"])))
    rows = net.weight(f"{layer.name}/table", layer.weights[0], table)
    shape = (*net.shape(x), table.shape[1])
    return net.emit("GATHER", [rows, x], shape, layer.name, "GatherOptions", {"axis": 0})


def _amounts(net: LayerBuilder, layer: Layer, x: int, key: str, rank: int) -> list[tuple[int, int]]:
    """(before, after) for each axis of the tensor, from the three ways in which Keras states them."""
    layer.demand("data_format", "channels_last", None)
    layer.expect(net.shape(x), rank + 2)
    value = layer.config.get(key, 1)
    if isinstance(value, int):
        pairs = [(value, value)] * rank
    elif rank == 1:
        before, after = value
        pairs = [(before, after)]
    else:
        pairs = [(each, each) if isinstance(each, int) else (each[0], each[1]) for each in value]
    if len(pairs) != rank or not all(isinstance(n, int) and n >= 0 for pair in pairs for n in pair):
        layer.refuse(f"its {key} is {value!r}")
    return [(0, 0), *pairs, (0, 0)]


def _resize(net: LayerBuilder, x: int, size: tuple[int, int], name: str, nearest: bool, *, half_pixel: bool) -> int:
    batch, _, _, channels = net.shape(x)
    kind, table = (
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
        if nearest
        else ("RESIZE_BILINEAR", "ResizeBilinearOptions")
    )
    return net.emit(
        kind, [x, net.sizes(f"{name}/size", size)], (batch, *size, channels), name, table,
        {"align_corners": False, "half_pixel_centers": half_pixel}, version=3 if half_pixel else 1,
    )  # fmt: skip

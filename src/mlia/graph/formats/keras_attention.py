"""MultiHeadAttention of Keras, written as the matrix products that it is."""

import math
from collections.abc import Sequence
from typing import Any

from mlia.graph.formats.keras_activations import softmax
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer


def multi_head_attention(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> int:
    """Attention of query (B, T, C) over value (B, S, D) and key (B, S, E), which is the value where none is given.

    The weights are kernel and bias of query, key, value and output, as get_weights() orders them. The factor
    1 / sqrt(key_dim) is in the query's weights.

    Raises:
        ModelError: it attends along other axes than the only one of time, or its weights do not fit.
    """
    if len(inputs) not in (2, 3):
        layer.refuse(f"it has {len(inputs)} inputs instead of query, value and key")
    query, value, key = (*inputs, inputs[1])[:3]
    if any(len(net.shape(each)) != 3 for each in (query, value, key)) or not _along_time(layer.config):
        layer.refuse("it attends along other axes than the one of time")
    heads, width = int(layer.config["num_heads"]), int(layer.config["key_dim"])
    depth = int(layer.config.get("value_dim") or width)
    biased = layer.flag("use_bias", True)
    shapes: list[tuple[int | None, ...]] = []
    for each, size in ((query, width), (key, width), (value, depth)):
        shapes += [(net.shape(each)[-1], heads, size), (heads, size)][: 1 + biased]
    sizes = _output_sizes(layer.config.get("output_shape"), net.shape(query)[-1])
    arrays = layer.arrays(*shapes, *[(heads, depth, *sizes), sizes][: 1 + biased])
    pairs = [(arrays[place], arrays[place + 1] if biased else None) for place in range(0, len(arrays), 1 + biased)]

    def projected(x: int, number: int, part: str, factor: float = 1.0) -> int:
        kernel, bias = pairs[number]
        name = f"{layer.name}/{part}"
        y = net.dense(x, *_dense_weights(net, layer, name, kernel * factor, bias, factor), name)
        batch, steps = net.shape(x)[:2]
        y = net.reshape(y, (batch, steps, heads, kernel.shape[-1]), f"{name}/heads")
        return net.transpose(y, (0, 2, 1, 3), f"{name}/by_head")

    scaled = projected(query, 0, "query", 1 / math.sqrt(width))
    keys, values = projected(key, 1, "key"), projected(value, 2, "value")
    batch, steps, seen = net.shape(query)[0], net.shape(query)[1], net.shape(value)[1]
    if net.shape(key)[1] != seen or {net.shape(value)[0], net.shape(key)[0]} != {batch}:
        layer.refuse(f"its query, value and key are {[net.shape(each) for each in (query, value, key)]}")
    scores = _product(net, scaled, keys, (batch, heads, steps, seen), f"{layer.name}/scores", turned=True)
    shares = softmax(net, scores, 3, f"{layer.name}/shares")
    mixed = _product(net, shares, values, (batch, heads, steps, depth), f"{layer.name}/mixed")
    joined = net.reshape(
        net.transpose(mixed, (0, 2, 1, 3), f"{layer.name}/by_step"),
        (batch, steps, heads * depth),
        f"{layer.name}/joined",
    )
    kernel, bias = pairs[3]
    flat = kernel.reshape(heads * depth, -1)
    last = layer.name if len(sizes) == 1 else f"{layer.name}/output"
    y = net.dense(joined, *_dense_weights(net, layer, f"{layer.name}/output", flat, bias), last)
    return y if len(sizes) == 1 else net.reshape(y, (batch, steps, *sizes), layer.name)


def _along_time(config: Any) -> bool:
    return config.get("attention_axes") in (None, 1, [1], (1,))


def _output_sizes(stored: Any, depth: int) -> tuple[int, ...]:
    """Keras stores nothing for the query's depth, one number, or several axes."""
    if stored is None:
        return (depth,)
    return (stored,) if isinstance(stored, int) else tuple(int(size) for size in stored)


def _dense_weights(
    net: LayerBuilder, layer: Layer, name: str, kernel: Any, bias: Any, factor: float = 1.0
) -> tuple[int, int | None]:
    """The weights (units, depth) and the bias of a FULLY_CONNECTED; the same for each call of the layer."""
    source = layer.weights[0]
    weights = net.weight(f"{name}/kernel", source, kernel.reshape(len(kernel), -1).T)
    return weights, None if bias is None else net.weight(f"{name}/bias", source, bias.reshape(-1) * factor)


def _product(net: LayerBuilder, x: int, y: int, shape: tuple[int, ...], name: str, turned: bool = False) -> int:
    return net.emit("BATCH_MATMUL", [x, y], shape, name, "BatchMatMulOptions", {"adj_x": False, "adj_y": turned})

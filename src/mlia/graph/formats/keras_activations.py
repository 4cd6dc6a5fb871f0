"""Activation functions of Keras as TFLite operators, composed where TFLite has none of its own."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_Function: TypeAlias = Callable[[LayerBuilder, int, str], int]


def activation(net: LayerBuilder, layer: Layer, x: int, spec: Any, name: str) -> int:
    """Apply the activation that a layer's configuration names; "linear" and None give the tensor itself.

    Raises:
        ModelError: there is no such activation.
    """
    called, options = _parts(layer, spec)
    if called in ("linear", None):
        return x
    if called == "hard_sigmoid" and layer.generation == 2:
        called = "hard_sigmoid_2"
    if called == "softmax":
        return softmax(net, x, len(net.shape(x)) - 1, name)
    if called == "elu" and options.get("alpha", 1.0) != 1.0:
        return elu(net, x, float(options["alpha"]), name)
    if called not in _FUNCTIONS:
        layer.refuse(f"the activation {called!r} is not read")
    return _FUNCTIONS[called](net, x, name)


def has_activation(layer: Layer, key: str = "activation") -> bool:
    """Whether a layer applies anything but the identity at its end."""
    return _parts(layer, layer.config.get(key))[0] not in ("linear", None)


def name_of(layer: Layer, key: str, default: str) -> str:
    """The name of the activation that an option holds."""
    called = _parts(layer, layer.config.get(key, default))[0]
    return called or "linear"


def leaky_relu(net: LayerBuilder, x: int, slope: float, name: str) -> int:
    """LEAKY_RELU: x where positive, slope * x elsewhere."""
    return net.emit("LEAKY_RELU", [x], net.shape(x), name, "LeakyReluOptions", {"alpha": slope})


def elu(net: LayerBuilder, x: int, alpha: float, name: str, scale: float = 1.0) -> int:
    """scale * (x where positive, alpha * (exp(x) - 1) elsewhere); TFLite's ELU has an alpha of 1."""
    if alpha == scale == 1.0:
        return net.unary("ELU", x, name)
    curve = net.scaled(net.unary("ELU", x, f"{name}/elu"), scale * alpha, f"{name}/curve")
    line = net.scaled(net.unary("RELU", x, f"{name}/relu"), scale * (1 - alpha), f"{name}/line")
    return net.binary("ADD", curve, line, name)


def softmax(net: LayerBuilder, x: int, axis: int, name: str) -> int:
    """SOFTMAX along one axis, which is brought to the end and back where it is not the last."""
    rank = len(net.shape(x))
    order = [other for other in range(rank) if other != axis] + [axis]
    moved = axis != rank - 1
    if moved:
        x = net.transpose(x, order, f"{name}/to_last", extra=True)
    y = net.emit("SOFTMAX", [x], net.shape(x), f"{name}/softmax" if moved else name, "SoftmaxOptions", {"beta": 1.0})
    return net.transpose(y, [order.index(each) for each in range(rank)], name, extra=True) if moved else y


def clipped(net: LayerBuilder, x: int, low: float | None, high: float | None, name: str) -> int:
    """The tensor between two bounds, either of which may be open; what TFLite has of its own is used."""
    bounds: dict[tuple[float | None, float | None], str] = {(0, None): "RELU", (0, 6): "RELU6", (-1, 1): "RELU_N1_TO_1"}
    own = bounds.get((low, high))
    if own:
        return net.unary(own, x, name)
    if low is not None:
        below = f"{name}/from" if high is not None else name
        x = net.unary("RELU", x, below) if low == 0 else net.binary("MAXIMUM", x, net.number(f"{name}/low", low), below)
    return x if high is None else net.binary("MINIMUM", x, net.number(f"{name}/high", high), name)


def _parts(layer: Layer, spec: Any) -> tuple[str | None, Mapping[str, Any]]:
    """Name and options of an activation; Keras 3 nests {"class_name": "function", "config": "relu"}."""
    if spec is None or isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping):
        config = spec.get("config")
        if spec.get("class_name") == "function" and isinstance(config, str):
            return config, {}
        if spec.get("class_name") == "Activation" and isinstance(config, Mapping):
            return _parts(layer, config.get("activation"))
    return layer.refuse(f"its activation is {spec if isinstance(spec, str) else _kind(spec)}")


def _kind(spec: Any) -> str:
    return f"an object of class {spec.get('class_name')}" if isinstance(spec, Mapping) else repr(spec)


def _hard_sigmoid(net: LayerBuilder, x: int, name: str) -> int:
    """Keras 3: relu6(x + 3) / 6."""
    return _sixth(net, net.shifted(x, 3.0, f"{name}/shift"), name)


def _hard_sigmoid_2(net: LayerBuilder, x: int, name: str) -> int:
    """Keras 2: 0.2 x + 0.5 between 0 and 1, which is relu6(1.2 x + 3) / 6."""
    return _sixth(net, net.shifted(net.scaled(x, 1.2, f"{name}/scale"), 3.0, f"{name}/shift"), name)


def _sixth(net: LayerBuilder, x: int, name: str) -> int:
    return net.scaled(net.unary("RELU6", x, f"{name}/relu6"), 1 / 6, name)


def _silu(net: LayerBuilder, x: int, name: str) -> int:
    return net.binary("MUL", x, net.unary("LOGISTIC", x, f"{name}/sigmoid"), name)


def _softplus(net: LayerBuilder, x: int, name: str) -> int:
    """log(1 + exp(x)) as relu(x) + log(1 + exp(-|x|)), which does not overflow."""
    small = net.unary("EXP", net.unary("NEG", net.unary("ABS", x, f"{name}/abs"), f"{name}/neg"), f"{name}/exp")
    log = net.unary("LOG", net.shifted(small, 1.0, f"{name}/one_more"), f"{name}/log")
    return net.binary("ADD", net.unary("RELU", x, f"{name}/relu"), log, name)


def _mish(net: LayerBuilder, x: int, name: str) -> int:
    return net.binary("MUL", x, net.unary("TANH", _softplus(net, x, f"{name}/softplus"), f"{name}/tanh"), name)


def _softsign(net: LayerBuilder, x: int, name: str) -> int:
    below = net.shifted(net.unary("ABS", x, f"{name}/abs"), 1.0, f"{name}/one_more")
    return net.binary("DIV", x, below, name)


def _gelu(net: LayerBuilder, x: int, name: str) -> int:
    return net.emit("GELU", [x], net.shape(x), name, "GeluOptions", {"approximate": False})


def _own(kind: str) -> _Function:
    return lambda net, x, name: net.unary(kind, x, name)


_FUNCTIONS: Mapping[str, _Function] = {
    "relu": _own("RELU"),
    "relu6": _own("RELU6"),
    "hard_tanh": _own("RELU_N1_TO_1"),
    "leaky_relu": lambda net, x, name: leaky_relu(net, x, 0.2, name),
    "elu": _own("ELU"),
    "selu": lambda net, x, name: elu(net, x, _SELU_ALPHA, name, _SELU_SCALE),
    "sigmoid": _own("LOGISTIC"),
    "tanh": _own("TANH"),
    "exponential": _own("EXP"),
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid_2": _hard_sigmoid_2,
    "hard_silu": _own("HARD_SWISH"),
    "hard_swish": _own("HARD_SWISH"),
    "silu": _silu,
    "swish": _silu,
    "gelu": _gelu,
    "softplus": _softplus,
    "mish": _mish,
    "softsign": _softsign,
    "log_softmax": _own("LOG_SOFTMAX"),
}

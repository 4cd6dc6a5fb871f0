"""Operations between Keras layers: those of keras.ops, and Keras 2's layers around functions of TensorFlow."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy
from msgspec import Struct

from mlia.errors import ModelError
from mlia.graph.formats.keras_activations import activation, clipped, leaky_relu, softmax
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer
from mlia.graph.formats.keras_layers import DAMAGE, what_is_damaged
from mlia.graph.formats.keras_layers_shape import completed

_TENSORFLOW_LAYERS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")


class Given(Struct, frozen=True):
    """A tensor among the arguments of a call, where plain numbers are constants."""

    tensor: int


class _Arguments:
    """The arguments of an operation, by position, by name or from its configuration."""

    def __init__(self, net: LayerBuilder, layer: Layer, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        self.net, self.layer, self.name = net, layer, layer.name
        self._args, self._named = args, named
        self._used = {"name", "self"}

    def value(self, position: int, *names: str, default: Any = None) -> Any:
        """What was given under one of these names or at that position."""
        self._used.update(names)
        for name in names:
            if self._named.get(name) is not None:
                return self._named[name]
        return self._args[position] if position < len(self._args) else default

    def tensor(self, position: int, *names: str) -> int:
        """A tensor, or a constant made of a number."""
        value = self.value(position, *names)
        if isinstance(value, Given):
            return value.tensor
        if isinstance(value, int | float | list) and not isinstance(value, bool):
            return self.net.number(f"{self.name}/constant_{position}", value)
        return self.layer.refuse(f"its argument {position} is {value!r}")

    def finish(self) -> None:
        """Refuse what was given and not asked for."""
        for name, value in self._named.items():
            if name not in self._used and value is not None and value is not False:
                self.layer.refuse(f"its argument {name} is not read")


_Operation: TypeAlias = Callable[[_Arguments], int]


def is_operation(layer: Layer) -> bool:
    """Whether this is an operation and not a layer; some names, such as Add, are both."""
    if layer.kind in _TENSORFLOW_LAYERS:
        return True
    return layer.generation == 3 and layer.kind in _OPERATIONS and not {"trainable", "dtype"} & set(layer.config)


def apply_operation(net: LayerBuilder, layer: Layer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Add the operators of one operation, and return what it computes.

    Raises:
        ModelError: the operation is unknown, damaged, or does what TFLite cannot say.
    """
    try:
        operation, given = _operation(net, layer, args, kwargs)
        if operation not in _OPERATIONS:
            layer.refuse(f"the operation {operation} is not known")
        with net.call(layer.name):
            output = _OPERATIONS[operation](given)
        given.finish()
        return output
    except DAMAGE as error:
        layer.refuse(f"its configuration is damaged: {what_is_damaged(error)}")
    except ModelError as error:
        if str(error).startswith("cannot read the layer"):
            raise
        layer.refuse(str(error))


def _operation(
    net: LayerBuilder, layer: Layer, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, _Arguments]:
    """Its name as keras.ops calls it, and its arguments."""
    if layer.kind == "TFOpLambda":
        function = str(layer.config["function"])
        return _FUNCTIONS.get(function, f"tf.{function}"), _Arguments(net, layer, args, kwargs)
    if layer.kind == "SlicingOpLambda":
        return "GetItem", _Arguments(net, layer, args, kwargs)
    if layer.kind == "TensorFlowOpLayer":
        node = layer.config["node_def"]
        kind = str((json.loads(node) if isinstance(node, str) else node)["op"])
        tensors = list(args[0]) if isinstance(args[0], list) else [args[0]]
        for position, constant in sorted((int(key), value) for key, value in layer.config["constants"].items()):
            tensors.insert(position, constant)
        return _NODES.get(kind, f"tf.raw_ops.{kind}"), _Arguments(net, layer, tensors, {})
    return layer.kind, _Arguments(net, layer, args, {**layer.config, **kwargs})


def _binary(kind: str) -> _Operation:
    return lambda given: given.net.binary(kind, given.tensor(0, "x1", "x"), given.tensor(1, "x2", "y"), given.name)


def _unary(kind: str) -> _Operation:
    return lambda given: given.net.unary(kind, given.tensor(0, *_INPUT), given.name)


def _activation(name: str) -> _Operation:
    return lambda given: activation(given.net, given.layer, given.tensor(0, *_INPUT), name, given.name)


def _leaky_relu(given: _Arguments) -> int:
    slope = float(given.value(1, "negative_slope", "alpha", default=0.2))
    return leaky_relu(given.net, given.tensor(0, *_INPUT), slope, given.name)


def _gelu(given: _Arguments) -> int:
    x = given.tensor(0, *_INPUT)
    options = {"approximate": bool(given.value(1, "approximate", default=given.layer.kind == "Gelu"))}
    return given.net.emit("GELU", [x], given.net.shape(x), given.name, "GeluOptions", dict(options))


def _softmax(given: _Arguments) -> int:
    x = given.tensor(0, *_INPUT)
    rank = len(given.net.shape(x))
    return softmax(given.net, x, int(given.value(1, "axis", default=-1)) % rank, given.name)


def _clip(given: _Arguments) -> int:
    low = given.value(1, "x_min", "clip_value_min")
    high = given.value(2, "x_max", "clip_value_max")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        given.layer.refuse(f"its bounds are {low!r} and {high!r}")
    return clipped(given.net, given.tensor(0, *_INPUT, "t"), low, high, given.name)


def _reshape(given: _Arguments) -> int:
    x, shape = given.tensor(0, *_INPUT, "tensor"), given.value(1, "newshape", "shape")
    target = list(shape)
    if target and target[0] is None:
        target[0] = given.net.shape(x)[0]
    return given.net.reshape(x, completed(given.net, given.layer, x, tuple(target)), given.name)


def _transpose(given: _Arguments) -> int:
    x, order = given.tensor(0, *_INPUT, "a"), given.value(1, "axes", "perm")
    rank = len(given.net.shape(x))
    return given.net.transpose(x, [axis % rank for axis in order or range(rank - 1, -1, -1)], given.name)


def _reduction(kind: str) -> _Operation:
    def apply(given: _Arguments) -> int:
        x = given.tensor(0, *_INPUT, "input_tensor")
        axes = given.value(1, "axis")
        keep = bool(given.value(2, "keepdims", "keep_dims", default=False))
        axes = range(len(given.net.shape(x))) if axes is None else [axes] if isinstance(axes, int) else axes
        return given.net.reduce(kind, x, list(axes), given.name, keep=keep)

    return apply


def _concatenate(given: _Arguments) -> int:
    tensors = [each.tensor for each in given.value(0, "xs", "values")]
    return given.net.concatenation(tensors, int(given.value(1, "axis", default=-1)), given.name)


def _expand_dims(given: _Arguments) -> int:
    x, axis = given.tensor(0, *_INPUT), given.value(1, "axis")
    shape = list(given.net.shape(x))
    shape.insert(axis % (len(shape) + 1), 1)
    return given.net.reshape(x, shape, given.name)


def _squeeze(given: _Arguments) -> int:
    x, axes = given.tensor(0, *_INPUT), given.value(1, "axis")
    shape = given.net.shape(x)
    chosen = [axis for axis, size in enumerate(shape) if size == 1] if axes is None else axes
    chosen = {axis % len(shape) for axis in ([chosen] if isinstance(chosen, int) else chosen)}
    return given.net.reshape(x, [size for axis, size in enumerate(shape) if axis not in chosen], given.name)


def _power(given: _Arguments) -> int:
    exponent = given.value(1, "x2", "y")
    if exponent == 2:
        x = given.tensor(0, "x1", "x")
        return given.net.binary("MUL", x, x, given.name)
    return _binary("POW")(given)


def _square(given: _Arguments) -> int:
    x = given.tensor(0, *_INPUT)
    return given.net.binary("MUL", x, x, given.name)


def _pad(given: _Arguments) -> int:
    amounts = given.value(1, "pad_width", "paddings")
    mode, value = given.value(2, "mode", default="constant"), given.value(3, "constant_values")
    if str(mode).lower() != "constant" or value not in (None, 0):
        given.layer.refuse(f"it pads by {value!r} in the mode {mode}")
    return given.net.pad(given.tensor(0, *_INPUT, "tensor"), [(before, after) for before, after in amounts], given.name)


def _matmul(given: _Arguments) -> int:
    x, y = given.tensor(0, "x1", "a"), given.tensor(1, "x2", "b")
    net, first, second = given.net, given.net.shape(x), given.net.shape(y)
    left, right = bool(given.value(2, "transpose_a", default=False)), bool(given.value(3, "transpose_b", default=False))
    if min(len(first), len(second)) < 2 or first[-2 if left else -1] != second[-1 if right else -2]:
        given.layer.refuse(f"it multiplies the shapes {first} and {second}")
    outer = numpy.broadcast_shapes(first[:-2], second[:-2])
    shape = (*outer, first[-1 if left else -2], second[-2 if right else -1])
    return net.emit("BATCH_MATMUL", [x, y], shape, given.name, "BatchMatMulOptions", {"adj_x": left, "adj_y": right})


def _get_item(given: _Arguments) -> int:
    """Slices and single indexes, none of which are tensors."""
    x, key = given.tensor(0, *_INPUT, "tensor"), given.value(1, "key", "slice_spec")
    shape = given.net.shape(x)
    parts = list(key) if isinstance(key, list | tuple) else [key]
    if len(parts) > len(shape) or not all(isinstance(part, int | slice) for part in parts):
        given.layer.refuse("it takes an item by something else than numbers and slices of numbers")
    parts += [slice(None)] * (len(shape) - len(parts))
    begins, ends, steps, drop = [], [], [], []
    for axis, (part, size) in enumerate(zip(parts, shape, strict=True)):
        chosen = slice(part % size, part % size + 1) if isinstance(part, int) else part
        if isinstance(part, int):
            drop.append(axis)
            if not -size <= part < size:
                given.layer.refuse(f"it takes item {part} of {size}")
        begin, end, step = chosen.indices(size)
        if step < 1:
            given.layer.refuse("it takes items backwards")
        begins.append(begin)
        ends.append(end)
        steps.append(step)
    return given.net.sliced(x, begins, ends, given.name, steps=steps, drop=drop)


_INPUT = ("x", "input", "inputs", "features", "logits")

_OPERATIONS: Mapping[str, _Operation] = {
    "Add": _binary("ADD"), "Subtract": _binary("SUB"), "Multiply": _binary("MUL"), "Divide": _binary("DIV"),
    "TrueDivide": _binary("DIV"), "Maximum": _binary("MAXIMUM"), "Minimum": _binary("MINIMUM"), "Power": _power,
    "Absolute": _unary("ABS"), "Abs": _unary("ABS"), "Negative": _unary("NEG"), "Exp": _unary("EXP"),
    "Log": _unary("LOG"), "Sqrt": _unary("SQRT"), "Rsqrt": _unary("RSQRT"), "Square": _square,
    "Relu": _activation("relu"), "Relu6": _activation("relu6"), "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"), "Silu": _activation("silu"), "HardSilu": _activation("hard_silu"),
    "HardSigmoid": _activation("hard_sigmoid"), "Softplus": _activation("softplus"), "Elu": _activation("elu"),
    "Softsign": _activation("softsign"), "Selu": _activation("selu"), "LeakyRelu": _leaky_relu, "Gelu": _gelu,
    "Softmax": _softmax, "Clip": _clip, "Reshape": _reshape, "Transpose": _transpose, "Mean": _reduction("MEAN"),
    "Sum": _reduction("SUM"), "Max": _reduction("REDUCE_MAX"), "Min": _reduction("REDUCE_MIN"),
    "Concatenate": _concatenate, "ExpandDims": _expand_dims, "Squeeze": _squeeze, "Pad": _pad, "Matmul": _matmul,
    "GetItem": _get_item, "GELU": _gelu,
}  # fmt: skip

# What Keras 2 calls the functions of TensorFlow that it wraps.
_FUNCTIONS = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply",
    "math.truediv": "Divide", "math.divide": "Divide", "math.maximum": "Maximum", "math.minimum": "Minimum",
    "math.pow": "Power", "math.abs": "Abs", "math.negative": "Negative", "math.exp": "Exp", "math.log": "Log",
    "math.sqrt": "Sqrt", "math.rsqrt": "Rsqrt", "math.square": "Square", "nn.relu": "Relu", "nn.relu6": "Relu6",
    "math.sigmoid": "Sigmoid", "math.tanh": "Tanh", "nn.silu": "Silu", "nn.softplus": "Softplus",
    "math.softplus": "Softplus", "nn.elu": "Elu", "nn.selu": "Selu", "nn.softsign": "Softsign",
    "nn.leaky_relu": "LeakyRelu", "nn.gelu": "GELU", "nn.softmax": "Softmax", "clip_by_value": "Clip",
    "reshape": "Reshape", "transpose": "Transpose", "math.reduce_mean": "Mean", "math.reduce_sum": "Sum",
    "math.reduce_max": "Max", "math.reduce_min": "Min", "concat": "Concatenate", "expand_dims": "ExpandDims",
    "squeeze": "Squeeze", "pad": "Pad", "linalg.matmul": "Matmul", "__operators__.getitem": "GetItem",
}  # fmt: skip

_NODES = {
    "Add": "Add", "AddV2": "Add", "Sub": "Subtract", "Mul": "Multiply", "RealDiv": "Divide", "Maximum": "Maximum",
    "Minimum": "Minimum", "Relu": "Relu", "Relu6": "Relu6", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Exp": "Exp",
    "Sqrt": "Sqrt", "Rsqrt": "Rsqrt", "Square": "Square", "Neg": "Negative", "Abs": "Abs", "Softmax": "Softmax",
    "Elu": "Elu", "Selu": "Selu", "Softplus": "Softplus", "Softsign": "Softsign", "Log": "Log",
    "Reshape": "Reshape", "Transpose": "Transpose",
}  # fmt: skip

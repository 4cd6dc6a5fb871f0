"""ONNX's arithmetic on elements as TFLite operators, in whatever order the axes are."""

from typing import Any

import numpy

from mlia.graph.formats.onnx_flow import Flow, Value
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference_arithmetic import clip_limits
from mlia.graph.graph import OptionValue

_LOGICAL = {
    "EQUAL": "EqualOptions", "LESS": "LessOptions", "GREATER": "GreaterOptions", "LESS_EQUAL": "LessEqualOptions",
    "GREATER_EQUAL": "GreaterEqualOptions", "LOGICAL_AND": "LogicalAndOptions", "LOGICAL_OR": "LogicalOrOptions",
    "NOT_EQUAL": "NotEqualOptions",
}  # fmt: skip


def binary(kind: str) -> Any:
    """An operator on two tensors that broadcasts."""

    def build(flow: Flow, node: Node) -> Value:
        x, y, order = _pair(flow, node)
        if flow.net.dtype(x) not in ("float32", "int32", "bool"):
            node.refuse(f"it computes with {flow.net.dtype(x)}")
        if (kind == "DIV" and flow.net.dtype(x) == "int32") or node.integer("fmod", 0):
            node.refuse("it divides otherwise than TFLite does")
        if kind == "DIV":
            return Value(divided(flow, x, y, node.name), order)
        return Value(combined(flow, kind, x, y, node.name), order)

    return build


def divided(flow: Flow, x: int, y: int, name: str) -> int:
    """DIV as a product where the divisor is constant or a root: few NPUs and quantizers know DIV."""
    net, divisor = flow.net, flow.net.tensors[y]
    root = next((op for op in reversed(net.operators) if op.outputs[0] == y and op.kind == "SQRT"), None)
    if root is not None:
        return net.binary("MUL", x, net.unary("RSQRT", root.inputs[0], f"{name}/root"), name)
    if divisor.is_constant and not net.tensors[x].is_constant:
        values: Any = numpy.frombuffer(divisor.data, numpy.float32).reshape(divisor.shape)
        if (abs(values) > 1e-30).all():
            return net.binary("MUL", x, net.constant(f"{name}/factor", 1 / values), name)
    return net.binary("DIV", x, y, name)


def _pair(flow: Flow, node: Node) -> tuple[int, int, tuple[int, ...]]:
    names = list(node.inputs[:2])
    if node.opset < 7 and node.integer("broadcast", 0) and flow.shape(names[1]):
        # The second is broadcast from `axis` on, not from behind.
        rank, own = len(flow.shape(names[0])), flow.shape(names[1])
        axis = node.integer("axis", rank - len(own)) % rank
        wide = (*[1] * axis, *own, *[1] * (rank - axis - len(own)))
        value = flow.value(names[0])
        array = flow.constant(node, 1)
        if array is None:
            node.refuse("it broadcasts a computed tensor in the way of versions before 7")
        y = flow.net.constant(names[1], array.reshape(wide).transpose(value.order))
        return value.index, y, value.order
    (x, y), order = flow.operands(node, names)
    return x, y, order


def combined(flow: Flow, kind: str, x: int, y: int, name: str) -> int:
    """Any operator on two tensors of one order."""
    if kind in _LOGICAL:
        shape = numpy.broadcast_shapes(flow.net.shape(x), flow.net.shape(y))
        return flow.net.emit(kind, [x, y], shape, name, _LOGICAL[kind], dtype="bool")
    if kind == "FLOOR_MOD":
        shape = numpy.broadcast_shapes(flow.net.shape(x), flow.net.shape(y))
        return flow.net.emit(kind, [x, y], shape, name, "FloorModOptions")
    return flow.net.binary(kind, x, y, name)


def variadic(kind: str) -> Any:
    """Sum, Max, Min and Mean of any number of tensors."""

    def build(flow: Flow, node: Node) -> Value:
        tensors, order = flow.operands(node, node.inputs)
        result = tensors[0]
        for each in tensors[1:]:
            result = flow.net.binary(kind, result, each, node.name)
        if node.kind == "Mean":
            result = flow.net.scaled(result, 1 / len(tensors), node.name)
        return Value(result, order)

    return build


def unary(kind: str) -> Any:
    """An operator on each element."""

    def build(flow: Flow, node: Node) -> Value:
        value = flow.value(node.inputs[0])
        return Value(flow.net.unary(kind, value.index, node.name), value.order)

    return build


def composed(function: Any) -> Any:
    """An operator on each element that TFLite has in parts: `function(net, node, x)`."""

    def build(flow: Flow, node: Node) -> Value:
        value = flow.value(node.inputs[0])
        return Value(function(flow.net, node, value.index), value.order)

    return build


def power(flow: Flow, node: Node) -> Value:
    """Pow; squares and roots as what they are."""
    exponent = flow.constant(node, 1)
    value = flow.value(node.inputs[0]) if node.inputs[0] not in flow.trace.constants else None
    if exponent is not None and exponent.size == 1 and value is not None:
        known = float(exponent.reshape(-1)[0])
        if known == 2:
            return Value(flow.net.binary("MUL", value.index, value.index, node.name), value.order)
        if known in (0.5, -0.5):
            return Value(flow.net.unary("SQRT" if known > 0 else "RSQRT", value.index, node.name), value.order)
        if known == 1:
            return value
        if known == 3:
            square = flow.net.binary("MUL", value.index, value.index, f"{node.name}/square")
            return Value(flow.net.binary("MUL", square, value.index, node.name), value.order)
        if known == -1:
            return Value(
                flow.net.binary("DIV", flow.net.number(f"{node.name}/one", 1.0), value.index, node.name), value.order
            )
    x, y, order = _pair(flow, node)
    if flow.net.dtype(x) != flow.net.dtype(y):
        y = cast(flow, y, flow.net.dtype(x), f"{node.name}/exponent")
    return Value(flow.net.binary("POW", x, y, node.name), order)


def cast(flow: Flow, x: int, dtype: str, name: str) -> int:
    """CAST, where the type is another one."""
    names = {"int64": "int32", "uint64": "int32", "uint32": "int32"}
    dtype, own = names.get(dtype, dtype), flow.net.dtype(x)
    if dtype == own:
        return x
    options: dict[str, OptionValue] = {"in_data_type": own.upper(), "out_data_type": dtype.upper()}
    return flow.net.emit("CAST", [x], flow.net.shape(x), name, "CastOptions", options, dtype=dtype)


def clip(flow: Flow, node: Node) -> Value:
    """Clip: RELU and its relatives, or MAXIMUM and MINIMUM."""
    low, high = clip_limits(node, flow.settled(node, 1, "limit"), flow.settled(node, 2, "limit"))
    value = flow.value(node.inputs[0])
    kind = {(0.0, None): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}.get((low, high))  # type: ignore[arg-type]
    if kind and flow.net.dtype(value.index) == "float32":
        return Value(flow.net.unary(kind, value.index, node.name), value.order)
    x, dtype = value.index, flow.net.dtype(value.index)
    for limit, what in ((low, "MAXIMUM"), (high, "MINIMUM")):
        if limit is not None:
            x = flow.net.binary(what, x, flow.net.constant(f"{node.name}/limit", numpy.array(limit, dtype)), node.name)
    return Value(x, value.order)


def prelu(flow: Flow, node: Node) -> Value:
    """PRelu; its slopes broadcast from behind."""
    slopes = flow.settled(node, 1, "slope")
    value, rank = flow.value(node.inputs[0]), len(flow.shape(node.inputs[0]))
    if node.opset < 7 and slopes.ndim == 1 and slopes.size > 1:
        slopes = slopes.reshape(-1, *[1] * (rank - 2))
    wide = slopes.reshape(*[1] * (rank - slopes.ndim), *slopes.shape).transpose(value.order)
    if wide.size == 1:
        options: dict[str, OptionValue] = {"alpha": float(wide.reshape(-1)[0])}
        y = flow.net.emit(
            "LEAKY_RELU", [value.index], flow.net.shape(value.index), node.name, "LeakyReluOptions", options
        )
        return Value(y, value.order)
    alpha = flow.net.constant(f"{node.name}/slopes", wide[0] if rank > 1 and wide.shape[0] == 1 else wide)
    return Value(flow.net.emit("PRELU", [value.index, alpha], flow.net.shape(value.index), node.name), value.order)


def _hard_sigmoid(net: Any, node: Node, x: int) -> int:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return int(
            net.scaled(
                net.unary("RELU6", net.shifted(x, 3.0, f"{node.name}/shifted"), f"{node.name}/six"), 1 / 6, node.name
            )
        )
    line = net.shifted(net.scaled(x, alpha, f"{node.name}/scaled"), beta, f"{node.name}/line")
    return int(
        net.unary(
            "RELU", net.binary("MINIMUM", line, net.number(f"{node.name}/one", 1.0), f"{node.name}/upper"), node.name
        )
    )


def _softplus(net: Any, node: Node, x: int, name: str) -> int:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    low = net.unary("EXP", net.scaled(net.unary("ABS", x, f"{name}/absolute"), -1.0, f"{name}/negative"), f"{name}/exp")
    rest = net.unary("LOG", net.shifted(low, 1.0, f"{name}/more"), f"{name}/log")
    return int(net.binary("ADD", net.unary("RELU", x, f"{name}/positive"), rest, name))


def _elu(net: Any, node: Node, x: int, alpha: float, gamma: float = 1.0) -> int:
    if alpha == 1 and gamma == 1:
        return int(net.unary("ELU", x, node.name))
    name = node.name
    positive = net.scaled(net.unary("RELU", x, f"{name}/positive"), gamma, f"{name}/upper")
    below = net.unary(
        "ELU", net.binary("MINIMUM", x, net.number(f"{name}/zero", 0.0), f"{name}/negative"), f"{name}/elu"
    )
    return int(net.binary("ADD", positive, net.scaled(below, alpha * gamma, f"{name}/lower"), name))


def _celu(net: Any, node: Node, x: int) -> int:
    alpha, name = node.number("alpha", 1.0), node.name
    low = net.binary("MINIMUM", x, net.number(f"{name}/zero", 0.0), f"{name}/negative")
    below = net.scaled(
        net.unary("ELU", net.scaled(low, 1 / alpha, f"{name}/scaled"), f"{name}/elu"), alpha, f"{name}/lower"
    )
    return int(net.binary("ADD", net.unary("RELU", x, f"{name}/positive"), below, name))


def _thresholded(net: Any, node: Node, x: int) -> int:
    limit = net.number(f"{node.name}/alpha", node.number("alpha", 1.0))
    above = net.emit("GREATER", [x, limit], net.shape(x), f"{node.name}/above", "GreaterOptions", dtype="bool")
    zeros = net.number(f"{node.name}/zero", 0.0)
    return int(net.emit("SELECT_V2", [above, x, zeros], net.shape(x), node.name, "SelectV2Options", dtype="float32"))


def _leaky(net: Any, node: Node, x: int) -> int:
    options = {"alpha": node.number("alpha", 0.01)}
    return int(net.emit("LEAKY_RELU", [x], net.shape(x), node.name, "LeakyReluOptions", options))


def _gelu(net: Any, node: Node, x: int) -> int:
    options = {"approximate": node.text("approximate", "none") == "tanh"}
    return int(net.emit("GELU", [x], net.shape(x), node.name, "GeluOptions", options))


def _swish(net: Any, node: Node, x: int) -> int:
    alpha = node.number("alpha", 1.0)
    inner = x if alpha == 1 else net.scaled(x, alpha, f"{node.name}/scaled")
    return int(net.binary("MUL", x, net.unary("LOGISTIC", inner, f"{node.name}/gate"), node.name))


def _mish(net: Any, node: Node, x: int) -> int:
    return int(
        net.binary(
            "MUL", x, net.unary("TANH", _softplus(net, node, x, f"{node.name}/plus"), f"{node.name}/gate"), node.name
        )
    )


def _softsign(net: Any, node: Node, x: int) -> int:
    return int(
        net.binary(
            "DIV", x, net.shifted(net.unary("ABS", x, f"{node.name}/absolute"), 1.0, f"{node.name}/more"), node.name
        )
    )


def _reciprocal(net: Any, node: Node, x: int) -> int:
    return int(net.binary("DIV", net.number(f"{node.name}/one", 1.0), x, node.name))


ARITHMETIC: dict[str, Any] = {
    "Add": binary("ADD"), "Sub": binary("SUB"), "Mul": binary("MUL"), "Div": binary("DIV"), "Pow": power,
    "Mod": binary("FLOOR_MOD"), "Equal": binary("EQUAL"), "Less": binary("LESS"), "Greater": binary("GREATER"),
    "LessOrEqual": binary("LESS_EQUAL"), "GreaterOrEqual": binary("GREATER_EQUAL"), "And": binary("LOGICAL_AND"),
    "Or": binary("LOGICAL_OR"), "Xor": binary("NOT_EQUAL"), "Max": variadic("MAXIMUM"), "Min": variadic("MINIMUM"),
    "Sum": variadic("ADD"), "Mean": variadic("ADD"), "Not": unary("LOGICAL_NOT"), "Neg": unary("NEG"),
    "Abs": unary("ABS"), "Exp": unary("EXP"), "Log": unary("LOG"), "Sqrt": unary("SQRT"), "Floor": unary("FLOOR"),
    "Ceil": unary("CEIL"), "Round": unary("ROUND"), "Sign": unary("SIGN"), "Sin": unary("SIN"), "Cos": unary("COS"),
    "Tanh": unary("TANH"), "Relu": unary("RELU"), "Sigmoid": unary("LOGISTIC"), "HardSwish": unary("HARD_SWISH"),
    "HardSigmoid": composed(_hard_sigmoid), "LeakyRelu": composed(_leaky), "Gelu": composed(_gelu),
    "Swish": composed(_swish), "Mish": composed(_mish), "Softsign": composed(_softsign),
    "Softplus": composed(lambda net, node, x: _softplus(net, node, x, node.name)),
    "Elu": composed(lambda net, node, x: _elu(net, node, x, node.number("alpha", 1.0))),
    "Selu": composed(lambda net, node, x: _elu(
        net, node, x, node.number("alpha", 1.6732631921768188), node.number("gamma", 1.0507010221481323))),
    "Celu": composed(_celu), "ThresholdedRelu": composed(_thresholded), "Reciprocal": composed(_reciprocal),
    "PRelu": prelu, "Clip": clip,
}  # fmt: skip

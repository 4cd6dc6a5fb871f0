"""Rewrites of operators for which an Ethos-U has a faster one, in float models.

Cycles are Vela 5.2's estimates for 16x16x8 int8 between two 3x3 convolutions on ethos-u55-128, 6384 without the
operator.
"""

import math

import numpy
from msgspec.structs import replace

from mlia.graph.fuse import TAKING
from mlia.graph.graph import Operator, OptionValue
from mlia.transforms.rewrites.arithmetic import affine_part
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, operator

_CLOSE = 1e-6  # relative: constants such as 1/6 are rounded to float32


def division_as_multiplication(network: Network, division: Operator) -> Edit | None:
    """DIV by a constant becomes MUL by its reciprocal: Ethos-U has no division, and quantizers refuse it."""
    affine = affine_part(network, division) if division.kind == "DIV" else None
    if affine is None:
        return None
    edit = Edit(network, division, "the DIV by a constant is now a MUL by its reciprocal")
    old = network.tensor(division.inputs[1])
    reciprocal = edit.constant(f"{old.name}/reciprocal", affine.scale.reshape(old.shape).astype(numpy.float32))
    options = {ACTIVATION: division.options.get(ACTIVATION, NONE)}
    edit.put(division, operator("MUL", [affine.source, reciprocal], division.outputs[0], "MulOptions", options))
    return edit


def _scalar(network: Network, index: int) -> float | None:
    """The one number that a constant holds, everywhere; None when it holds several."""
    values = network.real(index)
    if values is None or not values.size or (values != values.flat[0]).any():
        return None
    return float(values.flat[0])


def _product(network: Network, index: int, is_root: bool) -> tuple[float, list[int]]:
    """A tensor as a constant times tensors, through MULs whose results nothing else reads."""
    maker = network.maker(index, "MUL")
    if maker is None or maker.options.get(ACTIVATION, NONE) != NONE or not (is_root or network.is_private(index)):
        return 1.0, [index]
    factor = 1.0
    leaves: list[int] = []
    for part in maker.inputs:
        scalar = _scalar(network, part)
        if scalar is not None:
            factor *= scalar
            continue
        further, more = _product(network, part, False)
        factor, leaves = factor * further, leaves + more
    return factor, leaves


def hard_swish(network: Network, found: Operator) -> Edit | None:
    """x * RELU6(x + 3) / 6 becomes HARD_SWISH: one table look-up instead of three passes over the tensor.

    MobileNetV3 has it, and converters from ONNX take it apart.
    """
    if found.kind != "MUL" or not network.is_float(found):
        return None
    factor, leaves = _product(network, found.outputs[0], True)
    if len(leaves) != 2 or abs(factor * 6 - 1) > _CLOSE:
        return None
    for source, gate in (leaves, leaves[::-1]):
        if _is_gate(network, gate, source) and network.tensor(source).shape == network.tensor(found.outputs[0]).shape:
            edit = Edit(network, found, "x * RELU6(x + 3) / 6 is now one HARD_SWISH")
            edit.put(found, operator("HARD_SWISH", [source], found.outputs[0], "HardSwishOptions"))
            return edit
    return None


def _is_gate(network: Network, gate: int, source: int) -> bool:
    relu = network.maker(gate, "RELU6")
    add = network.maker(relu.inputs[0] if relu is not None else gate, "ADD")
    affine = affine_part(network, add) if add is not None else None
    if add is None or affine is None or affine.source != source or not network.is_private(gate):
        return False
    expected = NONE if relu is not None else "RELU6"
    return affine.offset.size == 1 and affine.offset.item() == 3 and add.options.get(ACTIVATION, NONE) == expected


def leaky_relu(network: Network, found: Operator) -> Edit | None:
    """MAXIMUM(x, alpha * x) with alpha between 0 and 1 becomes LEAKY_RELU: one operator instead of two."""
    if found.kind != "MAXIMUM" or not network.is_float(found):
        return None
    for source, other in (found.inputs, found.inputs[::-1]):
        scaled = network.maker(other, "MUL")
        affine = affine_part(network, scaled) if scaled is not None else None
        if scaled is None or affine is None or affine.source != source or scaled.options.get(ACTIVATION, NONE) != NONE:
            continue
        if affine.scale.size == 1 and 0 <= affine.scale.item() <= 1 and network.is_private(other):
            alpha = affine.scale.item()
            edit = Edit(network, found, f"MAXIMUM of x and {alpha:g} x is now one LEAKY_RELU")
            edit.put(found, operator("LEAKY_RELU", [source], found.outputs[0], "LeakyReluOptions", {"alpha": alpha}))
            return edit
    return None


def clipping(network: Network, found: Operator) -> Edit | None:
    """MAXIMUM with 0 becomes RELU, MINIMUM of that with 6 becomes RELU6, which the operator in front can take up."""
    if found.kind not in ("MAXIMUM", "MINIMUM") or not network.is_float(found):
        return None
    for source, limit in (found.inputs, found.inputs[::-1]):
        scalar = _scalar(network, limit)
        if scalar is None or network.tensor(source).shape != network.tensor(found.outputs[0]).shape:
            continue
        if found.kind == "MAXIMUM" and scalar == 0:
            edit = Edit(network, found, "the MAXIMUM with 0 is now a RELU")
            edit.put(found, operator("RELU", [source], found.outputs[0]))
            return edit
        if found.kind == "MINIMUM" and scalar == 6 and network.is_private(source):
            return _clipped_at_six(network, found, source)
    return None


def _clipped_at_six(network: Network, found: Operator, source: int) -> Edit | None:
    edit = Edit(network, found, "the MINIMUM of RELU with 6 is now a RELU6")
    relu = network.maker(source, "RELU")
    if relu is not None:
        edit.put(found, operator("RELU6", relu.inputs, found.outputs[0]))
        return edit
    maker = network.maker(source)
    if maker is None or maker.kind not in TAKING or maker.options.get(ACTIVATION) != "RELU":
        return None
    edit.put(maker, replace(maker, outputs=found.outputs, options={**maker.options, ACTIVATION: "RELU6"}))
    edit.put(found)
    return edit


def square_as_multiplication(network: Network, found: Operator) -> Edit | None:
    """SQUARE and POW with 2 become MUL of x by itself: Vela leaves them to the CPU; the MUL takes 9456 cycles."""
    if found.kind not in ("SQUARE", "POW") or not network.is_float(found):
        return None
    source = found.inputs[0]
    if found.kind == "POW" and _scalar(network, found.inputs[1]) != 2:
        return None
    edit = Edit(network, found, f"the {found.kind} is now a MUL of its input by itself")
    edit.put(found, operator("MUL", [source, source], found.outputs[0], "MulOptions", {ACTIVATION: NONE}))
    return edit


def squared_difference_as_multiplication(network: Network, found: Operator) -> Edit | None:
    """SQUARED_DIFFERENCE becomes SUB and MUL: 15600 cycles and not 40848."""
    if found.kind != "SQUARED_DIFFERENCE" or not network.is_float(found):
        return None
    edit = Edit(network, found, "the SQUARED_DIFFERENCE is now SUB and MUL")
    output = network.tensor(found.outputs[0])
    difference = edit.tensor(replace(output, name=f"{output.name}/difference"))
    edit.put(
        found,
        operator("SUB", found.inputs, difference, "SubOptions", {ACTIVATION: NONE}),
        operator("MUL", [difference, difference], found.outputs[0], "MulOptions", {ACTIVATION: NONE}),
    )
    return edit


def matmul_as_fully_connected(network: Network, found: Operator) -> Edit | None:
    """BATCH_MATMUL by a constant matrix becomes FULLY_CONNECTED: 8496 cycles and not 30120, and compressed weights."""
    if found.kind != "BATCH_MATMUL" or not network.is_float(found) or found.options.get("adj_x"):
        return None
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    matrix = network.constant(found.inputs[1])
    if matrix is None or matrix.ndim < 2 or math.prod(matrix.shape[:-2]) != 1 or len(before.shape) != len(after.shape):
        return None
    matrix = matrix.reshape(matrix.shape[-2:])
    weights = matrix if found.options.get("adj_y") else matrix.T
    edit = Edit(network, found, "the BATCH_MATMUL by a constant is now a FULLY_CONNECTED")
    index = edit.constant(network.tensor(found.inputs[1]).name, weights)
    options: dict[str, OptionValue] = {ACTIVATION: NONE, "keep_num_dims": len(before.shape) > 2}
    inputs = [found.inputs[0], index, -1]
    edit.put(found, operator("FULLY_CONNECTED", inputs, found.outputs[0], "FullyConnectedOptions", options))
    return edit


def gelu(network: Network, found: Operator) -> Edit | None:
    """x * (1 + TANH(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 becomes GELU: one table look-up instead of eight operators.

    That is GELU's usual approximation by TANH (Hendrycks and Gimpel, arXiv 1606.08415), which GELU has an option for.
    """
    if found.kind != "MUL" or not network.is_float(found):
        return None
    factor, leaves = _product(network, found.outputs[0], True)
    if len(leaves) != 2 or abs(factor * 2 - 1) > _CLOSE:
        return None
    for source, gate in (leaves, leaves[::-1]):
        if (
            _is_tanh_gate(network, gate, source)
            and network.tensor(source).shape == network.tensor(found.outputs[0]).shape
        ):
            edit = Edit(network, found, "GELU in single operators is now one GELU")
            edit.put(found, operator("GELU", [source], found.outputs[0], "GeluOptions", {"approximate": True}))
            return edit
    return None


def _is_tanh_gate(network: Network, gate: int, source: int) -> bool:
    """Whether a tensor is 1 + TANH(sqrt(2 / pi) * (x + 0.044715 x^3)) of the source."""
    plus_one = network.maker(gate, "ADD")
    outer = affine_part(network, plus_one) if plus_one is not None else None
    tanh = network.maker(outer.source, "TANH") if outer is not None else None
    if plus_one is None or outer is None or tanh is None or plus_one.options.get(ACTIVATION, NONE) != NONE:
        return False
    if outer.offset.size != 1 or outer.offset.item() != 1:
        return False
    factor, leaves = _product(network, tanh.inputs[0], True)
    total = network.maker(leaves[0], "ADD") if len(leaves) == 1 else None
    if total is None or abs(factor / math.sqrt(2 / math.pi) - 1) > 1e-5:
        return False
    if total.options.get(ACTIVATION, NONE) != NONE or source not in total.inputs:
        return False
    cubic = total.inputs[1] if total.inputs[0] == source else total.inputs[0]
    factor, leaves = _product(network, cubic, True)
    return leaves == [source] * 3 and abs(factor / 0.044715 - 1) < 1e-5

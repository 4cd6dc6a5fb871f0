"""Rewrites of padding and arithmetic that a convolution can do itself."""

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.graph.graph import Operator
from mlia.transforms.calibration import Array
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
LINEAR = (*CONVOLUTIONS, "FULLY_CONNECTED")
_OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


def padding_into_convolution(network: Network, convolution: Operator) -> Edit | None:
    """PAD of zeros in front of a VALID convolution that reads the same places as SAME padding: now SAME.

    The padded copy is neither written nor read. Not for MAX_POOL_2D: its SAME padding is the lowest value, not zero.
    """
    pad = network.maker(convolution.inputs[0], "PAD", "PADV2") if convolution.kind in CONVOLUTIONS else None
    if pad is None or convolution.options.get("padding") != "VALID" or not network.is_private(pad.outputs[0]):
        return None
    amounts = network.constant(pad.inputs[1])
    before, padded = network.tensor(pad.inputs[0]), network.tensor(pad.outputs[0])
    if (
        amounts is None
        or before.quantization != padded.quantization
        or before.is_dynamic
        or not _pads_zeros(network, pad)
    ):
        return None
    if amounts.shape != (4, 2) or amounts[[0, 3]].any():
        return None
    weights = network.tensor(convolution.inputs[1])
    after = network.tensor(convolution.outputs[0])
    for axis, letter in ((1, "h"), (2, "w")):
        stride, dilation = convolution.number(f"stride_{letter}", 1), convolution.number(f"dilation_{letter}_factor", 1)
        # TFLite's SAME: ceil(size / stride) places, the smaller half of the padding in front.
        places = -(-before.shape[axis] // stride)
        reach = (places - 1) * stride + (weights.shape[axis] - 1) * dilation + 1
        in_front = max(reach - before.shape[axis], 0) // 2
        if places != after.shape[axis] or in_front != amounts[axis, 0]:
            return None
    edit = Edit(network, pad, f"the PAD is now SAME padding of '{network.name(convolution)}'")
    edit.put(pad)
    options = {**convolution.options, "padding": "SAME"}
    edit.put(convolution, replace(convolution, inputs=(pad.inputs[0], *convolution.inputs[1:]), options=options))
    return edit


def _pads_zeros(network: Network, pad: Operator) -> bool:
    """Whether it fills with the number 0, which is the zero point where codes are stored."""
    if pad.kind == "PAD":
        return True
    fill = network.real(pad.inputs[2])
    return fill is not None and not fill.any()


class Affine(Struct, frozen=True):
    """What ADD, SUB, MUL or DIV with a float constant does to `source`: source * scale + offset."""

    source: int
    scale: Array
    offset: Array


def affine_part(network: Network, found: Operator) -> Affine | None:
    """An operator on float32 as that; None for any other."""
    if found.kind not in ("ADD", "SUB", "MUL", "DIV") or not network.is_float(found):
        return None
    constant, source = network.real(found.inputs[1]), found.inputs[0]
    is_first = constant is None
    if constant is None:
        constant, source = network.real(found.inputs[0]), found.inputs[1]
    zero, one = numpy.zeros(1), numpy.ones(1)
    if constant is None or (found.kind == "DIV" and (is_first or not constant.all())):
        return None
    if found.kind in ("MUL", "DIV"):
        return Affine(source, constant if found.kind == "MUL" else 1 / constant, zero)
    if found.kind == "SUB":
        return Affine(source, -one, constant) if is_first else Affine(source, one, -constant)
    return Affine(source, one, constant)


def _per_channel(values: Array, channels: int) -> Array | None:
    """One value per channel; None for a constant that is different within a channel."""
    if values.size == 1:
        return numpy.full(channels, values.reshape(-1)[0])
    return values.reshape(-1) if values.size == channels == values.shape[-1] else None


def arithmetic_into_weights(network: Network, found: Operator) -> Edit | None:
    """MUL, ADD, SUB or DIV by constants per channel behind a convolution goes into its weights and bias.

    This is batch normalization as converters leave it. Each such operator is one more pass over the whole tensor,
    and in an integer model one more rounding. For float models: integer weights have no room for it.
    """
    affine = affine_part(network, found)
    linear = network.maker(affine.source, *LINEAR) if affine is not None else None
    if affine is None or linear is None or linear.options.get(ACTIVATION, NONE) != NONE:
        return None
    before, after = network.tensor(affine.source), network.tensor(found.outputs[0])
    parts = _weights(network, linear)
    if parts is None or not network.is_private(affine.source) or before.shape != after.shape:
        return None
    weights, bias = parts
    scale, offset = (_per_channel(values, before.shape[-1]) for values in (affine.scale, affine.offset))
    if scale is None or offset is None:
        return None
    axis = _OUTPUT_AXIS[linear.kind]
    aligned = scale.reshape([-1 if axis == position else 1 for position in range(weights.ndim)])
    edit = Edit(network, found, f"the {found.kind} is now part of the weights of '{network.name(linear)}'")
    options = {**linear.options, ACTIVATION: found.options.get(ACTIVATION, NONE)}
    changed = _with_weights(network, edit, linear, weights * aligned, bias * scale + offset)
    edit.put(linear, replace(changed, outputs=found.outputs, options=options))
    edit.put(found)
    return edit


def arithmetic_into_next_weights(network: Network, linear: Operator) -> Edit | None:
    """MUL, ADD, SUB or DIV by constants per channel in front of a convolution goes into its weights and bias.

    This is how models scale their inputs. An offset only where no padding is computed: that would be offset too.
    """
    found = network.maker(linear.inputs[0], "ADD", "SUB", "MUL", "DIV") if linear.kind in LINEAR else None
    affine = affine_part(network, found) if found is not None else None
    parts = _weights(network, linear)
    if found is None or affine is None or parts is None or found.options.get(ACTIVATION, NONE) != NONE:
        return None
    before, between = network.tensor(affine.source), network.tensor(found.outputs[0])
    if not network.is_private(found.outputs[0]) or before.shape != between.shape:
        return None
    weights, bias = parts
    channels = before.shape[-1]
    is_depthwise = linear.kind == "DEPTHWISE_CONV_2D"
    if not is_depthwise and weights.shape[-1] != channels:
        return None
    if affine.offset.any() and linear.kind != "FULLY_CONNECTED" and linear.options.get("padding") != "VALID":
        return None
    scale, offset = (_per_channel(values, channels) for values in (affine.scale, affine.offset))
    if scale is None or offset is None:
        return None
    if is_depthwise:
        scale, offset = (numpy.repeat(values, weights.shape[-1] // channels) for values in (scale, offset))
        added = (weights * offset).sum(axis=(0, 1, 2))
    else:
        added = (weights * offset).reshape(len(weights), -1).sum(axis=1)
    edit = Edit(network, found, f"the {found.kind} is now part of the weights of '{network.name(linear)}'")
    changed = _with_weights(network, edit, linear, weights * scale, bias + added)
    edit.put(linear, replace(changed, inputs=(affine.source, *changed.inputs[1:])))
    edit.put(found)
    return edit


def _weights(network: Network, linear: Operator) -> tuple[Array, Array] | None:
    """Weights and bias of a float operator in float64; None where they are not constants."""
    if linear.kind not in LINEAR or not network.is_float(linear):
        return None
    weights = network.real(linear.inputs[1])
    bias_index = linear.inputs[2] if len(linear.inputs) > 2 else -1
    if weights is None or (bias_index >= 0 and network.real(bias_index) is None):
        return None
    bias = network.real(bias_index) if bias_index >= 0 else None
    outputs = weights.shape[_OUTPUT_AXIS[linear.kind]]
    return weights, numpy.zeros(outputs) if bias is None else bias.reshape(-1)


def _with_weights(network: Network, edit: Edit, linear: Operator, weights: Array, bias: Array) -> Operator:
    has_bias = len(linear.inputs) > 2 and linear.inputs[2] >= 0
    names = (
        network.tensor(linear.inputs[1]).name,
        network.tensor(linear.inputs[2]).name if has_bias else f"{network.name(linear)}/bias",
    )
    indexes = (
        edit.constant(name, values.astype(numpy.float32)) for name, values in zip(names, (weights, bias), strict=True)
    )
    return replace(linear, inputs=(linear.inputs[0], *indexes))

"""Weights and biases that an Ethos-U does not take, as some that it takes."""

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, Quantization, Tensor
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.local import at_each
from mlia.transforms.remedies.quantizing import real_values
from mlia.transforms.rewrites.network import Edit, Network

OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0, "FULLY_CONNECTED": 0}
_LARGEST = 127


def weights_of_8_bits(graph: Graph) -> Graph:
    """Wider weights as int8 with a scale per output channel, and their biases to match.

    Raises:
        TransformError: all are int8 or uint8, or their numbers cannot be told.
    """
    return at_each(graph, _narrowed, "no operator has constant weights with a scale and more than 8 bits")


def _narrowed(network: Network, found: Operator) -> Edit | None:
    weights = _weights(network, found)
    if weights is None or weights.dtype in ("int8", "uint8"):
        return None
    real = real_values(weights)
    if real is None:
        return None
    return _with_scales(network, found, real, _largest(real, OUTPUT_AXIS[found.kind]) / _LARGEST)


def weights_with_coarser_scales(graph: Graph, most: int) -> Graph:
    """Weights whose absolute codes of one output channel add up to more than `most`, with a larger scale there.

    Raises:
        TransformError: there are none.
    """
    return at_each(graph, lambda network, found: _coarser(network, found, most), "no sum of weights is too large")


def _coarser(network: Network, found: Operator, most: int) -> Edit | None:
    weights = _weights(network, found)
    real = real_values(weights) if weights is not None and weights.dtype == "int8" else None
    if weights is None or weights.quantization is None or real is None or any(weights.quantization.zero_point):
        return None
    axis = OUTPUT_AXIS[found.kind]
    codes = numpy.moveaxis(
        numpy.frombuffer(weights.data, numpy.int8)[: weights.elements].reshape(weights.shape), axis, 0
    )
    sums = numpy.abs(codes.astype(numpy.int64)).reshape(len(codes), -1).sum(axis=1)
    if sums.max(initial=0) <= most:
        return None
    scales = numpy.broadcast_to(numpy.array(weights.quantization.scale), len(codes))
    # A little less than the limit, because rounding can add half a code to each.
    factors = numpy.maximum(1.0, 1.01 * sums / most)
    return _with_scales(network, found, real, scales * (factors if len({*scales}) > 1 else factors.max()))


def biases_as_stored(graph: Graph) -> Graph:
    """Constant biases as a vector of int32 (int64 behind int16), whatever they were.

    Raises:
        TransformError: all are like that already, or are computed.
    """
    return at_each(graph, _plain_bias, "no constant bias has another type or shape")


def _plain_bias(network: Network, found: Operator) -> Edit | None:
    weights = _weights(network, found)
    position = 3 if found.kind == "TRANSPOSE_CONV" else 2
    if weights is None or weights.quantization is None or len(found.inputs) <= position:
        return None
    bias = network.tensor(found.inputs[position]) if found.inputs[position] >= 0 else None
    values = network.constant(found.inputs[position])
    if bias is None or values is None:
        return None
    if bias.dtype in ("int32", "int64") and bias.shape == (bias.elements,):
        return None
    scales = _bias_scales(network, found, numpy.array(weights.quantization.scale))
    if scales is None or values.size != weights.shape[OUTPUT_AXIS[found.kind]]:
        return None
    values = values.reshape(-1)
    if bias.dtype.startswith("float"):
        values = numpy.round(values.astype(numpy.float64) / scales)
    elif bias.dtype not in ("int32", "int64", "int8", "uint8", "int16"):
        return None
    dtype = bias.dtype if bias.dtype in ("int32", "int64") else _bias_type(network, found)
    zeros = Quantization(tuple(float(scale) for scale in scales), (0,) * scales.size)
    quantization = bias.quantization if bias.dtype in ("int32", "int64") else zeros
    edit = Edit(network, found, f"the bias is a vector of {dtype}")
    inputs = list(found.inputs)
    inputs[position] = edit.constant(bias.name, values.astype(dtype), quantization)
    edit.put(found, replace(found, inputs=tuple(inputs)))
    return edit


def _weights(network: Network, found: Operator) -> Tensor | None:
    """The constant weights of an operator; None where it has none."""
    if found.kind not in OUTPUT_AXIS or len(found.inputs) < 2 or found.inputs[1] < 0:
        return None
    weights = network.tensor(found.inputs[1])
    is_whole = weights.is_constant and not weights.is_sparse and len(weights.shape) > OUTPUT_AXIS[found.kind]
    return weights if is_whole and len(weights.shape) in (2, 4) else None


def _largest(real: Array, axis: int) -> Array:
    largest = numpy.abs(numpy.moveaxis(real, axis, 0).reshape(real.shape[axis], -1)).max(axis=1)
    return numpy.where(largest > 0, largest, 1.0)


def _source(network: Network, found: Operator) -> Tensor:
    return network.tensor(found.inputs[2 if found.kind == "TRANSPOSE_CONV" and len(found.inputs) > 2 else 0])


def _bias_type(network: Network, found: Operator) -> str:
    return "int64" if _source(network, found).dtype == "int16" else "int32"


def _bias_scales(network: Network, found: Operator, weight_scales: Array) -> Array | None:
    """What one code of the bias stands for: the scale of the input times those of the weights."""
    source = _source(network, found).quantization
    return source.scale[0] * weight_scales if source is not None and len(source.scale) == 1 else None


def _with_scales(network: Network, found: Operator, real: Array, scales: Array) -> Edit | None:
    """The operator with int8 weights of these scales, one for each output channel, and its bias to match."""
    axis = OUTPUT_AXIS[found.kind]
    old = network.tensor(found.inputs[1])
    if (scales == scales[0]).all() and old.quantization is not None and len(old.quantization.scale) == 1:
        scales = scales[:1]
    aligned = scales.reshape([-1 if position == axis else 1 for position in range(real.ndim)])
    codes = numpy.clip(numpy.round(real / aligned), -_LARGEST, _LARGEST).astype(numpy.int8)
    edit = Edit(network, found, "its weights are int8 of another scale")
    quantization = Quantization(tuple(float(scale) for scale in scales), (0,) * scales.size, axis)
    inputs = list(found.inputs)
    inputs[1] = edit.constant(old.name, codes, quantization)
    position = 3 if found.kind == "TRANSPOSE_CONV" else 2
    if len(inputs) > position and inputs[position] >= 0:
        bias = network.tensor(inputs[position])
        values, units = real_values(bias), _bias_scales(network, found, scales)
        if values is None or units is None or bias.dtype not in ("int32", "int64"):
            return None
        limits = numpy.iinfo(bias.dtype)
        stored = numpy.clip(numpy.round(values.reshape(-1) / units), limits.min, limits.max).astype(bias.dtype)
        units = tuple(float(unit) for unit in units)
        inputs[position] = edit.constant(bias.name, stored, Quantization(units, (0,) * len(units)))
    edit.put(found, replace(found, inputs=tuple(inputs)))
    return edit

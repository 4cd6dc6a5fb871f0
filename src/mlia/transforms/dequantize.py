"""Integer model -> the float model that it stands for, and back with the ranges that it had.

The way back needs no calibration data: a transform that leaves activations what they were leaves their ranges
valid too, and those of the original were measured on its makers' data.
"""

from typing import Any

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Quantization, Subgraph, Tensor
from mlia.transforms.constants import along, as_data, real, reread, scales

# Operators that only change how numbers are stored; without quantization they do nothing.
STORING = ("QUANTIZE", "DEQUANTIZE")
# Operators with weights and a bias, and the axis of the weights that has the output channels.
WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
BIAS = {"TRANSPOSE_CONV": 3}
USUAL_BIAS = 2
# Integer kernels of these keep state or scales where a float kernel has none.
INTEGER_ONLY = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "SVDF", "CUSTOM", "CALL_ONCE")
LARGEST_CODE = 127


def dequantized(graph: Graph) -> Graph:
    """The float32 model that an integer model stands for, under the same names.

    Raises:
        TransformError: it has an operator whose integer form has no float counterpart.
    """
    if len(graph.subgraphs) > 1:
        raise TransformError("a quantized model with several subgraphs cannot be taken back to float")
    main = graph.main
    if odd := next((operator for operator in main.operators if operator.kind in INTEGER_ONLY), None):
        raise TransformError(f"a quantized model with {odd.kind} cannot be taken back to float")
    tensors = list(map(_as_float, main.tensors))
    for operator in main.operators:
        bias = bias_of(operator)
        if bias is not None and main.tensors[bias].quantization is None:
            tensors[bias] = _as_float(replace(main.tensors[bias], quantization=bias_quantization(operator, main)))
    renamed: dict[int, int] = {}
    operators: list[Operator] = []
    for operator in main.operators:
        inputs = tuple(renamed.get(index, index) for index in operator.inputs)
        if operator.kind in STORING:
            renamed[operator.outputs[0]] = inputs[0]
        else:
            operators.append(replace(operator, inputs=inputs, index=len(operators)))
    outputs = tuple(renamed.get(index, index) for index in main.outputs)
    floating = replace(main, tensors=tuple(tensors), operators=tuple(operators), outputs=outputs)
    return reread(replace(graph, subgraphs=(floating,), signatures=()))


def can_be_requantized(original: Graph) -> bool:
    """Whether the original alone says how to quantize what was made of it: each tensor by its name, in one range."""
    names = [tensor.name for tensor in original.main.tensors]
    return len({*names}) == len(names) and not any(operator.kind in STORING for operator in original.operators)


def requantized(floating: Graph, original: Graph) -> Graph:
    """A float model in integers, with the ranges of activations that the model has which it came from.

    Weights keep their scales where they still fit, and get new ones by their largest value otherwise.

    Raises:
        TransformError: it has a tensor that the original does not know.
    """
    known = {tensor.name: tensor for tensor in original.main.tensors}
    main = floating.main
    tensors = list(main.tensors)
    computed = {*main.inputs, *(index for operator in main.operators for index in operator.outputs)}
    weighted = [operator for operator in main.operators if operator.kind in WEIGHTED]
    own = {index for operator in weighted for index in (operator.inputs[1], bias_of(operator))}
    for index, tensor in enumerate(tensors):
        if tensor.dtype != "float32" or index in own or not (index in computed or tensor.is_constant):
            continue
        like = known.get(tensor.name)
        if like is None or like.quantization is None:
            raise TransformError(f"the quantized model has no range for '{tensor.name}'")
        tensors[index] = _stored_as(tensor, like)
    for operator in weighted:
        _quantize_weights(operator, tensors, main, known)
    changed = replace(main, tensors=tuple(tensors))
    return reread(replace(floating, subgraphs=(changed,)))


def bias_of(operator: Operator) -> int | None:
    """The index of the tensor with the operator's bias; None where it has none."""
    position = BIAS.get(operator.kind, USUAL_BIAS)
    present = operator.kind in WEIGHTED and len(operator.inputs) > position and operator.inputs[position] >= 0
    return operator.inputs[position] if present else None


def _as_float(tensor: Tensor) -> Tensor:
    if tensor.quantization is None:
        return tensor
    data = as_data(real(tensor)) if tensor.is_constant else tensor.data
    return replace(tensor, dtype="float32", quantization=None, data=data)


def bias_quantization(operator: Operator, subgraph: Subgraph) -> Quantization | None:
    """A bias is stored in units of input scale times weights scale (TFLite's quantization specification)."""
    source = operator.inputs[2 if operator.kind == "TRANSPOSE_CONV" else 0]
    inputs, weights = subgraph.tensors[source].quantization, subgraph.tensors[operator.inputs[1]].quantization
    if inputs is None or weights is None:
        return None
    scale = tuple(inputs.scale[0] * each for each in weights.scale)
    return Quantization(scale, (0,) * len(scale), 0)


def _stored_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A float tensor in the type and range of another."""
    if not tensor.is_constant:
        return replace(tensor, dtype=like.dtype, quantization=like.quantization)
    import numpy

    assert like.quantization is not None
    zero_point: Any = numpy.array(like.quantization.zero_point or (0,), numpy.float64)
    zero_point = along(zero_point, tensor, like.quantization.axis) if len(zero_point) > 1 else zero_point[0]
    return _rounded(tensor, like.quantization, like.dtype, zero_point)


def _quantize_weights(operator: Operator, tensors: list[Tensor], main: Subgraph, known: dict[str, Tensor]) -> None:
    index, bias = operator.inputs[1], bias_of(operator)
    floating = main.tensors[index]
    if tensors[index].dtype == "float32":
        quantization = _weights_quantization(floating, known.get(floating.name), WEIGHTED[operator.kind])
        tensors[index] = _rounded(floating, quantization, "int8")
    if bias is not None and tensors[bias].dtype == "float32":
        units = bias_quantization(operator, replace(main, tensors=tuple(tensors)))
        assert units is not None
        wide = tensors[operator.outputs[0]].dtype == "int16"
        tensors[bias] = _rounded(main.tensors[bias], units, "int64" if wide else "int32")


def _weights_quantization(floating: Tensor, original: Tensor | None, axis: int) -> Quantization:
    """The original's scales where they still fit, else symmetric ones: largest value / 127."""
    import numpy

    values = real(floating)
    old = original.quantization if original is not None else None
    if old is not None and original is not None and original.shape == floating.shape:
        fits = numpy.abs(values) <= scales(old, floating) * (LARGEST_CODE + 0.5)
        if fits.all() and not any(old.zero_point):
            return old
    others = None if old is not None and len(old.scale) == 1 else tuple(i for i in range(values.ndim) if i != axis)
    largest = numpy.abs(values).max(axis=others).reshape(-1)
    scale = tuple(float(each) for each in numpy.where(largest > 0, largest, 1.0) / LARGEST_CODE)
    return Quantization(scale, (0,) * len(scale), axis)


def _rounded(tensor: Tensor, quantization: Quantization, dtype: str, zero_point: Any = 0) -> Tensor:
    """The tensor in codes.

    Raises:
        TransformError: a scale is not above 0, as products of scales in damaged models may be.
    """
    import numpy

    units = scales(quantization, tensor).astype(numpy.float64)
    if not (units > 0).all():
        raise TransformError(f"the scale of '{tensor.name}' is {units.min():g}: it stands for no numbers")
    limits = numpy.iinfo(dtype)
    codes = numpy.round(real(tensor).astype(numpy.float64) / units)
    data = as_data(numpy.clip(codes + zero_point, limits.min, limits.max).astype(dtype))
    return replace(tensor, dtype=dtype, quantization=quantization, data=data)

"""Ranges for activations that are all but zero, as in a network that was never trained.

Without training, each layer makes its input a little smaller, and forty of them leave nothing. A scale that is
calibrated on that is so small that no kernel can express the limits of an activation in codes: a RELU6's 6 is beyond 32
bits. Where operators run, and how long, depends on no scale.
"""

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.constants import as_data, real
from mlia.transforms.rewrites.network import without_unused_tensors

FAINT_STEP = 6 / (1 << 31)  # the smallest scale by which a RELU6's limit has a code of 32 bits
NOMINAL_STEP = 2.0**-12
_INTEGERS = ("int8", "int16")
# The places of activations, weights and bias, where the bias has the scales of both multiplied.
_BIASED = {
    "CONV_2D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "FULLY_CONNECTED": (0, 1, 2), "TRANSPOSE_CONV": (2, 1, 3),
}  # fmt: skip
# Their scales go together in more ways than by a bias.
_OTHERS = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF")


def with_nominal_ranges(content: bytes) -> tuple[bytes, int]:
    """An integer model whose activations have scales of NOMINAL_STEP or more, and how many had a faint one.

    The same file, and 0, where none had. Equal scales stay equal, which many operators need.
    """
    graph = read_tflite(content)
    faint = sum(_is_faint(tensor) for tensor in graph.main.tensors)
    if not faint or any(operator.kind in _OTHERS for operator in graph.operators):
        return content, 0
    tensors = [_widened(tensor) for tensor in graph.main.tensors]
    operators = [_with_bias(operator, tensors) for operator in graph.operators]
    main = replace(graph.main, tensors=tuple(tensors), operators=tuple(operators))
    made: Graph = without_unused_tensors(replace(graph, subgraphs=(main, *graph.subgraphs[1:])))
    return write_tflite(made), faint


def _is_activation(tensor: Tensor) -> bool:
    scale = tensor.quantization.scale if tensor.quantization else ()
    return not tensor.is_constant and tensor.dtype in _INTEGERS and len(scale) == 1


def _is_faint(tensor: Tensor) -> bool:
    return _is_activation(tensor) and tensor.quantization is not None and tensor.quantization.scale[0] < FAINT_STEP


def _widened(tensor: Tensor) -> Tensor:
    if not _is_activation(tensor) or tensor.quantization is None:
        return tensor
    scale = max(tensor.quantization.scale[0], NOMINAL_STEP)
    return replace(tensor, quantization=replace(tensor.quantization, scale=(scale,)))


def _with_bias(operator: Operator, tensors: list[Tensor]) -> Operator:
    """The operator with a bias of its own, in codes of the scales that there are now."""
    import numpy

    places = _BIASED.get(operator.kind)
    if places is None or len(operator.inputs) <= places[2] or operator.inputs[places[2]] < 0:
        return operator
    source, weights, bias = (tensors[operator.inputs[place]] for place in places)
    if source.quantization is None or weights.quantization is None or not bias.is_constant or bias.dtype != "int32":
        return operator
    scales = numpy.array(weights.quantization.scale, numpy.float64) * source.quantization.scale[0]
    limits = numpy.iinfo(numpy.int32)
    codes = numpy.clip(numpy.round(real(bias) / scales), limits.min, limits.max).astype(numpy.int32)
    quantization = Quantization(tuple(map(float, scales)), (0,) * len(scales))
    tensors.append(replace(bias, quantization=quantization, data=as_data(codes)))
    inputs = list(operator.inputs)
    inputs[places[2]] = len(tensors) - 1
    return replace(operator, inputs=tuple(inputs))

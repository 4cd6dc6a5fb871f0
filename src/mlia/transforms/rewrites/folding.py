"""The single rewrites that change nothing in what a model computes, in the order in which they are tried.

Each takes a network and one operator, and gives the edit for it or None. Those of TRANSPOSE and RESHAPE are in
layout.py and regions.py, those of arithmetic in arithmetic.py.
"""

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.fuse import ACTIVATIONS
from mlia.graph.graph import Graph, Operator, Tensor
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import Model
from mlia.transforms.rewrites.layout import RESHAPING, permutation
from mlia.transforms.rewrites.network import (
    ACTIVATION,
    NONE,
    Edit,
    Network,
    operator,
    same_numbers,
    without_unused_tensors,
)
from mlia.transforms.rewrites.regions import REDUCING

_FOLDED_BYTES = 1024  # a constant that was computed may be larger than what it was computed from by so much
_ONE = 1e-6  # how far from 1 a quantized constant 1 may be: its scale is rounded to float32
_DEPTH = 16
_UNBOUNDED = (-numpy.inf, numpy.inf)
_RANGES = {
    "RELU": (0.0, numpy.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "LOGISTIC": (0.0, 1.0),
    "SOFTMAX": (0.0, 1.0), "TANH": (-1.0, 1.0), "ABS": (0.0, numpy.inf), "SQUARE": (0.0, numpy.inf),
    "EXP": (0.0, numpy.inf), "SQRT": (0.0, numpy.inf),
}  # fmt: skip
_KEEPING = (
    *RESHAPING, *ACTIVATIONS, "TRANSPOSE", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "REDUCE_MAX", "REDUCE_MIN",
    "SLICE", "STRIDED_SLICE", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH",
    "QUANTIZE", "DEQUANTIZE",
)  # fmt: skip
# Operators without state whose results from constants are not worth storing, or are not always the same.
_NOT_FOLDED = ("DEQUANTIZE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "CUSTOM", "IF", "WHILE", "CALL")


def folded_shape(network: Network, shape: Operator) -> Edit | None:
    """SHAPE of a tensor whose sizes are all known becomes a constant: it runs on the CPU, for nothing."""
    if shape.kind != "SHAPE" or network.tensor(shape.inputs[0]).is_dynamic:
        return None
    output = network.tensor(shape.outputs[0])
    return _made_constant(network, shape, numpy.array(network.tensor(shape.inputs[0]).shape, output.dtype))


def folded_constants(network: Network, found: Operator) -> Edit | None:
    """What is computed from constants only (STRIDED_SLICE and PACK of sizes) becomes a constant: LiteRT computes it.

    Quantized results, DEQUANTIZE, and results much larger than what they are computed from stay.
    """
    inputs = [network.tensor(index) for index in found.inputs if index >= 0]
    if found.kind in _NOT_FOLDED or not inputs or len(found.outputs) != 1 or found.outputs[0] in network.seen:
        return None
    if any(network.constant(index) is None for index in found.inputs if index >= 0):
        return None
    output = network.tensor(found.outputs[0])
    if output.quantization is not None or output.dtype not in ("float32", "int32", "int64", "bool"):
        return None
    lone = replace(network.subgraph, operators=(replace(found, index=0),), inputs=(), outputs=found.outputs)
    try:
        model = Model(write_tflite(without_unused_tensors(Graph((lone,)))))
        model.run(())
        values = model.output(0)
    except TransformError:
        return None
    if values.nbytes > _FOLDED_BYTES + sum(len(tensor.data) for tensor in inputs):
        return None
    return _made_constant(network, found, values)


def _made_constant(network: Network, found: Operator, values: Array) -> Edit | None:
    (output,) = found.outputs
    if output in network.seen:
        return None
    edit = Edit(network, found, f"its result ({found.kind}) is always the same: now a constant")
    data = memoryview(values.tobytes())
    edit.set_tensor(output, Tensor(network.tensor(output).name, values.shape, values.dtype.name, data=data))
    edit.put(found)
    return edit


def without_effect(network: Network, found: Operator) -> Edit | None:
    """Operators that give back what they get: MUL by 1, ADD of 0, a RESHAPE to the same shape, RELU of what is never
    negative, QUANTIZE to the same scale, and the like. Each is a pass over the whole tensor, for nothing.

    A fused activation stays, as an operator of its own that the operator in front can take up.
    """
    source = _unchanged(network, found)
    if source is None or len(found.outputs) != 1:
        return None
    before, after = network.tensor(source), network.tensor(found.outputs[0])
    if before.shape != after.shape or not same_numbers(before, after) or before.is_constant:
        return None
    activation = str(found.options.get(ACTIVATION, NONE))
    if activation == NONE:
        edit = Edit(network, found, f"the {found.kind} changed nothing")
        return edit if edit.pass_by(found, source) else None
    if activation not in ACTIVATIONS:
        return None
    edit = Edit(network, found, f"the {found.kind} changed nothing; its {activation} stays")
    edit.put(found, operator(activation, [source], found.outputs[0]))
    return edit


def _unchanged(network: Network, found: Operator) -> int | None:
    """The input that the operator, apart from its activation, gives back; shape and scale are checked elsewhere."""
    first = found.inputs[0] if found.inputs else -1
    kind = found.kind
    if kind in ("ADD", "SUB", "MUL", "DIV"):
        return _neutral_operand(network, found)
    if kind in ACTIVATIONS:
        (lowest, highest), limits = value_range(network, first), _RANGES[kind]
        return first if limits[0] <= lowest and highest <= limits[1] else None
    if kind == "QUANTIZE":
        dequantize = network.maker(first, "DEQUANTIZE")
        return dequantize.inputs[0] if dequantize is not None else first
    if kind in ("PAD", "PADV2", "MIRROR_PAD", "SLICE", "TILE", "BROADCAST_TO", "CAST", *RESHAPING, *REDUCING):
        return first  # with the same shape and type these change nothing
    if kind == "CONCATENATION":
        return first if len(found.inputs) == 1 else None
    if kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        return first
    if kind == "TRANSPOSE":
        order = permutation(network, found)
        return first if order is not None and order == tuple(range(len(order))) else None
    if kind == "STRIDED_SLICE":
        strides = network.constant(found.inputs[3])
        return first if strides is not None and (strides == 1).all() else None
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        sizes = {found.number(name) for name in ("filter_width", "filter_height", "stride_w", "stride_h")}
        return first if sizes == {1} else None
    return None


def _neutral_operand(network: Network, found: Operator) -> int | None:
    neutral, tolerance = (0.0, 0.0) if found.kind in ("ADD", "SUB") else (1.0, _ONE)
    for position in (1, 0) if found.kind in ("ADD", "MUL") else (1,):
        values = network.real(found.inputs[position])
        if values is not None and (numpy.abs(values - neutral) <= tolerance).all():
            return found.inputs[1 - position]
    return None


def value_range(network: Network, index: int, depth: int = 0) -> tuple[float, float]:
    """Bounds of what a tensor can hold, by what computes it and by its integer type."""
    tensor = network.tensor(index)
    lowest, highest = _UNBOUNDED
    if tensor.quantization and len(tensor.quantization.scale) == 1 and tensor.dtype in ("int8", "uint8", "int16"):
        limits = numpy.iinfo(tensor.dtype)
        zero_point = (*tensor.quantization.zero_point, 0)[0]
        lowest, highest = (
            (int(limit) - zero_point) * tensor.quantization.scale[0] for limit in (limits.min, limits.max)
        )
    maker = network.maker(index)
    if maker is None or depth > _DEPTH:
        return lowest, highest
    ranges = [_RANGES.get(maker.kind, _UNBOUNDED), _RANGES.get(str(maker.options.get(ACTIVATION, NONE)), _UNBOUNDED)]
    if maker.kind in _KEEPING:
        ranges.append(value_range(network, maker.inputs[0], depth + 1))
    if maker.kind in ("CONCATENATION", "MAXIMUM", "MINIMUM"):
        parts = [value_range(network, part, depth + 1) for part in maker.inputs]
        ranges.append((min(low for low, _ in parts), max(high for _, high in parts)))
    return max(lowest, *(low for low, _ in ranges)), min(highest, *(high for _, high in ranges))

"""What one operator costs by arithmetic alone: multiply-accumulates and bytes of weights."""

from collections.abc import Callable

from mlia.graph.graph import Operator, Subgraph
from mlia.graph.tflite import ELEMENT_BITS

_Shape = tuple[int, ...]


def _product(sizes: _Shape) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _convolution(ifm: _Shape, weights: _Shape, ofm: _Shape) -> int:
    """Every output element takes one kernel (O, H, W, I of a group)."""
    return _product(ofm) * _product(weights[1:])


def _depthwise(ifm: _Shape, weights: _Shape, ofm: _Shape) -> int:
    """Every output element takes one kernel of one channel; weights are (1, H, W, O)."""
    return _product(ofm) * _product(weights[1:-1])


def _transpose_convolution(ifm: _Shape, weights: _Shape, ofm: _Shape) -> int:
    """Every input element is spread by one kernel over all output channels; weights are (O, H, W, I)."""
    return _product(ifm) * _product(weights[:-1])


def _fully_connected(ifm: _Shape, weights: _Shape, ofm: _Shape) -> int:
    """Every output element takes one row of the weights (O, I)."""
    return _product(ofm) * (weights[-1] if weights else 0)


# The arguments are the shapes of input, weights and output, in TFLite's order of inputs.
_FORMULAS: dict[str, Callable[[_Shape, _Shape, _Shape], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
}
# TOSA's names. Its depthwise weights are (H, W, C, M), its matrices (N, H, C) by (N, C, W).
_TOSA_FORMULAS: dict[str, Callable[[_Shape, _Shape, _Shape], int]] = {
    "CONV2D": _convolution,
    "CONV3D": _convolution,
    "DEPTHWISE_CONV2D": lambda ifm, weights, ofm: _product(ofm) * _product(weights[:2]),
    "TRANSPOSE_CONV2D": lambda ifm, weights, ofm: _product(ifm) * _product(weights[:-1]),
    "MATMUL": lambda ifm, weights, ofm: _product(ofm) * (ifm[-1] if ifm else 0),
}


def macs(operator: Operator, subgraph: Subgraph) -> int:
    """Multiply-accumulates of one inference of the operator; 0 for operators that have none.

    Counted: convolutions, fully connected, matrix multiplication, LSTM gates, SVDF, RNN. Not counted:
    pooling, elementwise and activation functions, whose work is not multiply-accumulate.
    """
    shapes = [tensor.shape if (tensor := subgraph.tensor(index)) else () for index in operator.inputs]
    ofm = subgraph.tensors[operator.outputs[0]].shape if operator.outputs else ()
    if operator.kind in _FORMULAS and len(shapes) >= 2:
        return _FORMULAS[operator.kind](shapes[0], shapes[1], ofm)
    if operator.kind == "TRANSPOSE_CONV" and len(shapes) >= 3:
        return _transpose_convolution(shapes[2], shapes[1], ofm)
    if operator.kind == "CONV_3D" and len(shapes) >= 2:
        return _product(ofm) * _product(shapes[1][:-1])  # weights are (D, H, W, I, O)
    if operator.kind == "BATCH_MATMUL" and len(shapes) >= 2 and shapes[0]:
        depth = shapes[0][-2 if operator.options.get("adj_x") else -1] if len(shapes[0]) >= 2 else 1
        return _product(ofm) * depth
    if operator.kind in _TOSA_FORMULAS and len(shapes) >= 2:
        return _TOSA_FORMULAS[operator.kind](shapes[0], shapes[1], ofm)
    return _recurrent(operator, subgraph)


_RECURRENT = (
    "LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN",
)  # fmt: skip


def _recurrent(operator: Operator, subgraph: Subgraph) -> int:
    """Constant matrices of a recurrent operator, each used once per time step and batch."""
    tensors = [subgraph.tensor(index) for index in operator.inputs]
    if not tensors or tensors[0] is None or not tensors[0].shape:
        return 0
    matrices = [tensor.shape for tensor in tensors[1:] if tensor and tensor.is_constant and len(tensor.shape) == 2]
    weights = sum(_product(shape) for shape in matrices)
    ifm = tensors[0].shape
    if operator.kind == "SVDF":
        return ifm[0] * weights
    return weights * (_product(ifm) // (ifm[-1] or 1)) if operator.kind in _RECURRENT else 0


# Which inputs hold weights (not biases, which follow them, nor shapes and indexes).
_WEIGHT_INPUTS = {
    "CONV_2D": (1,), "DEPTHWISE_CONV_2D": (1,), "FULLY_CONNECTED": (1,), "TRANSPOSE_CONV": (1,), "CONV_3D": (1,),
    "CONV2D": (1,), "CONV3D": (1,), "DEPTHWISE_CONV2D": (1,), "TRANSPOSE_CONV2D": (1,),
    "BATCH_MATMUL": (0, 1), "SVDF": (1, 2), "RNN": (1, 2), "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "BIDIRECTIONAL_SEQUENCE_RNN": (1, 2, 5, 6), "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 12), 16),
    "LSTM": (*range(1, 12), 16),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 12), 15, *range(18, 29), 32),
}  # fmt: skip


def weights_bytes(operator: Operator, subgraph: Subgraph) -> int:
    """Bytes of the operator's constant weights, without biases, at the width the model stores them."""
    total = 0
    for position in _WEIGHT_INPUTS.get(operator.kind, ()):
        tensor = subgraph.tensor(operator.inputs[position]) if position < len(operator.inputs) else None
        if tensor is not None and tensor.is_constant:
            total += (tensor.elements * ELEMENT_BITS.get(tensor.dtype, 0) + 7) // 8
    return total

"""How much work CMSIS-NN's multiplying kernels are: convolutions, depthwise, fully connected, LSTM, SVDF."""

import math
from collections.abc import Mapping
from typing import TypeAlias

from mlia.backends.cortex_m.kernels import activation, is_plain_depthwise, is_pointwise, is_row, weights
from mlia.graph.cost import macs
from mlia.graph.graph import Operator, Subgraph

Work: TypeAlias = Mapping[str, float]

# Elements of a row that one step of the inner loop takes, and outputs that are finished together.
_DEPTH_STEP = {"MVE": 16, "DSP": 4, "none": 4}
_OUTPUT_STEP = {"MVE": 4, "DSP": 2, "none": 1}
_DEPTHWISE_STEP = {"MVE": 4, "DSP": 4, "none": 4}
# 16-bit activations: half the lanes on MVE and sums in 64 bits; DSP multiplies 16 bits anyway, and need not widen.
_INT16 = {"MVE": 2.5, "DSP": 1.2, "none": 1.5}
_INT16_OUTPUT = 1.5
# Weights of 4 bits are unpacked in the inner loop.
_INT4 = {"MVE": 1.4, "DSP": 1.2, "none": 1.2}
# The depthwise kernel for multipliers, dilation and batches works on one channel at a time.
_GENERAL_DEPTHWISE = {"MVE": 3.0, "DSP": 2.0, "none": 1.5}


def _wider(operator: Operator, subgraph: Subgraph, extension: str) -> tuple[float, float]:
    """How much longer a multiply-accumulate and an output take than with int8 activations and weights."""
    ifm, kernel = activation(operator, subgraph), weights(operator, subgraph)
    multiply, finish = 1.0, 1.0
    if ifm is not None and ifm.dtype == "int16":
        multiply, finish = _INT16[extension], _INT16_OUTPUT
    if kernel is not None and kernel.dtype == "int4":
        multiply *= _INT4[extension]
    return multiply, finish


def matrix_work(operator: Operator, subgraph: Subgraph, extension: str) -> Work:
    """A product of two matrices whose rows lie in memory as they are (or were copied, which is not counted here)."""
    kernel, ofm = weights(operator, subgraph), subgraph.tensors[operator.outputs[0]]
    channels = max(ofm.shape[-1], 1)
    pixels = ofm.elements // channels
    depth = math.prod(kernel.shape[1:]) if kernel else 1
    multiply, finish = _wider(operator, subgraph, extension)
    padded = pixels * _ceil(channels, _OUTPUT_STEP[extension])
    return {
        "matrix_mac": padded * _ceil(depth, _DEPTH_STEP[extension]) * multiply,
        "matrix_output": padded * finish,
    }


def convolution_work(operator: Operator, subgraph: Subgraph, extension: str) -> Work:
    """CONV_2D: the matrix product, and the columns it works on unless it can take the pixels where they lie."""
    product = matrix_work(operator, subgraph, extension)
    if is_pointwise(operator, subgraph) or (extension == "MVE" and is_row(operator, subgraph)):
        return product
    kernel, ofm = weights(operator, subgraph), subgraph.tensors[operator.outputs[0]]
    if kernel is None:
        return product
    positions = ofm.elements // max(ofm.shape[-1], 1) * math.prod(kernel.shape[1:3])
    # Columns hold 16-bit values unless MVE works on them.
    return {**product, "column": positions, "column_byte": positions * kernel.shape[3]}


def depthwise_work(operator: Operator, subgraph: Subgraph, extension: str) -> Work:
    """DEPTHWISE_CONV_2D: channels in whole steps, each with the taps of its kernel."""
    kernel, ofm = weights(operator, subgraph), subgraph.tensors[operator.outputs[0]]
    channels = max(ofm.shape[-1], 1)
    taps = math.prod(kernel.shape[1:3]) if kernel else 1
    multiply, finish = _wider(operator, subgraph, extension)
    if not is_plain_depthwise(operator, subgraph):
        multiply *= _GENERAL_DEPTHWISE[extension]
    padded = ofm.elements // channels * _ceil(channels, _DEPTHWISE_STEP[extension])
    return {"depthwise_mac": padded * taps * multiply, "depthwise_output": padded * finish}


def vector_work(operator: Operator, subgraph: Subgraph, extension: str) -> Work:
    """FULLY_CONNECTED, BATCH_MATMUL, LSTM, SVDF: every weight is read once for each row of the input."""
    outputs = sum(subgraph.tensors[index].elements for index in operator.outputs)
    multiplied = macs(operator, subgraph)
    multiply, finish = _wider(operator, subgraph, extension)
    if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        # Four gates with two products each, a function of each gate, and the state's elementwise steps.
        gates = {"vector_output": 8 * outputs * finish, "table_element": 10 * outputs, "multiply_element": 5 * outputs}
        return {"vector_mac": multiplied * multiply, **gates}
    if operator.kind == "SVDF":
        state = subgraph.tensor(operator.inputs[4]) if len(operator.inputs) > 4 else None
        shifted = state.elements if state else 0
        return {"vector_mac": multiplied * multiply, "vector_output": 2 * outputs * finish, "copy_byte": shifted}
    work: dict[str, float] = {"vector_output": outputs * finish}
    depth = max(multiplied // max(outputs, 1), 1)
    work["vector_mac"] = outputs * _ceil(depth, _DEPTH_STEP[extension]) * multiply
    right = weights(operator, subgraph)
    if operator.kind == "BATCH_MATMUL" and right is not None and not operator.options.get("adj_y"):
        work["move_element"] = right.elements  # the kernel wants rows of the second matrix, and transposes it
    return work


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step

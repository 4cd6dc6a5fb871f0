"""How much work of each kind an operator is: counts by the names in TERMS, from the loops of its kernel.

One function for each group of kernels. All take the operator as `Task`, and return counts that never shrink when the
operator grows: what a kernel handles in steps is rounded up to whole ones.
"""

import math
from collections.abc import Mapping

from mlia.backends.cortex_m.custom_work import custom_work
from mlia.backends.cortex_m.kernels import activation, is_batched, kernel_of
from mlia.backends.cortex_m.matrix_work import Work, convolution_work, depthwise_work, matrix_work, vector_work
from mlia.cpu_results import Kernel
from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Operator, Subgraph, Tensor
from mlia.graph.tflite import ELEMENT_BITS
from mlia.targets.cores import Core

# What is counted, and what one unit of it is.
TERMS: Mapping[str, str] = {
    "operator": "one operator called by the interpreter",
    "matrix_mac": "multiply-accumulate of the matrix product behind convolutions; rows rounded up to whole steps",
    "matrix_output": "output element of it: bias, requantize, clamp, store",
    "column": "position under a kernel that is copied into a column (im2col)",
    "column_byte": "byte copied into a column",
    "depthwise_mac": "multiply-accumulate of a depthwise convolution; channels rounded up to whole steps",
    "depthwise_output": "output element of it",
    "vector_mac": "multiply-accumulate with a weight that is used once: fully connected, LSTM, SVDF",
    "vector_output": "output element of it",
    "weight_byte": "byte of weights fetched from flash, once for each inference",
    "pool_element": "element under a pooling window",
    "pool_output": "output element of pooling",
    "add_element": "output element of CMSIS-NN's addition: two inputs rescaled, their sum requantized",
    "multiply_element": "output element of CMSIS-NN's multiplication",
    "compare_element": "output element of CMSIS-NN's maximum and minimum",
    "softmax_element": "element of CMSIS-NN's softmax",
    "copy_byte": "byte copied in one piece with others",
    "copy_piece": "piece copied",
    "move_element": "element whose place is computed from its indexes",
    "reference_mac": "multiply-accumulate of an integer reference kernel",
    "light_element": "element of an integer reference kernel without multiplication: clamp, select, compare",
    "arithmetic_element": "element of an integer reference kernel that requantizes",
    "function_element": "element of a fixed-point logistic, tanh, logarithm or root",
    "table_element": "element looked up in a table",
    "bilinear_element": "output element of an integer bilinear resize",
    "reduced_element": "input element of an integer reduction",
    "convert_element": "element converted between float and integer",
    "float_mac": "multiply-accumulate of a float reference kernel",
    "float_element": "element of a float reference kernel: one sum, product or comparison",
    "float_function": "element of an exponential, logarithm, root or sine in float",
}

_UNREQUANTIZED = {"int32", "uint32", "int64", "bool", "uint8"}
_LIGHT = {
    "RELU6", "MAXIMUM", "MINIMUM", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "SELECT_V2", "ZEROS_LIKE", "FILL",
    "CAST", "SHAPE", "BROADCAST_ARGS", "IF", "WHILE", "CALL_ONCE", "VAR_HANDLE",
}  # fmt: skip
_FLOAT_FUNCTIONS = {
    "LOGISTIC", "TANH", "ELU", "EXP", "LOG", "SIN", "COS", "SQRT", "RSQRT", "SOFTMAX", "LOG_SOFTMAX", "FLOOR_MOD",
}  # fmt: skip
_INTEGER_FUNCTIONS = {"LOGISTIC", "TANH", "LOG_SOFTMAX", "RSQRT", "SOFTMAX"}
# Two or more steps where others take one: division, a product and a clamp, two passes over the elements.
_DOUBLE = {"DIV", "FLOOR_DIV", "HARD_SWISH", "L2_NORMALIZATION", "SQUARED_DIFFERENCE", "ADD_N"}
_IN_PIECES = {"CONCATENATION", "PACK", "UNPACK", "SPLIT", "SPLIT_V"}
_BY_ROWS = {
    "GATHER", "GATHER_ND", "EMBEDDING_LOOKUP", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "DYNAMIC_UPDATE_SLICE",
    "RESIZE_NEAREST_NEIGHBOR",
}  # fmt: skip
_WHOLE = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "READ_VARIABLE", "ASSIGN_VARIABLE"}
_BY_ELEMENT = {
    "TRANSPOSE", "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "MIRROR_PAD", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH",
    "BROADCAST_TO", "REVERSE_V2",
}  # fmt: skip
_REDUCTIONS = {"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ALL", "ARG_MAX", "ARG_MIN", "CUMSUM"}
_POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"}
_VECTORS = {"FULLY_CONNECTED", "BATCH_MATMUL", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM"}
_WITH_MACS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", *_VECTORS}


def count_work(operator: Operator, subgraph: Subgraph, core: Core) -> Work:
    """Counts of each kind of work of one inference of an operator that TFLite Micro can run."""
    kernel = kernel_of(operator, subgraph, core)
    tensor = activation(operator, subgraph)
    if tensor is None:
        return {"operator": 1}
    if operator.kind in _WITH_MACS:
        fetched = weights_bytes(operator, subgraph)
        counted: Work = {**_count_macs(operator, subgraph, core, kernel, tensor), "weight_byte": fetched}
    elif operator.kind in _POOLS:
        counted = _count_pooling(operator, subgraph, core, kernel, tensor)
    elif operator.kind in _IN_PIECES | _BY_ROWS | _WHOLE | _BY_ELEMENT:
        counted = _count_moves(operator, subgraph, kernel, tensor)
    elif operator.kind in _REDUCTIONS:
        counted = _count_reduction(operator, subgraph, tensor)
    else:
        counted = _count_elements(operator, subgraph, kernel, tensor)
    return {"operator": 1, **counted}


def _outputs(operator: Operator, subgraph: Subgraph) -> int:
    return sum(subgraph.tensors[index].elements for index in operator.outputs)


def _bytes(elements: int, tensor: Tensor) -> int:
    return elements * max(ELEMENT_BITS.get(tensor.dtype, 8), 8) // 8


def _count_macs(operator: Operator, subgraph: Subgraph, core: Core, kernel: Kernel, tensor: Tensor) -> Work:
    multiplied, outputs = macs(operator, subgraph), _outputs(operator, subgraph)
    if kernel.library != "CMSIS-NN":
        if tensor.dtype == "float32":
            gates = 5 if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" else 0
            return {"float_mac": multiplied, "float_element": outputs, "float_function": gates * outputs}
        return {"reference_mac": multiplied, "arithmetic_element": outputs}
    if operator.kind == "CONV_2D":
        return convolution_work(operator, subgraph, core.extension)
    if operator.kind == "DEPTHWISE_CONV_2D":
        return depthwise_work(operator, subgraph, core.extension)
    if operator.kind == "FULLY_CONNECTED" and is_batched(operator, subgraph):
        return matrix_work(operator, subgraph, core.extension)
    if operator.kind == "TRANSPOSE_CONV":
        # Each input pixel is multiplied by the whole kernel into a buffer, which is then requantized.
        return {"matrix_mac": 1.3 * multiplied, "matrix_output": outputs, "move_element": outputs}
    return vector_work(operator, subgraph, core.extension)


def _count_pooling(operator: Operator, subgraph: Subgraph, core: Core, kernel: Kernel, tensor: Tensor) -> Work:
    ofm = subgraph.tensors[operator.outputs[0]]
    window = max(operator.number("filter_width", 1), 1) * max(operator.number("filter_height", 1), 1)
    if kernel.library != "CMSIS-NN":
        return {"float_element": ofm.elements * (window + 1)}
    lanes = {"MVE": 16 if tensor.dtype == "int8" else 8, "DSP": 4, "none": 1}[core.extension]
    channels = ofm.shape[-1] if ofm.shape else 1
    padded = ofm.elements // max(channels, 1) * _ceil(channels, lanes)
    wider = 2 if tensor.dtype == "int16" and core.extension == "MVE" else 1
    return {"pool_element": padded * window * wider, "pool_output": padded}


def _count_moves(operator: Operator, subgraph: Subgraph, kernel: Kernel, tensor: Tensor) -> Work:
    outputs = _outputs(operator, subgraph) if operator.outputs else tensor.elements
    copied = _bytes(outputs, tensor)
    if operator.kind in _WHOLE:
        return {"copy_byte": copied, "copy_piece": 1}
    shape = subgraph.tensors[operator.outputs[0]].shape
    if operator.kind in _IN_PIECES:
        axis = operator.number("axis", 0)
        if operator.kind in ("SPLIT", "SPLIT_V"):  # the axis is an input; at worst all but the last are looped over
            axis = -1
        outer = math.prod(shape[: axis if axis >= 0 else max(len(shape) + axis, 0)])
        return {"copy_byte": copied, "copy_piece": outer * max(len(operator.inputs), len(operator.outputs))}
    rows = outputs // max(shape[-1] if shape else 1, 1)
    if operator.kind in _BY_ROWS or (kernel.library == "CMSIS-NN" and operator.kind in ("PAD", "PADV2")):
        return {"copy_byte": copied, "copy_piece": rows}
    return {"move_element": outputs}


def _count_reduction(operator: Operator, subgraph: Subgraph, tensor: Tensor) -> Work:
    outputs = _outputs(operator, subgraph)
    if tensor.dtype == "float32":
        return {"float_element": tensor.elements + outputs}
    return {"reduced_element": tensor.elements, "arithmetic_element": outputs}


_ACCELERATED_ELEMENTS = {
    "ADD": "add_element", "MUL": "multiply_element", "MAXIMUM": "compare_element", "MINIMUM": "compare_element",
    "SOFTMAX": "softmax_element",
}  # fmt: skip


def _count_elements(operator: Operator, subgraph: Subgraph, kernel: Kernel, tensor: Tensor) -> Work:
    """Elementwise operators and activation functions; the size is that of the larger side (broadcasts, tables)."""
    kind, elements = operator.kind, max(_outputs(operator, subgraph), 1)
    passes = 2 if kind in _DOUBLE else 1
    if kernel.library == "CMSIS-NN":
        return {_ACCELERATED_ELEMENTS[kind]: elements * (1.5 if tensor.dtype == "int16" else 1)}
    types = {tensor.dtype, *(subgraph.tensors[index].dtype for index in operator.outputs)}
    if kind in ("QUANTIZE", "DEQUANTIZE", "CAST") and "float32" in types and len(types) > 1:
        return {"convert_element": elements}
    if kind == "RESIZE_BILINEAR":
        return {"float_element": 6 * elements} if tensor.dtype == "float32" else {"bilinear_element": elements}
    if kind == "CUSTOM":
        return custom_work(operator.custom_code, tensor, elements)
    if tensor.dtype == "float32":
        return {"float_function" if kind in _FLOAT_FUNCTIONS else "float_element": passes * elements}
    if kind == "ELU":
        return {"table_element": elements}
    if kind in _INTEGER_FUNCTIONS:
        # 16-bit functions are read from a table and interpolated.
        return {"function_element": elements * (0.3 if tensor.dtype == "int16" else 1)}
    if kind in _LIGHT or tensor.dtype in _UNREQUANTIZED:
        return {"light_element": elements}
    return {"arithmetic_element": passes * elements}


def _ceil(value: int, step: int) -> int:
    return -(-value // step) * step

"""Scratch memory that kernels ask for while one operator runs, in bytes.

Facts are from the kernels' sources in github.com/tensorflow/tflite-micro (tensorflow/lite/micro/kernels) and from
the `get_buffer_size` functions of github.com/ARM-software/CMSIS-NN (Source/*/arm_*_get_buffer_sizes_s8.c, s16.c).
"""

from mlia.graph.graph import Operator, Subgraph, Tensor

MVE_CHANNELS = 124  # channels that CMSIS-NN's depthwise kernel takes at a time on MVE (CH_IN_BLOCK_MVE)
REVERSED_CHANNELS = 16  # above, a transposed convolution runs as a convolution (REVERSE_TCOL_EFFICIENT_THRESHOLD)


def scratch_sizes(subgraph: Subgraph, operator: Operator, cmsis_nn: bool, extension: str) -> list[int]:
    """Bytes of each scratch buffer of an operator, not aligned; empty for the many that need none."""
    if not operator.outputs:
        return []
    if operator.kind in _COUNTED:
        sizes = _COUNTED[operator.kind](subgraph, operator)
        # CMSIS-NN keeps three of the four gates of an integer LSTM.
        quantized = subgraph.tensors[operator.outputs[0]].dtype in ("int8", "int16")
        return sizes[:3] if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" and cmsis_nn and quantized else sizes
    if operator.kind not in _CMSIS_NN:
        return []
    output = subgraph.tensors[operator.outputs[0]]
    weights = subgraph.tensor(operator.inputs[1]) if len(operator.inputs) > 1 else None
    if weights is not None and weights.dtype == "int4" and operator.kind != "TRANSPOSE_CONV":
        # The reference unpacks all weights, a byte each. CMSIS-NN may need less; its 4-bit kernels are not modeled.
        return [weights.elements]
    if cmsis_nn and output.dtype in ("int8", "int16") and _has_expected_ranks(subgraph, operator):
        return [size for size in _CMSIS_NN[operator.kind](subgraph, operator, extension) if size]
    if operator.kind == "TRANSPOSE_CONV" and output.dtype in ("int8", "int16"):
        return [output.elements * (8 if output.dtype == "int16" else 4)]  # sums, before they are scaled
    return []


def _has_expected_ranks(subgraph: Subgraph, operator: Operator) -> bool:
    """Whether images and their weights have four axes. TFLM refuses others."""
    if operator.kind == "FULLY_CONNECTED":
        return len(operator.inputs) > 1 and operator.inputs[1] >= 0
    used = operator.inputs[1:3] if operator.kind == "TRANSPOSE_CONV" else operator.inputs[:2]
    wanted = 1 if operator.kind == "AVERAGE_POOL_2D" else 2
    return len(used) == wanted and all(index >= 0 and len(subgraph.tensors[index].shape) == 4 for index in used)


def _reduction(subgraph: Subgraph, operator: Operator) -> list[int]:
    """Positions and resolved axes; with quantized values also the sums."""
    if len(operator.inputs) != 2 or min(operator.inputs) < 0:
        return []
    source, axes = (subgraph.tensors[index] for index in operator.inputs)
    output = subgraph.tensors[operator.outputs[0]]
    sums = [4 * output.elements] if source.dtype != "float32" and operator.kind in ("MEAN", "SUM") else []
    return [4 * len(source.shape), 4 * axes.elements, *sums]


def _lstm(subgraph: Subgraph, operator: Operator) -> list[int]:
    """Four gates of batch x state values, as wide as the cell state (input 19): 16 bits or float."""
    state = subgraph.tensor(operator.inputs[19]) if len(operator.inputs) > 19 else None
    return [state.elements * (4 if state.dtype == "float32" else 2)] * 4 if state else []


def _svdf(subgraph: Subgraph, operator: Operator) -> list[int]:
    """32-bit sums: batch x filters, and with quantized values batch x units."""
    if len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0:
        return []
    source, features = (subgraph.tensors[index] for index in operator.inputs[:2])
    if not source.shape or not features.shape:
        return []
    batch, filters = source.shape[0], features.shape[0]
    units = filters // max(operator.number("rank", 1), 1)
    return [4 * batch * filters] + ([4 * batch * units] if source.dtype == "int8" else [])


def _mirror_pad(subgraph: Subgraph, operator: Operator) -> list[int]:
    """Strides of what it reads and of what it writes."""
    return [4 * len(subgraph.tensors[operator.outputs[0]].shape)] * 2


def _sum_of_many(subgraph: Subgraph, operator: Operator) -> list[int]:
    """A pointer to each input; 8 bytes each, as on a host."""
    return [8 * len(operator.inputs)]


def _custom(subgraph: Subgraph, operator: Operator) -> list[int]:
    """The Ethos-U kernel keeps an address (64 bits) and a size (32 bits) for each of its tensors."""
    tensors = len(operator.inputs) - 1 + len(operator.outputs)
    return [8 * tensors, 4 * tensors] if operator.custom_code == "ethos-u" else []


_COUNTED = {
    "MEAN": _reduction, "SUM": _reduction, "REDUCE_MAX": _reduction, "REDUCE_MIN": _reduction,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm, "SVDF": _svdf, "CUSTOM": _custom,
    "MIRROR_PAD": _mirror_pad, "ADD_N": _sum_of_many,
}  # fmt: skip


def _padding(operator: Operator, source: Tensor, kernel: Tensor) -> tuple[int, int]:
    """Rows and columns added before the first, as TFLite computes them."""
    if operator.options.get("padding") != "SAME":
        return 0, 0
    result = []
    for axis, letter in ((1, "h"), (2, "w")):
        stride, dilation = (
            max(operator.number(f"stride_{letter}", 1), 1),
            operator.number(f"dilation_{letter}_factor", 1),
        )
        extent = (kernel.shape[axis] - 1) * dilation + 1
        outputs = -(-source.shape[axis] // stride)
        result.append(max((outputs - 1) * stride + extent - source.shape[axis], 0) // 2)
    return result[0], result[1]


def _dilated(operator: Operator) -> bool:
    return (operator.number("dilation_h_factor", 1), operator.number("dilation_w_factor", 1)) != (1, 1)


def _columns(values: int, extension: str) -> int:
    """im2col of an 8-bit convolution of `values` weights per filter: 4 columns of bytes on MVE, else 2 of 16 bits."""
    if extension == "MVE":
        return 4 * 8 * -(-values // 8)
    return 2 * 2 * 4 * -(-values // 4)


def _convolution(subgraph: Subgraph, operator: Operator, extension: str) -> list[int]:
    source, kernel = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.inputs[1]]
    _, height, width, _ = kernel.shape
    channels = source.shape[3]
    values = height * width * channels
    if source.dtype == "int16":
        return [2 * _columns(values, extension) if extension == "MVE" else 2 * 2 * values]
    if (height, width) == (1, 1) and _padding(operator, source, kernel) == (0, 0) and not _dilated(operator):
        return []
    one_row = source.shape[1] == 1 and height == 1 and operator.number("dilation_w_factor", 1) == 1
    if extension == "MVE" and one_row and operator.number("stride_w", 1) * channels % 4 == 0:
        return []
    return [_columns(values, extension)]


def _depthwise(subgraph: Subgraph, operator: Operator, extension: str) -> list[int]:
    source, kernel = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.inputs[1]]
    _, height, width, channels = kernel.shape
    if source.shape[3] != channels or source.shape[0] != 1 or _dilated(operator):
        return []
    values = height * width * channels
    if source.dtype == "int16":
        return []  # TFLM calls the kernel that needs none
    if extension == "MVE":
        return [4 * MVE_CHANNELS * height * width]
    if (height, width) == (3, 3) and max(_padding(operator, source, kernel)) <= 1:
        return []
    return [2 * values] if extension == "DSP" else []


def _average_pool(subgraph: Subgraph, operator: Operator, extension: str) -> list[int]:
    source = subgraph.tensors[operator.inputs[0]]
    return [4 * source.shape[3]] if extension == "DSP" and source.dtype == "int8" else []


def _transposed_convolution(subgraph: Subgraph, operator: Operator, extension: str) -> list[int]:
    output = subgraph.tensors[operator.outputs[0]]
    if output.dtype != "int8":
        return [8 * output.elements]
    kernel, source = subgraph.tensors[operator.inputs[1]], subgraph.tensors[operator.inputs[2]]
    filters, height, width, channels = kernel.shape
    stride_h, stride_w = operator.number("stride_h", 1), operator.number("stride_w", 1)
    if max(stride_h, stride_w) <= 2 and channels > REVERSED_CHANNELS:
        values = channels * height * width
        return [_columns(values, extension), values * filters]  # and the kernel, turned around
    columns = (source.shape[2] - 1) * stride_w + max(width, stride_h)
    return [4 * columns * filters * max(height, stride_h)]


def _fully_connected(subgraph: Subgraph, operator: Operator, extension: str) -> list[int]:
    """Sums of weights that are computed while running; those of constant weights are in the tail."""
    output, weights = subgraph.tensors[operator.outputs[0]], subgraph.tensors[operator.inputs[1]]
    if extension != "MVE" or output.dtype != "int8" or weights.is_constant:
        return []
    return [] if len(output.shape) > 2 and weights.shape[-1] % 4 == 0 else [4 * output.shape[-1]]


_CMSIS_NN = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "AVERAGE_POOL_2D": _average_pool,
    "TRANSPOSE_CONV": _transposed_convolution,
    "FULLY_CONNECTED": _fully_connected,
}

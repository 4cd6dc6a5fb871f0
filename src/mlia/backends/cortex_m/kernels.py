"""Which kernel of TFLite Micro runs an operator on a core, and why that one."""

from mlia.backends.cortex_m.coverage import (
    ACCELERATED,
    ACTIVATION_INPUT,
    CUSTOM,
    SAME_SHAPE,
    SUPPORTED,
    WEIGHT_TYPES,
)
from mlia.cpu_results import Kernel
from mlia.graph.graph import Operator, Subgraph, Tensor
from mlia.targets.cores import Core

_INSTRUCTIONS = {"MVE": "MVE", "DSP": "DSP", "none": "plain C"}
_SPOKEN = {
    "AVERAGE_POOL_2D": "average pooling", "MAX_POOL_2D": "maximum pooling", "FULLY_CONNECTED": "fully connected",
    "BATCH_MATMUL": "matrix product", "TRANSPOSE_CONV": "transpose convolution", "SVDF": "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "LSTM", "CONV_2D": "convolution", "DEPTHWISE_CONV_2D": "depthwise convolution",
    "ADD": "addition", "MUL": "multiplication", "PADV2": "pad",
}  # fmt: skip
# Control flow and variables: what they call is counted where it stands, not here.
_CALLING = {"IF", "WHILE", "CALL_ONCE"}
CALLS = "it calls other subgraphs, whose operators are not counted here"
_WITHOUT_OUTPUTS = {*_CALLING, "ASSIGN_VARIABLE"}
_RANKS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "TRANSPOSE_CONV": 4, "FULLY_CONNECTED": 2}  # of their weights


def activation(operator: Operator, subgraph: Subgraph) -> Tensor | None:
    """The tensor the operator works on, whose type chooses the kernel; its output if it has no such input."""
    position = ACTIVATION_INPUT.get(operator.kind, 0)
    if operator.kind == "READ_VARIABLE":  # its input is a handle
        position = len(operator.inputs)
    tensor = subgraph.tensor(operator.inputs[position]) if position < len(operator.inputs) else None
    if tensor is None and operator.outputs:
        return subgraph.tensors[operator.outputs[0]]
    return tensor


def weights(operator: Operator, subgraph: Subgraph) -> Tensor | None:
    """The second input, which holds the weights of those operators that have any."""
    return subgraph.tensor(operator.inputs[1]) if len(operator.inputs) > 1 else None


def kernel_of(operator: Operator, subgraph: Subgraph, core: Core) -> Kernel:
    """Which kernel runs `operator` on `core`, or why TFLite Micro cannot run it at all."""
    tensor = activation(operator, subgraph)
    refusal = _refusal(operator, subgraph, tensor)
    if refusal:
        return Kernel("TFLM reference", _spoken(operator), False, refusal)
    if tensor is None:
        if operator.kind not in _CALLING:
            return Kernel("TFLM reference", _spoken(operator), False, "it has neither inputs nor outputs")
        return Kernel("TFLM reference", _spoken(operator), True, CALLS)
    why_reference = _why_reference(operator, subgraph, tensor)
    if why_reference:
        name = f"{_spoken(operator)}, {tensor.dtype}"
        return Kernel("TFLM reference", name, True, why_reference)
    name, reason = _accelerated(operator, subgraph, core)
    kind_of_data = "" if tensor.dtype == "int8" else f", {tensor.dtype}"
    return Kernel("CMSIS-NN", f"{name}, {_INSTRUCTIONS[core.extension]}{kind_of_data}", True, reason)


def is_pointwise(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether a convolution multiplies pixels as they lie in memory: 1x1, no padding, no dilation."""
    kernel = weights(operator, subgraph)
    return (
        kernel is not None
        and kernel.shape[1:3] == (1, 1)
        and operator.number("dilation_w_factor", 1) == 1
        and operator.number("dilation_h_factor", 1) == 1
    )


def is_row(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether CMSIS-NN's kernel for one line of pixels (1xN, not dilated) takes a convolution."""
    ifm, kernel = activation(operator, subgraph), weights(operator, subgraph)
    return (
        ifm is not None
        and kernel is not None
        and ifm.shape[1] == 1
        and kernel.shape[1] == 1
        and operator.number("dilation_w_factor", 1) == 1
        and operator.number("stride_w", 1) * ifm.shape[3] % 4 == 0
        and ifm.shape[3] == kernel.shape[3]
    )


def is_plain_depthwise(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether CMSIS-NN's optimized depthwise kernels apply: one output per channel, no dilation, one image."""
    ifm, ofm = activation(operator, subgraph), subgraph.tensors[operator.outputs[0]]
    return (
        ifm is not None
        and bool(ifm.shape)
        and ifm.shape[0] == 1
        and ifm.shape[-1:] == ofm.shape[-1:]
        and operator.number("dilation_w_factor", 1) == 1
        and operator.number("dilation_h_factor", 1) == 1
    )


def _spoken(operator: Operator) -> str:
    if operator.kind == "CUSTOM":
        return operator.custom_code or "custom operator"
    return _SPOKEN.get(operator.kind, operator.kind.lower().replace("_", " "))


def _refusal(operator: Operator, subgraph: Subgraph, tensor: Tensor | None) -> str:
    """Why TFLite Micro cannot run the operator; empty when it can."""
    if operator.kind == "CUSTOM":
        if operator.custom_code == "ethos-u":
            return "it is for the Ethos-U, not for the CPU"
        return "" if operator.custom_code in CUSTOM else f"'{operator.custom_code}' does not come with TFLite Micro"
    if operator.kind not in SUPPORTED:
        return f"TFLite Micro has no {operator.kind}"
    if tensor is None:
        return ""
    if tensor.dtype not in SUPPORTED[operator.kind]:
        return f"TFLite Micro has {operator.kind} for {', '.join(SUPPORTED[operator.kind])}, not for {tensor.dtype}"
    kernel = weights(operator, subgraph)
    rank = _RANKS.get(operator.kind)
    if rank and (kernel is None or len(kernel.shape) != rank or (rank == 4 and len(tensor.shape) != 4)):
        return f"TFLite Micro's {_spoken(operator)} takes weights of {rank} dimensions"
    if not operator.outputs and operator.kind not in _WITHOUT_OUTPUTS:
        return "it has no outputs"
    allowed = WEIGHT_TYPES.get(operator.kind, {}).get(tensor.dtype)
    if allowed and kernel is not None and kernel.dtype not in allowed:
        return f"TFLite Micro takes {' or '.join(allowed)} weights with {tensor.dtype} inputs, not {kernel.dtype}"
    if kernel is not None and kernel.is_sparse and allowed:
        return "TFLite Micro does not take weights that are stored sparse"
    return ""


def _why_reference(operator: Operator, subgraph: Subgraph, tensor: Tensor) -> str:
    """Why the reference kernel runs the operator; empty when CMSIS-NN does."""
    if operator.kind in _CALLING:
        return CALLS
    if operator.kind not in ACCELERATED:
        return f"CMSIS-NN has no {_spoken(operator)} that TFLite Micro calls"
    if tensor.dtype not in ACCELERATED[operator.kind]:
        types = " and ".join(ACCELERATED[operator.kind])
        return f"TFLite Micro calls CMSIS-NN's {_spoken(operator)} for {types}, not for {tensor.dtype}"
    if operator.kind in SAME_SHAPE and len({_shape(subgraph, index) for index in operator.inputs}) > 1:
        return f"CMSIS-NN's {_spoken(operator)} takes inputs of one shape only"
    if operator.kind == "TRANSPOSE" and len(tensor.shape) > 4:
        return "CMSIS-NN's transpose takes up to four dimensions"
    return ""


def _shape(subgraph: Subgraph, index: int) -> tuple[int, ...]:
    tensor = subgraph.tensor(index)
    return tensor.shape if tensor else ()


def _accelerated(operator: Operator, subgraph: Subgraph, core: Core) -> tuple[str, str]:
    """Name of CMSIS-NN's kernel without its instructions, and why it is that one."""
    if operator.kind == "CONV_2D":
        return _convolution(operator, subgraph, core)
    if operator.kind == "DEPTHWISE_CONV_2D":
        return _depthwise(operator, subgraph, core)
    if operator.kind == "FULLY_CONNECTED" and is_batched(operator, subgraph):
        return "fully connected as convolution 1x1", "more than two dimensions, and rows of a multiple of 4"
    return _spoken(operator), f"CMSIS-NN has a kernel, here with {_by(core)}"


def is_batched(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether a fully connected operator is run as a 1x1 convolution over all its rows."""
    ofm, kernel = subgraph.tensors[operator.outputs[0]], weights(operator, subgraph)
    ifm = activation(operator, subgraph)
    is_int8 = ifm is not None and ifm.dtype == "int8" and kernel is not None and kernel.dtype == "int8"
    return is_int8 and kernel is not None and len(ofm.shape) > 2 and kernel.shape[-1] % 4 == 0


def _by(core: Core) -> str:
    return {"MVE": "vector instructions", "DSP": "DSP instructions", "none": "plain C"}[core.extension]


def _convolution(operator: Operator, subgraph: Subgraph, core: Core) -> tuple[str, str]:
    kernel = weights(operator, subgraph)
    size = "x".join(str(side) for side in kernel.shape[1:3]) if kernel else ""
    unpacked = ", int4 weights" if kernel and kernel.dtype == "int4" else ""
    if is_pointwise(operator, subgraph):
        return f"convolution {size}{unpacked}", "a 1x1 kernel multiplies the pixels where they lie"
    if core.extension == "MVE" and is_row(operator, subgraph):
        return f"convolution {size}{unpacked}", "one line of pixels is multiplied where it lies"
    return f"convolution {size}{unpacked}, im2col", "the pixels under the kernel are copied into columns first"


def _depthwise(operator: Operator, subgraph: Subgraph, core: Core) -> tuple[str, str]:
    kernel = weights(operator, subgraph)
    size = "x".join(str(side) for side in kernel.shape[1:3]) if kernel else ""
    unpacked = ", int4 weights" if kernel and kernel.dtype == "int4" else ""
    if is_plain_depthwise(operator, subgraph):
        return f"depthwise {size}{unpacked}", f"several channels at a time with {_by(core)}"
    return f"depthwise {size}{unpacked}, general", "the fast one takes one output per channel, no dilation, one image"

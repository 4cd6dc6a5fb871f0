"""What TFLM keeps in the tail of its arena for as long as a model is loaded, in bytes.

Each structure is written as a layout: how many fields of which size, in order, so that its size follows for any
size of a pointer. `p` is a pointer or a size_t, `d` 8 bytes, `i` 4 (integers, floats, enumerations), `h` 2, `b` 1.
Layouts are from the structures of github.com/tensorflow/tflite-micro (tensorflow/lite/micro, lite/c), and confirmed
on a 64-bit host by what its recording interpreter reports for models of single operators. Compilers for bare metal
may store enumerations in fewer bytes, which makes some structures a little smaller than computed here.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from mlia.graph.graph import Graph, Operator, Subgraph, Tensor

BUFFER_ALIGNMENT = 16  # MicroArenaBufferAlignment()
SCRATCH_REQUESTS = 12  # for which room is kept while kernels are prepared (kMaxScratchBuffersPerOp)
PLANNED_BUFFER = 40  # what the planner notes for each buffer: 10 numbers (GreedyMemoryPlanner::per_buffer_size)
QUANTIZED_DATA = {"BATCH_MATMUL": 28, "LOG_SOFTMAX": 40}  # what kernels keep in addition for integers
LUT_BYTES = 2 * 513  # a table of 16-bit softmax, of which there are two (kInt16LUTArraySize)


class Runtime(Struct, frozen=True):
    """How TFLM was built: bytes of a pointer, with compressed tensors or not, recording its allocations or not."""

    pointer_bytes: int = 4
    compression: bool = False
    recording: bool = False


MICROCONTROLLER = Runtime()
PYTHON_PACKAGE = Runtime(8, compression=True, recording=True)  # `tflite-micro` on a 64-bit host


class Kernel(Struct, frozen=True):
    """Layouts of what one operator keeps: its options, its own data, and what is added to that by
    compression and by CMSIS-NN.
    """

    options: str = ""
    data: str = ""
    compressed: str = ""
    cmsis_nn: str = ""


KERNELS = {
    "CONV_2D": Kernel("7i", "9i 2p 3i", "2i", "i"),
    "DEPTHWISE_CONV_2D": Kernel("7i", "9i 2p 3i", "2i", "i"),
    "TRANSPOSE_CONV": Kernel("5i", "11i 2p 3i", "2i", "i"),
    # 16 bytes more than the fields of its options, as the interpreter reports.
    "FULLY_CONNECTED": Kernel("8i", "9i 2p b", "2i", "2p i p 3i"),
    "AVERAGE_POOL_2D": Kernel("10i", "8i", "", "i"),
    "MAX_POOL_2D": Kernel("10i", "8i", "", "i"),
    "SOFTMAX": Kernel("i", "d 7i 5p", "", "2i"),
    "LOG_SOFTMAX": Kernel(),
    "ADD": Kernel("i b", "b 14i"),
    "SUB": Kernel("i b", "13i"),
    "MUL": Kernel("i", "9i"),
    "DIV": Kernel("i", "7i"),
    "SQUARED_DIFFERENCE": Kernel("", "28i"),
    "CONCATENATION": Kernel("2i", "b 2p h 2i", "10i"),
    "RESHAPE": Kernel("9i"),
    "SQUEEZE": Kernel("9i"),
    "PAD": Kernel("", "14i"),
    "PADV2": Kernel("", "14i"),
    "MIRROR_PAD": Kernel("i", "5i"),
    "MEAN": Kernel("b", "11i"),
    "SUM": Kernel("b", "11i"),
    "REDUCE_MAX": Kernel("b", "11i"),
    "REDUCE_MIN": Kernel("b", "11i"),
    "RESIZE_BILINEAR": Kernel("2b"),
    "RESIZE_NEAREST_NEIGHBOR": Kernel("2b"),
    "STRIDED_SLICE": Kernel("5i b", "21i"),
    "GATHER": Kernel("2i", "5i"),
    "GATHER_ND": Kernel("", "4i"),
    "SELECT_V2": Kernel("", "b"),
    "SPACE_TO_BATCH_ND": Kernel("", "i"),
    "CUMSUM": Kernel("2b"),
    "PACK": Kernel("2i"),
    "UNPACK": Kernel("2i"),
    "SPLIT": Kernel("i"),
    "SPLIT_V": Kernel("i"),
    "LEAKY_RELU": Kernel("i", "6i"),
    "PRELU": Kernel("", "7i"),
    "RELU": Kernel("", "7i"),
    "RELU6": Kernel("", "2i"),
    "TANH": Kernel("", "4i"),
    "LOGISTIC": Kernel("", "4i"),
    "ELU": Kernel("", "256b"),
    "HARD_SWISH": Kernel("", "5i"),
    "ABS": Kernel("", "7i"),
    "RSQRT": Kernel("", "7i"),
    "ARG_MAX": Kernel("i"),
    "ARG_MIN": Kernel("i"),
    "CAST": Kernel("2i"),
    "SHAPE": Kernel("i"),
    "DEPTH_TO_SPACE": Kernel("i", "5i"),
    "SPACE_TO_DEPTH": Kernel("i", "5i"),
    "L2_NORMALIZATION": Kernel("i", "i"),
    "BATCH_MATMUL": Kernel("3b", "16i"),
    "QUANTIZE": Kernel("", "d 6i"),
    "DEQUANTIZE": Kernel("", "d 6i"),
    "SVDF": Kernel("2i b", "9i", "", "i p"),
    # Sizes, the state's, and of four gates twice the parameters of a fully connected operator; three products.
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Kernel("3i 3b", "89i 39d 4i d", "", "75i 20p"),
    "CALL_ONCE": Kernel("i", "i b"),
    "IF": Kernel("2i", "2i"),
    "WHILE": Kernel("2i", "2i"),
    "VAR_HANDLE": Kernel("2p", "i"),
    "READ_VARIABLE": Kernel(),
    "ASSIGN_VARIABLE": Kernel("", "", "i"),
    "CUSTOM": Kernel("", "3i"),
} | {
    kind: Kernel("", "8i")
    for kind in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
} | {
    kind: Kernel()
    for kind in (
        "TRANSPOSE", "SLICE", "EXPAND_DIMS", "MAXIMUM", "MINIMUM", "SQRT", "EXP", "LOG", "NEG", "SQUARE", "FLOOR",
        "CEIL", "ROUND", "SIN", "COS", "ZEROS_LIKE", "FILL", "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT",
        "FLOOR_DIV", "FLOOR_MOD", "BROADCAST_TO", "BATCH_TO_SPACE_ND", "ADD_N", "REVERSE_V2",
    )
}  # fmt: skip
OTHER_KERNEL = Kernel("4i", "16i")  # of operators that are not above: as large as the usual ones
PER_CHANNEL = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}  # axis of the weights with output channels


def aligned(size: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-size // alignment) * alignment


def layout_bytes(layout: str, pointer_bytes: int) -> tuple[int, int]:
    """Size and alignment of a structure; each field is aligned to its own size, the whole to its largest field."""
    widths = {"p": pointer_bytes, "d": 8, "i": 4, "h": 2, "b": 1}
    size, largest = 0, 1
    for count, field in re.findall(r"(\d*)([pdihb])", layout):
        width = widths[field]
        size = aligned(size, width) + width * int(count or 1)
        largest = max(largest, width)
    return aligned(size, largest), largest


class _Tail:
    """Bytes taken from the end of the arena, downward."""

    def __init__(self, pointer_bytes: int) -> None:
        self.bytes = 0
        self._pointer_bytes = pointer_bytes

    def structures(self, layout: str, count: int = 1) -> None:
        size, alignment = layout_bytes(layout, self._pointer_bytes)
        if size and count:
            self.bytes = aligned(self.bytes + size * count, alignment)

    def buffer(self, size: int) -> None:
        self.bytes = aligned(self.bytes + size, BUFFER_ALIGNMENT)


class Persistent(Struct, frozen=True):
    """Bytes of the tail at the end and when the head is planned, and the most that preparing a kernel needs."""

    size_bytes: int
    when_planned: int
    preparing_bytes: int


def persistent_bytes(graph: Graph, cmsis_nn: bool, extension: str, scratch_count: int, runtime: Runtime) -> Persistent:
    """What is in the tail, allocated in the order in which TFLM does it."""
    tail = _Tail(runtime.pointer_bytes)
    _bookkeeping(tail, graph, runtime)
    operators = [(subgraph, operator) for subgraph in graph.subgraphs for operator in subgraph.operators]
    for _, operator in operators:
        tail.structures(KERNELS.get(operator.kind, OTHER_KERNEL).options)
    for _, operator in operators:
        size = _kernel_data(operator, cmsis_nn, runtime)
        if size:
            tail.buffer(size)
    resources: set[str] = set()
    preparing = 0
    for subgraph, operator in operators:
        for size in _prepared(subgraph, operator, cmsis_nn, extension):
            tail.buffer(size)
        for size in _resource(subgraph, operator, resources):
            tail.buffer(size)
        preparing = max(preparing, tail.bytes + _prepare_bytes(subgraph, operator, runtime))
    tail.structures("p", scratch_count)
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.is_variable:
                tail.buffer(tensor.elements * _element_bytes(tensor))
    before = tail.bytes
    for indexes in (graph.main.inputs, graph.main.outputs):
        tail.buffer(runtime.pointer_bytes * len(indexes))
        _interface(tail, (graph.main.tensors[index] for index in indexes))
    return Persistent(tail.bytes, before, preparing)


def _prepare_bytes(subgraph: Subgraph, operator: Operator, runtime: Runtime) -> int:
    """What is at the head while a kernel is prepared: requests for scratch buffers, and the tensors it looks at.

    Convolutions look at their input, weights and output twice.
    """
    indexes = [*operator.inputs, *operator.outputs]
    if operator.kind in PER_CHANNEL:
        indexes += [*operator.inputs[:2], *operator.outputs]
    looked_at = _Tail(runtime.pointer_bytes)
    looked_at.structures("p 2i", SCRATCH_REQUESTS)
    _interface(looked_at, (subgraph.tensors[index] for index in indexes if index >= 0))
    return looked_at.bytes


def setup_bytes(graph: Graph, scratch_count: int, buffer_count: int, runtime: Runtime) -> int:
    """Bytes that planning takes at the head, before tensors and scratch buffers are there."""
    tensors = sum(len(subgraph.tensors) for subgraph in graph.subgraphs)
    request, _ = layout_bytes("p 2i", runtime.pointer_bytes)
    life, _ = layout_bytes("2p 3i b", runtime.pointer_bytes)
    noted = request * (scratch_count + SCRATCH_REQUESTS) + runtime.pointer_bytes * len(graph.subgraphs)
    return aligned(noted + life * (tensors + scratch_count), BUFFER_ALIGNMENT) + PLANNED_BUFFER * buffer_count


def _bookkeeping(tail: _Tail, graph: Graph, runtime: Runtime) -> None:
    """The allocators and the planner, state that outlives a call, and a list of tensors and nodes per subgraph."""
    records = 8 if runtime.compression else 7
    tail.structures("8p i" + (" 4p" if runtime.recording else ""))  # SingleArenaBufferAllocator
    tail.structures("p 2i 4p 2i p b")  # GreedyMemoryPlanner
    tail.structures("5p b 3p" + (f" p {3 * records}p" if runtime.recording else ""))  # MicroAllocator
    resources = {_resource_name(operator) for subgraph in graph.subgraphs for operator in subgraph.operators} - {""}
    if resources:
        tail.buffer(layout_bytes("p 2i", runtime.pointer_bytes)[0])  # MicroResourceVariables
        tail.buffer(layout_bytes("4p b", runtime.pointer_bytes)[0] * len(resources))
    tail.structures("2p")  # MicroBuiltinDataAllocator
    tail.structures("3p" if runtime.compression else "2p", len(graph.subgraphs))  # SubgraphAllocations
    for subgraph in graph.subgraphs:
        tail.structures("2p i", len(subgraph.tensors))  # TfLiteEvalTensor
    for subgraph in graph.subgraphs:
        tail.structures("6p i p", len(subgraph.operators))  # NodeAndRegistration


def _kernel_data(operator: Operator, cmsis_nn: bool, runtime: Runtime) -> int:
    kernel = KERNELS.get(operator.kind, OTHER_KERNEL)
    size, _ = layout_bytes(f"{kernel.data} {kernel.compressed if runtime.compression else ''}", runtime.pointer_bytes)
    if cmsis_nn and kernel.cmsis_nn:
        added, alignment = layout_bytes(kernel.cmsis_nn, runtime.pointer_bytes)
        size = aligned(size, alignment) + added
    return size


def _prepared(subgraph: Subgraph, operator: Operator, cmsis_nn: bool, extension: str) -> Iterator[int]:
    """Buffers that a kernel takes when it has seen its tensors."""
    source = subgraph.tensor(operator.inputs[0]) if operator.inputs else None
    weights = subgraph.tensor(operator.inputs[1]) if len(operator.inputs) > 1 else None
    output = subgraph.tensor(operator.outputs[0]) if operator.outputs else None
    if weights and not weights.shape:
        weights = None
    if operator.kind in QUANTIZED_DATA and output and output.dtype in ("int8", "int16"):
        yield QUANTIZED_DATA[operator.kind]
    if operator.kind in PER_CHANNEL and weights and output and len(weights.shape) > PER_CHANNEL[operator.kind]:
        if not (cmsis_nn and output.dtype == "float32") or operator.kind == "TRANSPOSE_CONV":
            yield from [4 * weights.shape[PER_CHANNEL[operator.kind]]] * 2  # multipliers and shifts
    elif operator.kind == "FULLY_CONNECTED" and weights and output and output.dtype != "float32":
        yield from _fully_connected(weights, output, cmsis_nn, extension)
    elif operator.kind == "SOFTMAX" and source and source.dtype == "int16":
        yield from [LUT_BYTES] * 2
    elif operator.kind == "BATCH_MATMUL" and source and weights:
        # What is not stored as the kernel reads it is turned around, and described anew.
        turned = [source] * bool(operator.options.get("adj_x")) + [weights] * (not operator.options.get("adj_y"))
        yield from (64 + tensor.elements * _element_bytes(tensor) for tensor in turned)
    elif operator.kind in ("SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM") and source and weights and cmsis_nn:
        yield from _sums_of_weights(operator.kind, source, weights, extension)


def _sums_of_weights(kind: str, source: Tensor, weights: Tensor, extension: str) -> Iterator[int]:
    if kind == "SVDF" and source.dtype == "int8" and extension == "MVE":
        yield 4 * weights.shape[0]
    elif kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" and source.dtype != "float32":
        yield from [weights.shape[0] * (8 if source.dtype == "int16" else 4)] * 8  # of inputs and states, four gates


def _fully_connected(weights: Tensor, output: Tensor, cmsis_nn: bool, extension: str) -> Iterator[int]:
    units, depth = weights.shape[0], weights.shape[-1]
    if weights.quantization and len(weights.quantization.scale) > 1:
        yield from [4 * units] * 2
    if cmsis_nn and output.dtype == "int8" and weights.dtype == "int8":
        if len(output.shape) > 2 and depth % 4 == 0:
            yield from [4 * units] * 2  # it runs as a 1x1 convolution
        elif extension == "MVE" and weights.is_constant:
            yield 4 * units  # sums of weights


def _resource_name(operator: Operator) -> str:
    return f"{operator.options.get('shared_name', '')}" if operator.kind == "VAR_HANDLE" else ""


def _resource(subgraph: Subgraph, operator: Operator, known: set[str]) -> Iterator[int]:
    """The buffer of a resource, which its first assignment takes."""
    if operator.kind != "ASSIGN_VARIABLE" or len(operator.inputs) != 2:
        return
    handle, value = operator.inputs[0], subgraph.tensors[operator.inputs[1]]
    for other in subgraph.operators:
        name = _resource_name(other)
        if handle in other.outputs and name not in known:
            known.add(name)
            yield value.elements * _element_bytes(value)


def _interface(tail: _Tail, tensors: Iterable[Tensor]) -> None:
    """A full tensor structure and its quantization for each input or output of the model."""
    for tensor in tensors:
        tail.structures("i 4p 4i b")  # TfLiteTensor
        if tensor.quantization and tensor.quantization.scale and tensor.quantization.zero_point:
            tail.structures("2p i")  # TfLiteAffineQuantization
            tail.structures("i", 1 + len(tensor.quantization.scale))


def _element_bytes(tensor: Tensor) -> int:
    digits = re.search(r"\d+$", tensor.dtype)
    return max(int(digits.group()) // 8, 1) if digits else 1

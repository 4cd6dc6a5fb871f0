"""Which operators TFLite Micro has, for which types, and which of them CMSIS-NN speeds up. Data only.

Which operators there are was found by asking the interpreter of the `tflite-micro` package named below for each; for
which types, by running a model of one operator of each type. Not run, and so taken from what their kernels are known
to accept: types of weights and states, 64-bit integers, and the types of CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED,
TRANSPOSE_CONV, SVDF, LSTM, BATCH_TO_SPACE_ND, SELECT_V2, EMBEDDING_LOOKUP, DYNAMIC_UPDATE_SLICE, FILL, BROADCAST_ARGS,
variables and control flow. CMSIS-NN's coverage is from the sources of tensorflow/lite/micro/kernels/cmsis_nn: what
each kernel sends to the library; add, multiply, pooling, softmax, SVDF and LSTM are from what is known of them.
"""

from collections.abc import Mapping

TFLITE_MICRO = "tflite-micro 0.dev20261023182759 (commit 8f6596d)"
CMSIS_NN = "tensorflow/lite/micro/kernels/cmsis_nn of tflite-micro, commit 0cc6f98 (2025)"

_FLOAT = ("float32",)
_FLOAT_INT8 = ("float32", "int8")
_FLOAT_INT = ("float32", "int8", "int16")
_NUMBERS = ("float32", "int8", "int16", "int32")
_ANY = ("float32", "int8", "int16", "int32", "int64", "uint8", "bool")


def _table(*groups: tuple[tuple[str, ...], str]) -> Mapping[str, tuple[str, ...]]:
    return {kind: types for types, kinds in groups for kind in kinds.split()}


# The type of the activation: what the operator's data input holds.
SUPPORTED: Mapping[str, tuple[str, ...]] = _table(
    (_FLOAT_INT, "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED TRANSPOSE_CONV BATCH_MATMUL UNIDIRECTIONAL_SEQUENCE_LSTM"),
    (_FLOAT_INT8, "SVDF"),
    (_FLOAT_INT, "AVERAGE_POOL_2D MAX_POOL_2D"),
    (_FLOAT, "L2_POOL_2D"),
    (_NUMBERS, "ADD SUB MUL MAXIMUM MINIMUM SQUARED_DIFFERENCE"),
    (("float32", "int8", "int32"), "DIV"),
    (_FLOAT_INT8, "ADD_N PRELU L2_NORMALIZATION LOG_SOFTMAX"),
    (_FLOAT, "FLOOR_DIV FLOOR_MOD NEG EXP LOG SIN COS SQRT SQUARE CEIL FLOOR ROUND"),
    (_FLOAT_INT, "ABS RSQRT LEAKY_RELU RELU RELU6 LOGISTIC TANH SOFTMAX"),
    (_FLOAT_INT8, "ELU HARD_SWISH"),
    (("float32", "int8", "int32", "int64", "bool"), "EQUAL NOT_EQUAL"),
    (("float32", "int8", "int16", "int32", "int64"), "GREATER"),
    (("float32", "int8", "int32", "int64"), "GREATER_EQUAL LESS LESS_EQUAL"),
    (("bool",), "LOGICAL_AND LOGICAL_OR LOGICAL_NOT REDUCE_ALL"),
    (_FLOAT_INT, "MEAN SUM"),
    (_FLOAT_INT8, "REDUCE_MAX REDUCE_MIN ARG_MAX ARG_MIN CUMSUM"),
    (_ANY, "RESHAPE SQUEEZE SHAPE BROADCAST_TO REVERSE_V2 READ_VARIABLE ASSIGN_VARIABLE"),
    (("float32", "int8", "int16"), "EXPAND_DIMS TRANSPOSE"),
    (("float32", "int8", "int16", "int32", "int64", "bool"), "CONCATENATION"),
    (("float32", "int8", "int16", "int32", "bool"), "SLICE STRIDED_SLICE"),
    (_NUMBERS, "PAD PADV2 PACK UNPACK SPLIT SPLIT_V"),
    (_FLOAT_INT8, "MIRROR_PAD GATHER GATHER_ND DEPTH_TO_SPACE SPACE_TO_DEPTH SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND"),
    (_FLOAT_INT8, "RESIZE_BILINEAR EMBEDDING_LOOKUP DYNAMIC_UPDATE_SLICE"),
    (_FLOAT_INT, "RESIZE_NEAREST_NEIGHBOR SELECT_V2"),
    (("float32", "int8", "int32", "int64"), "ZEROS_LIKE"),
    (("float32", "int8", "int16", "int32", "uint8"), "QUANTIZE"),
    (("int8", "int16", "uint8"), "DEQUANTIZE"),
    (("float32", "int8", "int16", "int32", "uint32", "bool"), "CAST"),
    (("int32", "int64"), "FILL BROADCAST_ARGS"),
    (_ANY, "IF WHILE CALL_ONCE"),
    (("resource",), "VAR_HANDLE"),
)

# Custom operators that come with TFLite Micro, by their code. The Ethos-U operator is not one of the CPU's.
CUSTOM = (  # all that micro_mutable_op_resolver.h registers, commit 90b983c (2026-08)
    "TFLite_Detection_PostProcess", "CIRCULAR_BUFFER", "TFLM_DECODE", "SignalDelay", "SignalEnergy",
    "SignalFftAutoScale", "SignalFilterBank", "SignalFilterBankLog", "SignalFilterBankSpectralSubtraction",
    "SignalFilterBankSquareRoot", "SignalFramer", "SignalIrfft", "SignalOverlapAdd", "SignalPCAN", "SignalRfft",
    "SignalStacker", "SignalWindow",
)  # fmt: skip

# What the CMSIS-NN variants of the kernels send to the library; all else in them is the reference kernel.
ACCELERATED: Mapping[str, tuple[str, ...]] = _table(
    (("int8", "int16"), "CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED BATCH_MATMUL UNIDIRECTIONAL_SEQUENCE_LSTM"),
    (("int8", "int16"), "AVERAGE_POOL_2D MAX_POOL_2D SOFTMAX ADD MUL"),
    (("int8",), "TRANSPOSE_CONV SVDF MAXIMUM MINIMUM PAD PADV2 TRANSPOSE"),
)
# The CMSIS-NN kernels that take two tensors of one shape only; with others the reference kernel broadcasts.
SAME_SHAPE = ("ADD", "MUL")

# Which input is the activation, where it is not the first.
ACTIVATION_INPUT: Mapping[str, int] = {
    "TRANSPOSE_CONV": 2, "SPLIT": 1, "SELECT_V2": 1, "EMBEDDING_LOOKUP": 1, "ASSIGN_VARIABLE": 1,
}  # fmt: skip
# Kinds whose weights (the second input) must be of certain types for the activation's.
WEIGHT_TYPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "CONV_2D": {"int8": ("int8", "int4"), "int16": ("int8",), "float32": ("float32",)},
    "DEPTHWISE_CONV_2D": {"int8": ("int8", "int4"), "int16": ("int8",), "float32": ("float32",)},
    "FULLY_CONNECTED": {"int8": ("int8", "int4"), "int16": ("int8",), "float32": ("float32",)},
    "TRANSPOSE_CONV": {"int8": ("int8",), "int16": ("int8",), "float32": ("float32",)},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {"int8": ("int8",), "int16": ("int8",), "float32": ("float32",)},
    "SVDF": {"int8": ("int8",), "float32": ("float32",)},
}

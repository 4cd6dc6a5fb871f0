"""Which float operators `islands` can compute in integers. Rules read it, so it imports nothing."""

MOVING = (
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "PAD", "MAX_POOL_2D", "TILE",
    "AVERAGE_POOL_2D", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
)  # fmt: skip
SHARED_SCALE = ("MAXIMUM", "MINIMUM")
BINARY = ("ADD", "SUB", "MUL", *SHARED_SCALE)
FIXED_SCALE = ("LOGISTIC", "SOFTMAX", "TANH")
UNARY = ("ABS", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "NEG", "SQUARE")
INTEGER_FORMS = (*MOVING, *BINARY, *FIXED_SCALE, *UNARY, "MEAN", "DIV")

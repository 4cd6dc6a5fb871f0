"""Models with open sizes, batches, computed parameters, state and control flow, and near misses."""

from functools import partial

from mlia.graph.graph import Graph, Operator, Quantization, Subgraph, Tensor
from mlia.graph.tflite_writer import write_tflite
from tests.rules.cases.compat_sketches import SHAPE, U65, U85, Net, Q, one
from tests.rules.cases.compat_types import fires, int8_model, quiet
from tests.rules.example import Example


def open_height() -> bytes:
    net = Net()
    net._tensors[net.first] = Tensor("image", SHAPE, "int8", Q, shape_signature=(1, -1, 8, 8))
    made = net.tensor(Tensor("it", SHAPE, "int8", Q, shape_signature=(1, -1, 8, 8)))
    net.put(Operator(0, "RELU", (net.first,), (made,)))
    return net.done(made)


def crop(signature: tuple[int, ...], smaller: tuple[int, ...]) -> bytes:
    """SLICE to the size of another tensor, which SHAPE tells: networks with skip connections have it."""
    net = Net()
    net._tensors[net.first] = Tensor("image", SHAPE, "int8", Q, shape_signature=signature)
    wide = net.start()
    net._tensors[wide] = Tensor("before", SHAPE, "int8", Q, shape_signature=signature)
    narrow = net.filter("CONV_2D", net.first, filters=8, stride=(2, 2), name="narrow")
    net._tensors[narrow] = Tensor("narrow", (1, 4, 4, 8), "int8", Q, shape_signature=smaller)
    sizes = net.tensor(Tensor("sizes", (4,), "int32"))
    net.put(Operator(0, "SHAPE", (narrow,), (sizes,), {"out_type": "INT32"}, "ShapeOptions"))
    part = net.tensor(Tensor("it", (1, 4, 4, 8), "int8", Q, shape_signature=smaller))
    net.put(Operator(0, "SLICE", (wide, net.integers("begin", 0, 2, 2, 0), sizes), (part,), {}, "SliceOptions"))
    options = {"fused_activation_function": "NONE"}
    made = net.tensor(Tensor("sum", (1, 4, 4, 8), "int8", Q, shape_signature=smaller))
    net.put(Operator(0, "ADD", (part, narrow), (made,), options, "AddOptions"))
    return net.done(made)


open_batch = partial(crop, (-1, 8, 8, 8), (-1, 4, 4, 8))
known_batch = partial(crop, (), ())


def mean(batch: int) -> bytes:
    net = Net(shape=(batch, 8, 8, 8))
    made = net.operator(
        "MEAN", [net.start(), net.integers("axes", 1, 2)], (batch, 8), "it",
        options_table="ReducerOptions", options={"keep_dims": False},
    )  # fmt: skip
    return net.done(made)


def mean_inside(batch: int) -> bytes:
    """A MEAN over a first size that is made inside the model."""
    net = Net()
    parts = net.plain(
        "RESHAPE", net.start(), net.integers("sizes", batch, 4, 4, 8), shape=(batch, 4, 4, 8), name="parts"
    )
    made = net.operator(
        "MEAN", [parts, net.integers("axes", 1, 2)], (batch, 8), "it",
        options_table="ReducerOptions", options={"keep_dims": False},
    )  # fmt: skip
    return net.done(made)


def slice_from_input() -> bytes:
    net = Net()
    begin = net.input("begin", (4,), "int32")
    size = net.integers("size", 1, 4, 4, 8)
    made = net.operator("SLICE", [net.start(), begin, size], (1, 4, 4, 8), "it", options_table="SliceOptions")
    return net.done(net.end(made))


def slice_from_constants() -> bytes:
    """A begin that is a CAST of a constant."""
    net = Net()
    wide = net.array("wide", [0, 2, 2, 0], "int64")
    begin = net.operator("CAST", [wide], (4,), "begin", dtype="int32", options_table="CastOptions",
                         options={"in_data_type": "INT64", "out_data_type": "INT32"})  # fmt: skip
    size = net.integers("size", 1, 4, 4, 8)
    made = net.operator("SLICE", [net.start(), begin, size], (1, 4, 4, 8), "it", options_table="SliceOptions")
    return net.done(net.end(made))


def pad(dtype: str) -> bytes:
    """MIRROR_PAD, because of PAD the compiler refuses the whole file."""
    paddings = ([[0, 0], [1, 1], [1, 1], [0, 0]], dtype)
    return one("MIRROR_PAD", "MirrorPadOptions", shape=(1, 10, 10, 8), constants=(paddings,), mode="REFLECT")()


def streaming(dtype: str = "int8") -> bytes:
    """A model that adds its input to a variable, between two convolutions."""
    net = Net()
    plain = Quantization((0.05,), (0,))
    kept = plain if dtype == "int8" else None
    handle = net.tensor(Tensor("handle", (), "resource"))
    read = net.tensor(Tensor("read", SHAPE, dtype, kept))
    before = read if kept else net.tensor(Tensor("quantized", SHAPE, "int8", plain))
    x = net.start()
    options = {"container": "", "shared_name": "memory"}
    net.put(Operator(0, "CALL_ONCE", (), (), {"init_subgraph_index": 1}, "CallOnceOptions"))
    net.put(Operator(0, "VAR_HANDLE", (), (handle,), options, "VarHandleOptions"))
    net.put(Operator(0, "READ_VARIABLE", (handle,), (read,), {}, "ReadVariableOptions"))
    if not kept:
        net.put(Operator(0, "QUANTIZE", (read,), (before,), {}, "QuantizeOptions"))
    added = net.operator("ADD", [x, before], SHAPE, "sum", options_table="AddOptions",
                         options={"fused_activation_function": "NONE"})  # fmt: skip
    next_one = added if kept else net.tensor(Tensor("next", SHAPE, dtype))
    if not kept:
        net.put(Operator(0, "DEQUANTIZE", (added,), (next_one,), {}, "DequantizeOptions"))
    net.put(Operator(0, "ASSIGN_VARIABLE", (handle, next_one), (), {}, "AssignVariableOptions"))
    graph = net.graph([net.end(added)])
    zeros = Tensor("zeros", SHAPE, dtype, kept, memoryview(bytes(512 if kept else 2048)))
    first = Subgraph(
        1, "first", (Tensor("handle", (), "resource"), zeros),
        (
            Operator(0, "VAR_HANDLE", (), (0,), options, "VarHandleOptions"),
            Operator(1, "ASSIGN_VARIABLE", (0, 1), (), {}, "AssignVariableOptions"),
        ), (), (),
    )  # fmt: skip
    return write_tflite(Graph((graph.main, first)))


def loop() -> bytes:
    """A WHILE whose rounds are a convolution each."""
    net = Net()
    made = net.tensor(Tensor("it", SHAPE, "int8", Q))
    options = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
    net.put(Operator(0, "WHILE", (net.start(),), (made,), options, "WhileOptions"))
    graph = net.graph([net.end(made)])
    given = Tensor("given", SHAPE, "int8", Q)
    answer = Tensor("answer", (1,), "bool")
    compared = Operator(0, "GREATER", (0, 0), (1,), {}, "GreaterOptions")
    condition = Subgraph(1, "condition", (given, answer), (compared,), (0,), (1,))
    round_ = Operator(0, "ABS", (0,), (1,), {}, "AbsOptions")
    body = Subgraph(2, "body", (given, Tensor("next", SHAPE, "int8", Q)), (round_,), (0,), (1,))
    return write_tflite(Graph((graph.main, condition, body)))


def custom(code: str) -> bytes:
    net = Net()
    made = net.operator("CUSTOM", [net.start()], SHAPE, "it", custom_code=code)
    return net.done(net.end(made))


def split(parts: int) -> bytes:
    net = Net()
    halves = [net.tensor(Tensor(f"half{number}", (1, 8, 8, 4), "int8", Q)) for number in range(2)]
    x = net.start()
    net.put(Operator(0, "SPLIT", (net.integers("axis", 3), x), tuple(halves), {"num_splits": parts}, "SplitOptions"))
    return net.done(*halves)


EXAMPLES: tuple[Example, ...] = (
    fires("CMP006", "open height", open_height, False),
    fires("CMP006", "open batch", open_batch),
    fires("CMP006", "open batch on Ethos-U85", open_batch, True, U85),
    fires("CMP006", "sizes of a known batch", known_batch),
    quiet("CMP006", "known sizes", int8_model),
    fires("CMP007", "MEAN over a batch of 4", partial(mean, 4)),
    fires("CMP007", "MEAN over a batch of 4 on Ethos-U85", partial(mean, 4), True, U85),
    fires("CMP007", "MEAN over parts", partial(mean_inside, 4), False),
    quiet("CMP007", "MEAN over a batch of 1", partial(mean, 1)),
    fires("CMP008", "SLICE from an input", slice_from_input, False),
    fires("CMP008", "SLICE from a constant", slice_from_constants),
    quiet("CMP008", "constant paddings", partial(pad, "int32")),
    fires("CMP009", "int8 paddings", partial(pad, "int8")),
    quiet("CMP009", "int64 paddings", partial(pad, "int64")),
    fires("CMP019", "a variable", streaming),
    fires("CMP019", "a variable on Ethos-U65", streaming, True, U65),
    quiet("CMP019", "no variables", int8_model),
    quiet("CMP019", "a variable on Ethos-U85", streaming, U85),
    fires("CMP019", "a float variable on Ethos-U85", partial(streaming, "float32"), None, U85),
    fires("CMP020", "WHILE", loop, False, U85),
    quiet("CMP020", "no loop", int8_model),
    fires("CMP021", "Flex", partial(custom, "FlexErf"), False),
    fires("CMP021", "post-processing", partial(custom, "TFLite_Detection_PostProcess"), False, U85),
    quiet("CMP021", "built-in operators", int8_model),
    fires("CMP028", "SPLIT in 4 with 2 outputs", partial(split, 4), False),
    quiet("CMP028", "SPLIT in 2 with 2 outputs", partial(split, 2)),
    quiet("CMP028", "a float variable", partial(streaming, "float32"), U85),
)

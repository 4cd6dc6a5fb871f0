"""Models with kinds of operators that an Ethos-U does not have, and near misses."""

from functools import partial

from mlia.graph.graph import Operator, Quantization, Tensor
from tests.rules.cases.compat_sketches import U65, U85, Net, Q, one
from tests.rules.cases.compat_types import fires, int8_model, quiet
from tests.rules.example import Example

DEEP = Quantization((16 / 256,), (127,))


def gather(indexes: object, shape: tuple[int, ...], axis: int = 3) -> bytes:
    return one("GATHER", "GatherOptions", shape=shape, constants=((indexes, "int32"),), axis=axis, batch_dims=0)()


def gather_by_input() -> bytes:
    net = Net()
    indexes = net.input("indexes", (3,), "int32")
    options = {"axis": 3, "batch_dims": 0}
    made = net.operator(
        "GATHER", [net.start(), indexes], (1, 8, 8, 3), "it", options_table="GatherOptions", options=options
    )
    return net.done(made)


def lstm(broken: str) -> bytes:
    """A UNIDIRECTIONAL_SEQUENCE_LSTM of 8 units over 4 steps, without one of its parts or with one too many."""
    net = Net(shape=(1, 4, 8))
    numpy = net._numpy
    unit = Quantization((0.01,), (0,))

    def weights(name: str, *shape: int) -> int:
        return net.constant(name, numpy.ones(shape, numpy.int8), unit)

    def bias(name: str) -> int:
        return net.constant(name, numpy.zeros(8, numpy.int32), Quantization((0.0005,), (0,)))

    def vector(name: str) -> int:
        return net.constant(name, numpy.ones(8, numpy.int16), unit)

    gates = [weights(f"input_to_{gate}", 8, 8) for gate in "ifco"]
    recurrent = [weights(f"recurrent_to_{gate}", 8, 8) for gate in "ifco"]
    peephole = [vector(f"cell_to_{gate}") for gate in "ifo"] if broken == "peephole" else [-1, -1, -1]
    biases = [bias(f"bias_{gate}") for gate in "ifco"]
    projection = [weights("projection", 8, 8), -1] if broken == "projection" else [-1, -1]
    state = net.tensor(Tensor("state", (1, 8), "int8", Q, is_variable=True))
    cell = net.tensor(Tensor("cell", (1, 8), "int16", Quantization((2**-11,), (0,)), is_variable=True))
    norms = [vector(f"norm_{gate}") for gate in "ifco"] if broken == "normalization" else [-1] * 4
    if broken == "implicit":
        gates[0] = recurrent[0] = biases[0] = -1
    inputs = (net.first, *gates, *recurrent, *peephole, *biases, *projection, state, cell, *norms)
    made = net.tensor(Tensor("it", (1, 4, 8), "int8", Q))
    between = tuple(
        net.tensor(Tensor(f"between{number}", (1,), "int16" if number < 4 else "int8", Quantization((0.001,), (0,))))
        for number in range(5)
    )
    options = {
        "fused_activation_function": "TANH", "cell_clip": 10.0, "proj_clip": 0.0, "time_major": False,
        "asymmetric_quantize_inputs": False, "diagonal_recurrent_tensors": False,
    }  # fmt: skip
    table = "UnidirectionalSequenceLSTMOptions"
    net.put(Operator(0, "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, (made,), options, table, 3, intermediates=between))
    return net.done(made)


def scatter(indexes: list[list[int]], is_computed: bool = False) -> bytes:
    """SCATTER_ND of rows."""
    net = Net()
    rows = net.plain("RESHAPE", net.start(), net.integers("sizes", 64, 8), shape=(64, 8), name="rows")
    count = len(indexes)
    begin, size = net.integers("begin", 0, 0), net.integers("size", count, 8)
    part = net.operator("SLICE", [rows, begin, size], (count, 8), "part", options_table="SliceOptions")
    places = net.input("places", (count, 1), "int32") if is_computed else net.array("places", indexes)
    made = net.operator(
        "SCATTER_ND", [places, part, net.integers("shape", 16, 8)], (16, 8), "it",
        dtype="int8", quantization=Q, options_table="ScatterNdOptions",
    )  # fmt: skip
    return net.done(made)


depth_to_space = one("DEPTH_TO_SPACE", "DepthToSpaceOptions", shape=(1, 16, 16, 2), block_size=2)
space_to_depth = one("SPACE_TO_DEPTH", "SpaceToDepthOptions", shape=(1, 4, 4, 32), block_size=2)
space_to_batch = one(
    "SPACE_TO_BATCH_ND", "SpaceToBatchNDOptions", shape=(4, 5, 4, 8),
    constants=(([2, 2], "int32"), ([[1, 1], [0, 0]], "int32")),
)  # fmt: skip
batch_to_space = one(
    "BATCH_TO_SPACE_ND", "BatchToSpaceNDOptions", shape=(1, 15, 14, 8), source=(4, 8, 8, 8),
    constants=(([2, 2], "int32"), ([[0, 1], [1, 1]], "int32")),
)  # fmt: skip
broadcast = one("BROADCAST_TO", shape=(1, 8, 8, 24), source=(1, 8, 8, 1), constants=(([1, 8, 8, 24], "int32"),))
log_softmax = one("LOG_SOFTMAX", "LogSoftmaxOptions", quantization=DEEP)
arg_min = one(
    "ARG_MIN", "ArgMinOptions", shape=(1, 8, 8), constants=(([3], "int32"),), output="int32", output_type="INT32"
)  # fmt: skip
l2_norm = one(
    "L2_NORMALIZATION", "L2NormOptions", quantization=Quantization((1 / 128,), (0,)), fused_activation_function="NONE"
)
top_k = one("TOPK_V2", "TopKV2Options", shape=(1, 8, 8, 2), constants=(([2], "int32"),))
cast = one("CAST", "CastOptions", output="int32", in_data_type="INT8", out_data_type="INT32")

EXAMPLES: tuple[Example, ...] = (
    fires("CMP022", "CAST", cast, False),
    fires("CMP022", "CAST on Ethos-U65", cast, False, U65),
    quiet("CMP022", "CAST on Ethos-U85", cast, U85),
    quiet("CMP022", "ARG_MIN", arg_min),
    fires("CMP023", "DEPTH_TO_SPACE", depth_to_space),
    fires("CMP023", "SPACE_TO_DEPTH", space_to_depth),
    fires("CMP023", "SPACE_TO_DEPTH on Ethos-U85", space_to_depth, True, U85),
    fires("CMP023", "SPACE_TO_BATCH_ND with padding", space_to_batch),
    fires("CMP023", "BATCH_TO_SPACE_ND with cropping", batch_to_space),
    quiet("CMP023", "convolutions", int8_model),
    fires("CMP024", "constant indexes in runs", partial(gather, [0, 1, 2, 6], (1, 8, 8, 4))),
    fires("CMP024", "one constant index", partial(gather, [2], (1, 8, 8, 1))),
    fires("CMP024", "constant rows on Ethos-U85", partial(gather, [7, 3], (1, 2, 8, 8), 1), True, U85),
    fires("CMP024", "indexes from an input", gather_by_input, False),
    quiet("CMP024", "convolutions", int8_model),
    fires("CMP025", "BROADCAST_TO", broadcast),
    fires("CMP025", "LOG_SOFTMAX", log_softmax),
    fires("CMP025", "ARG_MIN", arg_min),
    fires("CMP025", "ARG_MIN on Ethos-U85", arg_min, True, U85),
    quiet("CMP025", "TILE", one("TILE", "TileOptions", shape=(1, 8, 16, 8), constants=(([1, 1, 2, 1], "int32"),))),
    fires("CMP026", "no input gate", partial(lstm, "implicit"), False),
    fires("CMP026", "peepholes", partial(lstm, "peephole"), False),
    fires("CMP026", "projection", partial(lstm, "projection"), False),
    fires("CMP026", "normalization", partial(lstm, "normalization"), False, U85),
    quiet("CMP026", "plain LSTM", partial(lstm, "")),
    fires("CMP027", "the same index twice", partial(scatter, [[1], [1]]), False, U85),
    fires("CMP027", "indexes from an input", partial(scatter, [[1], [2]], True), False, U85),
    quiet("CMP027", "constant rows", partial(scatter, [[1], [2]]), U85),
    fires("CMP029", "L2_NORMALIZATION", l2_norm, False),
    fires("CMP029", "TOPK_V2", top_k, False, U85),
    quiet("CMP029", "ARG_MIN", arg_min),
)

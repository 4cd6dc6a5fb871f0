"""Single operators (or an operator and what it needs) as TFLite models, drawn with a seed.

    case = draw("convolution", "int8", seed=3)
    case.content, case.inputs(numpy.random.default_rng(0))

Every one runs in LiteRT's reference kernels, and Vela puts it on the NPU of the families in `Kind.families`. What a
family does not take is a fact of Vela 5.2, found by compiling.
"""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct

from mlia.graph.graph import Graph
from mlia.graph.tflite_writer import write_tflite
from tests.simulator import kinds_chains as chains
from tests.simulator import kinds_elementwise as elementwise
from tests.simulator import kinds_filters as filters
from tests.simulator import kinds_moves as moves
from tests.simulator.sketch import OperatorSketch

Draw = Callable[[OperatorSketch], list[int]]
ALL = ("ethos-u55", "ethos-u65", "ethos-u85")
U85 = ("ethos-u85",)
BOTH = ("int8", "int16")


class Kind(Struct, frozen=True):
    """How to draw one kind of operator, for which types of feature maps, and which families take it."""

    draw: Draw
    dtypes: tuple[str, ...] = BOTH
    families: tuple[str, ...] = ALL
    not_int16: tuple[str, ...] = ()  # families that take it for int8 only

    def runs_on(self, family: str, dtype: str) -> bool:
        return family in self.families and not (dtype == "int16" and family in self.not_int16)


class Case(Struct, frozen=True):
    """A model, and the numbers that its inputs may have, by their place: lowest and highest."""

    kind: str
    dtype: str
    seed: int
    graph: Graph
    content: bytes
    limits: tuple[tuple[str, tuple[int, ...], str, int, int], ...]  # name, shape, type, lowest, highest

    def inputs(self, random: np.random.Generator, edge: str = "") -> tuple[Any, ...]:
        """One array per input: random, or all of the "lowest" or "highest" number."""
        made = []
        for _, shape, dtype, low, high in self.limits:
            if edge:
                made.append(np.full(shape, low if edge == "lowest" else high, dtype))
            else:
                made.append(random.integers(low, high + 1, shape).astype(dtype))
        return tuple(made)


def draw(kind: str, dtype: str, seed: int) -> Case:
    """A model of that kind. The same arguments give the same bytes."""
    net = OperatorSketch(f"{kind} {dtype} {seed}", dtype, zlib.crc32(f"{kind}/{dtype}/{seed}".encode()))
    outputs = KINDS[kind].draw(net)
    graph = net.graph(outputs)
    limits = []
    for index in graph.subgraphs[0].inputs:
        tensor = graph.subgraphs[0].tensors[index]
        low, high = net.limits.get(index) or (np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max)
        limits.append((tensor.name, tensor.shape, tensor.dtype, int(low), int(high)))
    return Case(kind, dtype, seed, graph, write_tflite(graph), tuple(limits))


_f, _e, _m, _c = filters, elementwise, moves, chains
_REDUCTIONS = {"height_width": (1, 2), "height": (1,), "width": (2,), "channels": (3,)}
KINDS: dict[str, Kind] = {
    "convolution": Kind(_f.filtered),
    "convolution_1x1": Kind(partial(_f.filtered, kernel=(1, 1), stride=(1, 1))),
    "convolution_3x3": Kind(partial(_f.filtered, kernel=(3, 3), stride=(1, 1))),
    "convolution_per_tensor": Kind(partial(_f.filtered, per_channel=False)),
    "convolution_dilated": Kind(_f.dilated),
    "convolution_large_kernel": Kind(_f.large_kernel),
    "convolution_long_stride": Kind(_f.long_stride),
    "convolution_many_weights": Kind(_f.many_weights),
    "convolution_grouped": Kind(partial(_f.filtered, groups=2)),
    "depthwise": Kind(partial(_f.filtered, depthwise=1)),
    "depthwise_multiplied": Kind(partial(_f.filtered, depthwise=3, shape=(1, 9, 9, 1))),
    "depthwise_dilated": Kind(_f.depthwise_dilated),
    "transpose_convolution": Kind(_f.transposed),
    "dense": Kind(_f.dense),
    "dense_per_channel": Kind(partial(_f.dense, per_channel=True)),
    "dense_moving_weights": Kind(partial(_f.dense, moving=True), ("int8",)),
    "batch_matmul": Kind(_f.multiplied, not_int16=("ethos-u55", "ethos-u65")),
    "average_pool": Kind(partial(_f.pooled, kind="AVERAGE_POOL_2D")),
    "average_pool_global": Kind(_f.global_pool),
    "max_pool": Kind(partial(_f.pooled, kind="MAX_POOL_2D")),
    **{f"mean_{name}": Kind(partial(_f.reduced, kind="MEAN", axes=axes)) for name, axes in _REDUCTIONS.items()},
    # Of several axes Vela 5.2 sums over one only (mlia.simulator.differences).
    **{
        f"sum_{name}": Kind(partial(_f.reduced, kind="SUM", axes=axes))
        for name, axes in _REDUCTIONS.items()
        if len(axes) == 1
    },
    **{
        f"reduce_{kind}_{name}": Kind(partial(_f.reduced, kind=f"REDUCE_{kind.upper()}", axes=axes, same=True))
        for kind in ("max", "min")
        for name, axes in _REDUCTIONS.items()
    },
    "argmax": Kind(_f.largest_of, ("int8",)),
    **{kind: Kind(partial(_e.arithmetic, kind=kind.upper())) for kind in ("add", "sub", "mul")},
    **{
        f"{kind}_constant": Kind(partial(_e.arithmetic, kind=kind.upper(), constant=True))
        for kind in ("add", "sub", "mul")
    },
    # Ethos-U55 and U65 get scales for 32-bit operands, and what they do with them is not known.
    **{f"{kind}_int32": Kind(partial(_e.whole_numbers, kind=kind.upper()), ("int8",), U85) for kind in ("add", "sub")},
    "add_itself": Kind(partial(_e.with_itself, kind="ADD"), ("int8",)),
    "mul_itself": Kind(partial(_e.with_itself, kind="MUL"), ("int8",)),
    "maximum": Kind(partial(_e.larger_or_smaller, kind="MAXIMUM")),
    "minimum": Kind(partial(_e.larger_or_smaller, kind="MINIMUM")),
    "squared_difference": Kind(_e.squared_difference, ("int8",)),
    "abs": Kind(partial(_e.unary, kind="ABS", table="AbsOptions")),
    "neg": Kind(_e.negated),
    "relu": Kind(partial(_e.unary, kind="RELU")),
    "relu6": Kind(partial(_e.unary, kind="RELU6")),
    "relu_n1_to_1": Kind(partial(_e.unary, kind="RELU_N1_TO_1"), ("int8",)),
    "relu_0_to_1": Kind(partial(_e.unary, kind="RELU_0_TO_1"), ("int8",)),
    "gelu": Kind(partial(_e.unary, kind="GELU", table="GeluOptions"), ("int8",)),
    "hard_swish": Kind(partial(_e.unary, kind="HARD_SWISH", table="HardSwishOptions"), ("int8",)),
    "leaky_relu": Kind(_e.leaky),
    "prelu": Kind(_e.parametric, ("int8",)),
    "exp": Kind(_e.exponential),
    "log": Kind(partial(_e.of_positive, kind="LOG")),
    "rsqrt": Kind(partial(_e.of_positive, kind="RSQRT")),
    "tanh": Kind(partial(_e.fixed_output, kind="TANH", int8=(1 / 128, 0), int16=1 / 32768)),
    "logistic": Kind(partial(_e.fixed_output, kind="LOGISTIC", int8=(1 / 256, -128), int16=1 / 32768)),
    "softmax": Kind(
        partial(_e.fixed_output, kind="SOFTMAX", int8=(1 / 256, -128), int16=1 / 32768, table="SoftmaxOptions")
    ),
    "quantize": Kind(partial(_e.requantized, output="int8")),
    "quantize_to_int16": Kind(partial(_e.requantized, output="int16")),
    "cast_to_int16": Kind(partial(_e.cast, output="int16"), ("int8",), U85),
    "cast_to_int32": Kind(partial(_e.cast, output="int32"), BOTH, U85),
    **{
        kind: Kind(partial(_e.compared, kind=kind.upper()), BOTH, U85)
        for kind in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    "select": Kind(partial(_e.selected, kind="SELECT"), BOTH, U85),
    "select_v2": Kind(partial(_e.selected, kind="SELECT_V2"), BOTH, U85),
    **{
        kind: Kind(partial(_e.logical, kind=kind.upper()), ("int8",), U85)
        for kind in ("logical_and", "logical_or", "logical_not")
    },
    "concatenation_channels": Kind(partial(_m.joined, axis=3)),
    "concatenation_width": Kind(partial(_m.joined, axis=2)),
    "concatenation_height": Kind(partial(_m.joined, axis=1)),
    "split": Kind(_m.split),
    "split_v": Kind(_m.split_unevenly),
    "pack": Kind(_m.packed),
    "unpack": Kind(_m.unpacked),
    "slice": Kind(_m.sliced),
    "strided_slice": Kind(_m.sliced_by_steps),
    "pad": Kind(partial(_m.padded, kind="PAD")),
    "padv2": Kind(partial(_m.padded, kind="PADV2")),
    "mirror_pad": Kind(partial(_m.padded, kind="MIRROR_PAD")),
    "pad_convolution": Kind(_m.padded_for_filter),
    "reshape": Kind(partial(_m.reshaped, kind="RESHAPE")),
    "squeeze": Kind(partial(_m.reshaped, kind="SQUEEZE")),
    "expand_dims": Kind(partial(_m.reshaped, kind="EXPAND_DIMS")),
    "transpose": Kind(_m.turned),
    "tile": Kind(_m.tiled),
    "reverse": Kind(_m.reversed_along, BOTH, U85),
    "resize_bilinear": Kind(partial(_m.resized, kind="RESIZE_BILINEAR")),
    "resize_nearest": Kind(partial(_m.resized, kind="RESIZE_NEAREST_NEIGHBOR")),
    "gather": Kind(_m.gathered, BOTH, U85),
    "scatter": Kind(_m.scattered, ("int8",), U85),
    "cascade": Kind(_c.cascade),
    "residual": Kind(_c.residual),
    "with_table": Kind(_c.with_table),
    "tables": Kind(_c.tables),
    "two_readers": Kind(_c.two_readers),
    "lstm": Kind(_c.recurrent, ("int8",)),
}

"""Each operator of ONNX where channels, height and width are the same number, so that no shape can tell them apart.

What is right is written here in numpy, per operator, and knows nothing of the reader.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from mlia.graph.load import load_model
from tests.graph.formats.onnx_models import model, node, run, value, write

N = 6
X = numpy.random.default_rng(3).normal(0, 1, (1, N, N, N)).astype(numpy.float32)
K = numpy.random.default_rng(4).normal(0, 0.3, (N, N, 3, 3)).astype(numpy.float32)
D = numpy.random.default_rng(5).normal(0, 0.3, (N, 1, 3, 3)).astype(numpy.float32)
V = numpy.random.default_rng(6).normal(0, 1, N).astype(numpy.float32)
M = numpy.random.default_rng(7).normal(0, 1, (N, N)).astype(numpy.float32)
W = numpy.random.default_rng(8).normal(0, 1, (N * N * N, 5)).astype(numpy.float32)
INDEXES = numpy.array([4, 1, 1], numpy.int64)

Array = Any


def ints(*numbers: int) -> Array:
    return numpy.array(numbers, numpy.int64)


def softmax(x: Array, axis: int) -> Array:
    e = numpy.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def windows(x: Array, size: int, stride: int, function: Callable[..., Array]) -> Array:
    rows = (x.shape[2] - size) // stride + 1
    y = numpy.zeros((1, x.shape[1], rows, rows), numpy.float32)
    for i in range(rows):
        for j in range(rows):
            part = x[:, :, i * stride : i * stride + size, j * stride : j * stride + size]
            y[:, :, i, j] = function(part, axis=(2, 3))
    return y


def padded(x: Array, value: float = 0.0, before: int = 1, behind: int = 1) -> Array:
    pairs = [(0, 0), (0, 0), (before, behind), (before, behind)]
    return numpy.pad(x, pairs, constant_values=value)


def conv(x: Array, kernel: Array, pad: int = 1) -> Array:
    x = padded(x, 0.0, pad, pad)
    size = x.shape[2] - kernel.shape[2] + 1
    y = numpy.zeros((1, len(kernel), size, size), numpy.float32)
    for i in range(size):
        for j in range(size):
            part = x[0, :, i : i + kernel.shape[2], j : j + kernel.shape[3]]
            if kernel.shape[1] == 1:
                y[0, :, i, j] = (kernel[:, 0] * part).sum((1, 2))
            else:
                y[0, :, i, j] = numpy.einsum("ochw,chw->o", kernel, part)
    return y


def conv_transpose(x: Array, kernel: Array, stride: int) -> Array:
    full = (N - 1) * stride + 3
    y = numpy.zeros((1, N, full, full), numpy.float32)
    for i in range(N):
        for j in range(N):
            y[0, :, i * stride : i * stride + 3, j * stride : j * stride + 3] += numpy.einsum(
                "c,cohw->ohw", x[0, :, i, j], kernel
            )
    return y


def normalized(x: Array, axes: tuple[int, ...]) -> Array:
    return (x - x.mean(axes, keepdims=True)) / numpy.sqrt(x.var(axes, keepdims=True) + 1e-5)


# Per case: the operator, its attributes, its constants, and what it computes.
CASES: dict[str, tuple[str, dict[str, Any], list[Array], Callable[[Array], Array]]] = {
    "conv": ("Conv", {"pads": [1, 1, 1, 1]}, [K, V], lambda x: conv(x, K) + V.reshape(1, -1, 1, 1)),
    "conv depthwise": ("Conv", {"pads": [1, 1, 1, 1], "group": N}, [D], lambda x: conv(x, D)),
    "conv grouped": (
        "Conv", {"pads": [1, 1, 1, 1], "group": 2}, [K[:, :3]],
        lambda x: numpy.concatenate([conv(x[:, :3], K[:3, :3]), conv(x[:, 3:], K[3:, :3])], 1),
    ),
    "conv dilated": (
        "Conv", {"dilations": [2, 2]}, [K],
        lambda x: conv(x, numpy.insert(numpy.insert(K, [1, 2], 0, 2), [1, 2], 0, 3), 0),
    ),
    "conv same lower": (
        "Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [K],
        lambda x: conv(padded(x, 0.0, 1, 0), K, 0)[:, :, ::2, ::2],
    ),
    "conv transpose": ("ConvTranspose", {"strides": [2, 2]}, [K], lambda x: conv_transpose(x, K, 2)),
    "conv transpose cut": (
        "ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, [K],
        lambda x: conv_transpose(x, K, 2)[:, :, 1:, 1:],
    ),
    "max pool": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, [], lambda x: windows(x, 2, 2, numpy.max)),
    "max pool padded": (
        "MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [],
        lambda x: windows(padded(x, -9e9), 3, 2, numpy.max),
    ),
    "max pool rounded up": (
        "MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [],
        lambda x: windows(padded(x, -9e9, 0, 1), 3, 2, numpy.max),
    ),
    "average pool": (
        "AveragePool", {"kernel_shape": [3, 3], "strides": [1, 1]}, [], lambda x: windows(x, 3, 1, numpy.mean),
    ),
    "average pool of what is there": (
        "AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [],
        lambda x: windows(padded(x), 3, 2, numpy.sum) / windows(padded(0 * x + 1), 3, 2, numpy.sum),
    ),
    "average pool of zeros too": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, [],
        lambda x: windows(padded(x), 3, 2, numpy.mean),
    ),
    "global average": ("GlobalAveragePool", {}, [], lambda x: x.mean((2, 3), keepdims=True)),
    "global max": ("GlobalMaxPool", {}, [], lambda x: x.max((2, 3), keepdims=True)),
    "batch normalization": (
        "BatchNormalization", {}, [V, V[::-1].copy(), V / 2, V * V + 1],
        lambda x: (x - (V / 2).reshape(1, -1, 1, 1)) / numpy.sqrt((V * V + 1 + 1e-5).reshape(1, -1, 1, 1))
        * V.reshape(1, -1, 1, 1) + V[::-1].reshape(1, -1, 1, 1),
    ),
    "instance normalization": (
        "InstanceNormalization", {}, [V, V],
        lambda x: normalized(x, (2, 3)) * V.reshape(1, -1, 1, 1) + V.reshape(1, -1, 1, 1),
    ),
    "layer normalization": ("LayerNormalization", {}, [V, V], lambda x: normalized(x, (3,)) * V + V),
    "add per column": ("Add", {}, [V], lambda x: x + V),
    "add per channel": ("Add", {}, [V.reshape(N, 1, 1)], lambda x: x + V.reshape(N, 1, 1)),
    "multiply per row": ("Mul", {}, [V.reshape(N, 1)], lambda x: x * V.reshape(N, 1)),
    "subtract a plane": ("Sub", {}, [M], lambda x: x - M),
    "divide": ("Div", {}, [V * V + 1], lambda x: x / (V * V + 1)),
    "square": ("Pow", {}, [numpy.array(2.0, numpy.float32)], lambda x: x * x),
    "prelu": ("PRelu", {}, [V.reshape(N, 1, 1)], lambda x: numpy.where(x < 0, x * V.reshape(N, 1, 1), x)),
    "leaky relu": ("LeakyRelu", {"alpha": 0.2}, [], lambda x: numpy.where(x < 0, x * numpy.float32(0.2), x)),
    "hard sigmoid": ("HardSigmoid", {}, [], lambda x: numpy.clip(0.2 * x + 0.5, 0, 1)),
    "hard swish": ("HardSwish", {}, [], lambda x: x * numpy.clip(x / 6 + 0.5, 0, 1)),
    "elu": ("Elu", {"alpha": 0.5}, [], lambda x: numpy.where(x > 0, x, 0.5 * (numpy.exp(x) - 1))),
    "softplus": ("Softplus", {}, [], lambda x: numpy.log1p(numpy.exp(x))),
    "clip": (
        "Clip", {}, [numpy.array(-0.5, numpy.float32), numpy.array(0.7, numpy.float32)],
        lambda x: numpy.clip(x, -0.5, 0.7),
    ),
    "softmax of channels": ("Softmax", {"axis": 1}, [], lambda x: softmax(x, 1)),
    "softmax of columns": ("Softmax", {"axis": -1}, [], lambda x: softmax(x, 3)),
    "softmax of rows": ("Softmax", {"axis": 2}, [], lambda x: softmax(x, 2)),
    "mean of channels": ("ReduceMean", {"axes": [1]}, [], lambda x: x.mean(1, keepdims=True)),
    "mean of an image": ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, [], lambda x: x.mean((2, 3))),
    "max of rows": ("ReduceMax", {"axes": [2], "keepdims": 0}, [], lambda x: x.max(2)),
    "length": (
        "ReduceL2", {"axes": [1], "keepdims": 0}, [], lambda x: numpy.sqrt((x * x).sum(1)),
    ),
    "greatest channel": ("ArgMax", {"axis": 1, "keepdims": 0}, [], lambda x: x.argmax(1)),
    "flatten and multiply": ("Flatten", {}, [], lambda x: x.reshape(1, -1)),
    "reshape to pixels": ("Reshape", {}, [ints(1, N, N * N)], lambda x: x.reshape(1, N, N * N)),
    "reshape across": ("Reshape", {}, [ints(1, N * N, N)], lambda x: x.reshape(1, N * N, N)),
    "reshape to parts": ("Reshape", {}, [ints(1, 2, 3, N, N)], lambda x: x.reshape(1, 2, 3, N, N)),
    "transpose": ("Transpose", {"perm": [0, 2, 1, 3]}, [], lambda x: x.transpose(0, 2, 1, 3)),
    "transpose to last": ("Transpose", {"perm": [0, 2, 3, 1]}, [], lambda x: x.transpose(0, 2, 3, 1)),
    "slice channels": (
        "Slice", {}, [ints(1), ints(5), ints(1), ints(2)], lambda x: x[:, 1:5:2],
    ),
    "slice rows backwards": (
        "Slice", {}, [ints(-1), ints(-100), ints(2), ints(-1)], lambda x: x[:, :, ::-1],
    ),
    "gather columns": ("Gather", {"axis": 3}, [INDEXES], lambda x: x[:, :, :, INDEXES]),
    "gather one row": ("Gather", {"axis": 2}, [numpy.array(2, numpy.int64)], lambda x: x[:, :, 2]),
    "pad rows": (
        "Pad", {}, [ints(0, 0, 2, 0, 0, 0, 1, 0)],
        lambda x: numpy.pad(x, [(0, 0), (0, 0), (2, 1), (0, 0)]),
    ),
    "pad by mirror": (
        "Pad", {"mode": "reflect"}, [ints(0, 0, 2, 1, 0, 0, 1, 0)],
        lambda x: numpy.pad(x, [(0, 0), (0, 0), (2, 1), (1, 0)], "reflect"),
    ),
    "pad by edge": (
        "Pad", {"mode": "edge"}, [ints(0, 1, 2, 0, 0, 0, 1, 0)],
        lambda x: numpy.pad(x, [(0, 0), (1, 0), (2, 1), (0, 0)], "edge"),
    ),
    "concat channels": ("Concat", {"axis": 1}, [X + 1], lambda x: numpy.concatenate([x, X + 1], 1)),
    "concat rows": ("Concat", {"axis": 2}, [X + 1], lambda x: numpy.concatenate([x, X + 1], 2)),
    "concat columns": ("Concat", {"axis": 3}, [X + 1], lambda x: numpy.concatenate([x, X + 1], 3)),
    "expand": ("Expand", {}, [ints(1, N, N, N)], lambda x: x + 0),
    "tile": ("Tile", {}, [ints(1, 1, 2, 1)], lambda x: numpy.tile(x, (1, 1, 2, 1))),
    "unsqueeze": ("Unsqueeze", {}, [ints(1)], lambda x: x[:, None]),
    "nearest": (
        "Resize", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [numpy.zeros(0, numpy.float32), numpy.array([1, 1, 2, 2], numpy.float32)],
        lambda x: x.repeat(2, 2).repeat(2, 3),
    ),
    "nearest of channels": (
        "Resize", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [numpy.zeros(0, numpy.float32), numpy.array([1, 2, 1, 1], numpy.float32)], lambda x: x.repeat(2, 1),
    ),
    "linear": (
        "Resize", {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        [numpy.zeros(0, numpy.float32), numpy.zeros(0, numpy.float32), ints(1, N, 2 * N - 1, N)],
        lambda x: numpy.stack([(x[:, :, i // 2] + x[:, :, (i + 1) // 2]) / 2 for i in range(2 * N - 1)], 2),
    ),
    "product with a matrix": ("MatMul", {}, [M], lambda x: x @ M),
    "identity": ("Dropout", {}, [], lambda x: x),
    "running sum": ("CumSum", {}, [numpy.array(2, numpy.int64)], lambda x: x.cumsum(2)),
}  # fmt: skip


def file_of(case: str, behind_conv: bool) -> tuple[bytes, Array]:
    """The operator on an input, or on what an identical 1x1 convolution makes of it, so that channels are last."""
    kind, attributes, constants, compute = CASES[case]
    named = {f"c{place}": array for place, array in enumerate(constants)}
    first = [node("Conv", "first", ["x", "eye"], "a")] if behind_conv else [node("Abs", "first", ["x"], "a")]
    seen = X if behind_conv else abs(X)
    wanted = compute(seen)
    empty = {name for name, array in named.items() if not array.size}
    inputs = ["a", *("" if name in empty else name for name in named)]
    nodes = [*first, node(kind, "middle", inputs, "y", **attributes)]
    kept = {name: array for name, array in named.items() if name not in empty}
    kept["eye"] = numpy.eye(N, dtype=numpy.float32).reshape(N, N, 1, 1)
    dtype = 7 if wanted.dtype.kind == "i" else 1
    return model(nodes, [value("x", X.shape)], [value("y", wanted.shape, dtype)], kept), wanted


@pytest.mark.parametrize("behind_conv", [True, False], ids=["channels last", "as it is"])
@pytest.mark.parametrize("case", CASES)
def test_every_axis_stays_itself(tmp_path: Path, case: str, behind_conv: bool) -> None:
    content, wanted = file_of(case, behind_conv)
    graph = load_model(write(tmp_path, content))
    notes = graph.provenance.added
    image = X.transpose(0, 2, 3, 1) if "input x: NCHW -> NHWC" in notes else X
    (found,) = run(bytes(graph.content), image)
    for letters in ("NCHW -> NHWC", "NCW -> NWC"):
        if f"output y: {letters}" in notes:
            found = numpy.moveaxis(found, -1, 1)
    assert found.shape == wanted.shape
    assert numpy.abs(found - wanted).max() < 1e-4 * max(1, numpy.abs(wanted).max())


@pytest.mark.parametrize("kind", ["Conv", "GlobalAveragePool"])
def test_what_is_told_of_layouts_is_what_is_there(tmp_path: Path, kind: str) -> None:
    nodes = [node(kind, "middle", ["x", "k"] if kind == "Conv" else ["x"], "y")]
    content = model(nodes, [value("x", (1, N, 4, 5))], [value("y", (1, N, 1, 1))], {"k": K[:, :, :1, :1]})
    graph = load_model(write(tmp_path, content))
    assert {"input x: NCHW -> NHWC", "output y: NCHW -> NHWC"} <= set(graph.provenance.added)
    assert graph.main.tensors[graph.main.inputs[0]].shape == (1, 4, 5, N)

"""Models to rewrite, as converters leave them, and a look at what came out of it by other means."""

from collections.abc import Sequence

import numpy as np

import mlia
from mlia.graph.graph import Graph, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Rewrite
from mlia.results import Performance
from mlia.testing import Sketch, quantize_synthetically
from mlia.transforms.interpreter import outputs
from mlia.transforms.rewrites.rewrite import rewrite
from mlia.transforms.transform import Transformed

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Drawing(Sketch):
    """A Sketch with the operators that converters leave."""

    def scalar(self, name: str, value: float, dtype: str) -> int:
        return self.tensor(Tensor(name, (), dtype, data=memoryview(np.array(value, dtype).tobytes())))

    def transpose(self, x: int, order: Sequence[int], name: str) -> int:
        sizes = self.constant(f"{name}/order", np.array(order, np.int32))
        shape = [self.shape(x)[axis] for axis in order]
        return self.operator("TRANSPOSE", [x, sizes], shape, name, options_table="TransposeOptions")

    def pad(self, x: int, amounts: Sequence[tuple[int, int]], name: str, fill: int | None = None) -> int:
        shape = [size + sum(amount) for size, amount in zip(self.shape(x), amounts, strict=True)]
        return self.operator("PAD", [x, self.constant(f"{name}/sizes", np.array(amounts, np.int32))], shape, name)

    def pad_with(self, x: int, amounts: Sequence[tuple[int, int]], value: float, name: str) -> int:
        shape = [size + sum(amount) for size, amount in zip(self.shape(x), amounts, strict=True)]
        sizes = self.constant(f"{name}/sizes", np.array(amounts, np.int32))
        fill = self.constant(f"{name}/fill", np.array([value], np.float32))
        return self.operator("PADV2", [x, sizes, fill], shape, name, options_table="PadV2Options")

    def valid(
        self, x: int, name: str, filters: int = 4, kernel: int = 3, stride: int = 1, kind: str = "CONV_2D"
    ) -> int:
        batch, height, width, channels = self.shape(x)
        if kind == "CONV_2D":
            weights = self._weights(f"{name}/w", (filters, kernel, kernel, channels), kernel * kernel * channels)
        else:
            filters = channels
            weights = self._weights(f"{name}/w", (1, kernel, kernel, channels), kernel * kernel)
        table = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
        options = {
            "padding": "VALID", "stride_w": stride, "stride_h": stride, "fused_activation_function": "NONE",
            "dilation_w_factor": 1, "dilation_h_factor": 1,
        }  # fmt: skip
        if kind != "CONV_2D":
            options["depth_multiplier"] = 1
        sides = [(size - kernel) // stride + 1 for size in (height, width)]
        bias = self._bias(f"{name}/b", filters)
        inputs = [x, weights, bias]
        return self.operator(kind, inputs, (batch, *sides, filters), name, options_table=table, options=options)

    def binary(self, kind: str, x: int, y: int | np.ndarray, name: str, activation: str = "NONE") -> int:
        other = y if isinstance(y, int) else self.constant(f"{name}/constant", np.asarray(y, np.float32))
        shape = np.broadcast_shapes(self.shape(x), self.shape(other))
        table = f"{kind.capitalize()}Options" if kind in ("ADD", "SUB", "MUL", "DIV") else "MaximumMinimumOptions"
        options = {"fused_activation_function": activation} if kind in ("ADD", "SUB", "MUL", "DIV") else {}
        return self.operator(kind, [x, other], shape, name, options_table=table, options=options)

    def concatenation(self, parts: Sequence[int], axis: int, name: str) -> int:
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        options = {"axis": axis, "fused_activation_function": "NONE"}
        return self.operator("CONCATENATION", parts, shape, name, options_table="ConcatenationOptions", options=options)

    def mean(self, x: int, axes: Sequence[int], keep: bool, name: str) -> int:
        sizes = self.constant(f"{name}/axes", np.array(axes, np.int32))
        shape = [1 if axis in axes else size for axis, size in enumerate(self.shape(x)) if keep or axis not in axes]
        return self.operator(
            "MEAN", [x, sizes], shape, name, options_table="ReducerOptions", options={"keep_dims": keep}
        )

    def file(self, *results: int) -> Graph:
        return read_tflite(write_tflite(self.graph(results)))


def kinds(graph: Graph) -> list[str]:
    return [operator.kind for operator in graph.operators]


def as_int8(graph: Graph) -> Graph:
    return read_tflite(quantize_synthetically(bytes(graph.content)))


def samples_for(graph: Graph, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(1)
    shapes = [(4, *graph.main.tensors[index].shape) for index in graph.main.inputs]
    return tuple(random.normal(0, scale, shape).astype(np.float32) for shape in shapes)


def rewritten(graph: Graph, approximate: bool = False, scale: float = 1.0) -> Transformed:
    """The rewritten graph, after a look by other means: outputs, names, and the order of execution."""
    samples = samples_for(graph, scale)
    made = rewrite(graph, samples, Rewrite(approximate))
    after = made.graph.main
    for side in ("inputs", "outputs"):
        named = [
            [(main.tensors[index].name, main.tensors[index].shape) for index in getattr(main, side)]
            for main in (graph.main, after)
        ]
        assert named[0] == named[1]
    known = {*after.inputs, -1} | {
        index for index, tensor in enumerate(after.tensors) if tensor.is_constant or tensor.is_variable
    }
    for operator in after.operators:
        assert known >= {*operator.inputs}
        known |= {*operator.outputs}
    if not approximate:
        pairs = zip(*(outputs(bytes(model.content), samples) for model in (graph, made.graph)), strict=True)
        told = [change.where for change in made.changes if "by one code" in change.what]
        for (before, now), index in zip(pairs, graph.main.outputs, strict=True):
            if graph.computes_in_float:
                assert np.allclose(before, now, rtol=1e-4, atol=1e-5)
            else:
                assert np.array_equal(before, now) == (graph.main.tensors[index].name not in told)
    return made


def both(graph: Graph) -> list[Graph]:
    return [graph, as_int8(graph)]


def from_pytorch(residual: bool = True) -> Graph:
    """What a converter leaves of a network in NCHW: TRANSPOSEs around each convolution."""
    net = Drawing("nchw")
    x = net.input("image", (1, 3, 32, 32))

    def convolution(x: int, name: str, filters: int = 8) -> int:
        inside = net.transpose(x, NHWC, f"{name}/in")
        inside = net.pad(inside, ((0, 0), (1, 1), (1, 1), (0, 0)), f"{name}/pad")
        inside = net.valid(inside, name, filters)
        return net.transpose(inside, NCHW, f"{name}/out")

    first = net.unary("RELU", convolution(x, "one"), "relu")
    second = convolution(first, "two")
    scaled = net.binary("MUL", second, np.linspace(0.5, 1.5, 8).reshape(1, 8, 1, 1), "scale")
    joined = net.binary("ADD", scaled, first, "join") if residual else scaled
    both_halves = net.concatenation([joined, first], 1, "concat")
    third = net.unary("HARD_SWISH", convolution(both_halves, "three"), "swish")
    pooled = net.mean(third, (2, 3), False, "mean")
    return net.file(net.fully_connected(pooled, units=10, name="classes"))


def cycles(graph: Graph) -> int:
    result = mlia.check(graph, "ethos-u55-128", quantize=False).targets[0].results[0].performance
    assert isinstance(result, Performance)
    assert result.total_cycles is not None
    return result.total_cycles

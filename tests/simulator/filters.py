"""The filters of compiled models: each with what it can read when it runs, and models with many filters."""

from collections.abc import Iterator

import numpy as np

from mlia.backends.vela.process import compile_model
from mlia.graph.graph import Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.container import Config, read_program
from mlia.simulator.decode import operations
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, Transfer
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.testing import IntegerSketch

_DEPTHS = (1, 3, 4, 7, 8, 9, 16, 17, 24, 31, 32, 33, 40, 64, 65, 100, 130)
_KERNELS = ((1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (1, 4), (10, 4), (2, 1), (9, 9), (12, 3))


def compiled_filters(content: bytes, target_name: str) -> Iterator[tuple[Compute, Memory, Config]]:
    """The convolutions of a model in the order of its streams. All transfers before one are done when it comes."""
    target = load_target(target_name)
    assert isinstance(target, Target)
    (subgraph,) = read_tflite(compile_model(content, target, 60).model).subgraphs
    for operator in subgraph.operators:
        if operator.custom_code != "ethos-u":
            continue
        stream, *regions = (subgraph.tensors[index] for index in operator.inputs[:4])
        program = read_program(stream.data)
        constants = np.frombuffer(regions[0].data, np.uint8)
        # Weights are in what was copied; what is computed does not matter here.
        memory = Memory({0: constants, **{1 + i: np.zeros(r.elements, np.uint8) for i, r in enumerate(regions[1:])}})
        for operation in operations(program):
            if isinstance(operation, Transfer) and not operation.to_table:
                memory.transfer(operation)
            if isinstance(operation, Compute) and operation.kind in ("conv", "depthwise") and not operation.is_matmul:
                yield operation, memory, program.config


class FilterSketch(IntegerSketch):
    """A model of filters that have nothing to do with each other, with weights of many kinds."""

    def __init__(self, seed: int, dtype: str) -> None:
        super().__init__(f"filters {seed}", seed)
        self.random: np.random.Generator = self._random
        self.dtype = dtype
        self.outputs: list[int] = []

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        """Dense, few different ones, mostly zeros, bell-shaped, or two of four zero."""
        dense = self.random.integers(-127, 128, shape)
        kind = int(self.random.integers(5))
        if kind == 1:
            dense = self.random.choice(self.random.integers(-127, 128, int(self.random.integers(2, 18))), shape)
        elif kind == 2:
            dense = dense * (self.random.random(shape) < 0.2)
        elif kind == 3:
            dense = np.clip(np.round(self.random.normal(0, 15, shape)), -127, 127)
        elif kind == 4 and shape[-1] % 4 == 0:
            order = np.argsort(self.random.random((*shape[:-1], shape[-1] // 4, 4)), axis=-1)
            dense = dense * (order < 2).reshape(shape)
        return dense.astype(np.int8)

    def weights(self, shape: tuple[int, ...], filters: int, axis: int, name: str) -> tuple[int, int]:
        scales = tuple(float(scale) for scale in self.random.uniform(0.002, 0.02, filters).astype(np.float32))
        weights = self.constant(f"{name}/weights", self.values(shape), Quantization(scales, (0,) * filters, axis))
        return weights, self.bias(name, tuple(scale * self.Q.scale[0] for scale in scales))

    def bias(self, name: str, scales: tuple[float, ...]) -> int:
        dtype = np.int64 if self.dtype == "int16" else np.int32
        values = self.random.integers(-40000, 40000, len(scales)).astype(dtype)
        return self.constant(f"{name}/bias", values, Quantization(scales, (0,) * len(scales)))

    def add(self) -> None:
        """One filter more, of its own input."""
        number, depth = len(self.outputs), int(self.random.choice(_DEPTHS))
        kernel = _KERNELS[int(self.random.integers(len(_KERNELS)))]
        height, width = (int(size) for size in self.random.integers(12, 15, 2))
        stride = tuple(int(step) for step in self.random.integers(1, 4, 2)) if self.random.random() < 0.3 else (1, 1)
        dilation = (1, 1)
        if stride == (1, 1) and max(kernel) < 6 and self.random.random() < 0.3:
            dilation = (int(self.random.integers(1, 3)), int(self.random.integers(1, 3)))
        kind = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_2D")[number % 4]
        name = f"{kind}{number}"
        if kind == "FULLY_CONNECTED":
            depth *= int(self.random.integers(1, 9))
            self.outputs.append(self._dense(self.image(f"x{number}", (1, depth), self.dtype), name))
            return
        x = self.image(f"x{number}", (1, height, width, depth), self.dtype)
        filters = depth if kind == "DEPTHWISE_CONV_2D" else int(self.random.choice(_DEPTHS))
        y = self.filter(kind, x, filters=filters, kernel=kernel, stride=stride, dilation=dilation, name=name)
        self.outputs.append(y)

    def _dense(self, x: int, name: str) -> int:
        units = int(self.random.choice(_DEPTHS))
        values = self.values((units, self.shape(x)[-1]))
        weights = self.constant(f"{name}/weights", values, Quantization((0.01,), (0,)))
        inputs = [x, weights, self.bias(name, (0.01 * self.Q.scale[0],) * units)]
        table, options = "FullyConnectedOptions", {"fused_activation_function": "NONE"}
        return self.operator("FULLY_CONNECTED", inputs, (1, units), name, options_table=table, options=options)


def many_filters(seed: int, dtype: str, count: int) -> bytes:
    """A model of that many filters."""
    net = FilterSketch(seed, dtype)
    for _ in range(count):
        net.add()
    return write_tflite(net.graph(net.outputs))


def one_filter(values: int, dtype: str = "int8") -> bytes:
    """A model of one convolution, 64 to 64 channels, whose weights have only so many different values."""
    net = FilterSketch(values, dtype)
    chosen = net.random.choice(np.arange(-127, 128), values, replace=False)
    net.values = lambda shape: net.random.choice(chosen, shape).astype(np.int8)
    x = net.image("x", (1, 12, 12, 64), dtype)
    return write_tflite(net.graph([net.filter("CONV_2D", x, filters=64, kernel=(10, 4))]))


def deep_filters(dtype: str, is_sparse: bool) -> bytes:
    """A model of convolutions with so many inputs that an NPU goes through them first: one strided, one not."""
    net = FilterSketch(8, dtype)
    kept = np.array([1, 0, 0, 1] if is_sparse else [1], np.int8)
    net.values = lambda shape: (net.random.integers(-127, 128, shape) * np.resize(kept, shape[-1])).astype(np.int8)
    wide, strided = net.image("wide", (1, 4, 4, 256), dtype), net.image("strided", (1, 9, 9, 128), dtype)
    outputs = [
        net.filter("CONV_2D", wide, filters=40, kernel=(1, 1), name="first"),
        net.filter("CONV_2D", strided, filters=40, kernel=(7, 3), stride=(2, 3), name="second"),
    ]
    return write_tflite(net.graph(outputs))

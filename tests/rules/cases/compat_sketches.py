"""What the tables about compatibility build their models with."""

from collections.abc import Callable, Sequence

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, OptionValue, Quantization, Tensor
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch

U55, U65, U85 = "ethos-u55-128", "ethos-u65-256", "ethos-u85-256"
Q = IntegerSketch.Q
SHAPE = (1, 8, 8, 8)


class Net(IntegerSketch):
    """A model around one operator, with a convolution in front that keeps the NPU busy."""

    def __init__(self, dtype: str = "int8", shape: Sequence[int] = SHAPE) -> None:
        super().__init__("case")
        self.first = self.image("image", shape, dtype)

    def start(self, name: str = "before") -> int:
        """A convolution of the input."""
        return self.filter("CONV_2D", self.first, filters=self.shape(self.first)[-1], name=name)

    def end(self, x: int, name: str = "after") -> int:
        """A convolution behind."""
        return self.filter("CONV_2D", x, filters=8, name=name)

    def array(self, name: str, values: object, dtype: str = "int32") -> int:
        """A constant from nested lists."""
        return self.constant(name, numpy.array(values, dtype))

    def put(self, operator: Operator) -> None:
        """Any operator, as it is."""
        self._operators.append(replace(operator, index=len(self._operators)))

    def done(self, *outputs: int, versions: dict[str, int] | None = None) -> bytes:
        """The model as a file; some kinds in the version that LiteRT wants."""
        graph = self.graph(outputs)
        return write_tflite(with_versions(graph, {"BROADCAST_TO": 2, "TILE": 1, **(versions or {})}))


def with_versions(graph: Graph, versions: dict[str, int]) -> Graph:
    operators = tuple(
        replace(operator, version=versions.get(operator.kind, operator.version)) for operator in graph.operators
    )
    return replace(graph, subgraphs=(replace(graph.main, operators=operators), *graph.subgraphs[1:]))


def one(
    kind: str,
    table: str = "",
    *,
    shape: Sequence[int] = SHAPE,
    constants: Sequence[tuple[object, str]] = (),
    dtype: str = "int8",
    output: str | None = None,
    source: Sequence[int] = SHAPE,
    quantization: Quantization | None = None,
    versions: dict[str, int] | None = None,
    alone: bool = False,
    **options: OptionValue,
) -> Callable[[], bytes]:
    """A model with one operator of that kind behind a convolution, or alone."""

    def build() -> bytes:
        net = Net(dtype, source)
        x = net.first if alone else net.start()
        parameters = [net.array(f"constant{number}", *values) for number, values in enumerate(constants)]
        y = net.operator(
            kind, [x, *parameters], shape, "it",
            dtype=output, quantization=quantization, options_table=table, options=options,
        )  # fmt: skip
        return net.done(y, versions=versions)

    return build


def pair(kind: str, dtype: str, quantization: Quantization | None = Q) -> Callable[[], bytes]:
    """A model with an operator on an input of that type twice, beside a convolution."""

    def build() -> bytes:
        net = Net()
        other = net.input("other", (1, 4, 4, 8), dtype, quantization)
        made = net.operator(kind, [other, other], (1, 4, 4, 8), "it")
        return net.done(net.start(), made)

    return build


def bare(net: Net, name: str, shape: Sequence[int], dtype: str = "int8") -> int:
    """A tensor without a scale."""
    return net.tensor(Tensor(name, tuple(shape), dtype))

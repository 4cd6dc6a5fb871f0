"""Builds a Graph operator by operator. Needs numpy."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlia.graph.graph import Graph, Operator, OptionValue, Quantization, Subgraph, Tensor


class GraphBuilder:
    """A model under construction. Methods take and return tensor indexes."""

    def __init__(self, description: str) -> None:
        import numpy

        self._description = description
        self._numpy: Any = numpy
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []
        self._inputs: list[int] = []

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._tensors[index].shape

    def tensor(self, tensor: Tensor) -> int:
        """Add a tensor as it is."""
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def input(
        self, name: str, shape: Sequence[int], dtype: str = "float32", quantization: Quantization | None = None
    ) -> int:
        """Add an input of the model."""
        index = self.tensor(Tensor(name, tuple(shape), dtype, quantization))
        self._inputs.append(index)
        return index

    def constant(self, name: str, values: Any, quantization: Quantization | None = None) -> int:
        """Add a constant: a numpy array or what becomes one."""
        array = self._numpy.ascontiguousarray(values)
        data = memoryview(array.tobytes())
        return self.tensor(Tensor(name, array.shape, array.dtype.name, quantization, data))

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        name: str,
        *,
        dtype: str | None = None,
        quantization: Quantization | None = None,
        options_table: str = "",
        options: Mapping[str, OptionValue] | None = None,
        custom_code: str = "",
    ) -> int:
        """Add any operator with one output; type and quantization are the first input's unless given."""
        like = self._tensors[inputs[0]] if inputs else Tensor(name, (), "float32")
        output = self.tensor(Tensor(name, tuple(shape), dtype or like.dtype, quantization or like.quantization))
        index = len(self._operators)
        self._operators.append(
            Operator(index, kind, tuple(inputs), (output,), options or {}, options_table, 1, custom_code)
        )
        return output

    def graph(self, outputs: Sequence[int]) -> Graph:
        """The model as it stands."""
        subgraph = Subgraph(
            0, "main", tuple(self._tensors), tuple(self._operators), tuple(self._inputs), tuple(outputs)
        )
        return Graph((subgraph,), description=self._description)

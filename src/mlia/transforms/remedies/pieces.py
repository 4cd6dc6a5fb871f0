"""Operators put in the place of one other, piece by piece: what most remedies are made of.

The last piece writes the tensor that the operator wrote, so that names, shapes and types of all others stay.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, OptionValue, Quantization, Tensor
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.places import Place, operator_at
from mlia.transforms.rewrites.network import Edit, Network

SAME, VALID = "SAME", "VALID"
MOST_PIECES = 64  # more operators in the place of one are no remedy


class Pieces:
    """What takes the place of one operator. Methods take and return tensor indexes."""

    def __init__(self, network: Network, operator: Operator) -> None:
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and network.tensor(index).is_dynamic:
                raise TransformError(f"'{network.name(operator)}' has an open size: --input-shape fixes it")
        self.network = network
        self.operator = operator
        self.name = network.name(operator)
        self._edit = Edit(network, operator, "")
        self._added: dict[int, Tensor] = {}
        self._made: list[Operator] = []

    def tensor(self, index: int) -> Tensor:
        """The tensor with that index."""
        return self._added[index] if index in self._added else self.network.tensor(index)

    def shape(self, index: int) -> tuple[int, ...]:
        """Its shape."""
        return self.tensor(index).shape

    def constant(self, what: str, values: Array, quantization: Quantization | None = None) -> int:
        """A new constant."""
        index = self._edit.constant(self._unique(what), values, quantization)
        self._added[index] = Tensor(what, values.shape, values.dtype.name, quantization)
        return index

    def integers(self, what: str, values: Sequence[int]) -> int:
        """A constant vector of int32."""
        return self.constant(what, numpy.array(values, numpy.int32))

    def piece(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        table: str = "",
        options: Mapping[str, OptionValue] | None = None,
        like: Tensor | None = None,
    ) -> int:
        """An operator; type and quantization of what it makes are those of its first input, or of `like`."""
        if len(self._made) >= MOST_PIECES:
            raise TransformError(f"'{self.name}' would become more than {MOST_PIECES} operators")
        model = like or self.tensor(inputs[0])
        made = Tensor(self._unique(kind.lower()), tuple(map(int, shape)), model.dtype, model.quantization)
        index = self._edit.tensor(made)
        self._added[index] = made
        self._made.append(Operator(-1, kind, tuple(inputs), (index,), options or {}, table))
        return index

    def again(self, operator: Operator, inputs: Sequence[int], shape: Sequence[int], **options: OptionValue) -> int:
        """The same kind of operator on other inputs, with what it writes like the first output was."""
        like = self.network.tensor(operator.outputs[0])
        table, all_options = operator.options_table, {**operator.options, **options}
        index = self.piece(operator.kind, inputs, shape, table, all_options, like)
        self._made[-1] = replace(self._made[-1], version=operator.version)
        return index

    def reshape(self, x: int, shape: Sequence[int]) -> int:
        """The same numbers in another shape; nothing when it has that shape."""
        if self.shape(x) == tuple(shape):
            return x
        if not shape:  # Vela 5.2 refuses the whole model
            raise TransformError(f"'{self.name}' has an output without axes")
        sizes = self.integers("shape", shape)
        return self.piece("RESHAPE", [x, sizes], shape, "ReshapeOptions", {"new_shape": tuple(map(int, shape))})

    def transpose(self, x: int, order: Sequence[int]) -> int:
        """Axes in another order; nothing for the order that they have."""
        if list(order) == sorted(order):
            return x
        shape = [self.shape(x)[axis] for axis in order]
        return self.piece("TRANSPOSE", [x, self.integers("permutation", order)], shape, "TransposeOptions")

    def cut(self, x: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """SLICE; nothing when it takes all."""
        if self.shape(x) == tuple(size):
            return x
        inputs = [x, self.integers("begin", begin), self.integers("size", size)]
        return self.piece("SLICE", inputs, size, "SliceOptions")

    def cut_axis(self, x: int, axis: int, begin: int, size: int) -> int:
        """SLICE along one axis."""
        shape = self.shape(x)
        begins = [begin if position == axis else 0 for position in range(len(shape))]
        return self.cut(x, begins, [size if position == axis else n for position, n in enumerate(shape)])

    def every(self, x: int, axis: int, begin: int, step: int) -> int:
        """STRIDED_SLICE: each `step`-th element along an axis to its end."""
        shape = self.shape(x)
        if step == 1:
            return self.cut_axis(x, axis, begin, shape[axis] - begin)
        begins = [begin if position == axis else 0 for position in range(len(shape))]
        steps = [step if position == axis else 1 for position in range(len(shape))]
        size = [-(-(n - begin) // step) if position == axis else n for position, n in enumerate(shape)]
        inputs = [x, self.integers("begin", begins), self.integers("end", shape), self.integers("strides", steps)]
        options: dict[str, OptionValue] = dict.fromkeys(
            ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0
        )
        return self.piece("STRIDED_SLICE", inputs, size, "StridedSliceOptions", options)

    def join(self, parts: Sequence[int], axis: int) -> int:
        """CONCATENATION."""
        if len(parts) == 1:
            return parts[0]
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        options: dict[str, OptionValue] = {"axis": axis, "fused_activation_function": "NONE"}
        return self.piece("CONCATENATION", parts, shape, "ConcatenationOptions", options)

    def pad(self, x: int, amounts: Sequence[tuple[int, int]], lowest: bool = False) -> int:
        """PAD of the number 0, or of the lowest code; nothing without amounts."""
        if not any(map(any, amounts)):
            return x
        sizes = self.constant("paddings", numpy.array(amounts, numpy.int32))
        shape = [n + sum(around) for n, around in zip(self.shape(x), amounts, strict=True)]
        if not lowest:
            return self.piece("PAD", [x, sizes], shape, "PadOptions")
        tensor = self.tensor(x)
        if not tensor.dtype.startswith(("int", "uint")):
            raise TransformError(f"'{self.name}' is not of integers")
        fill = self.constant(
            "fill", numpy.full(1, numpy.iinfo(tensor.dtype).min, tensor.dtype), tensor.quantization
        )  # fmt: skip
        return self.piece("PADV2", [x, sizes, fill], shape, "PadV2Options")

    def mirror(self, x: int, amounts: Sequence[tuple[int, int]]) -> int:
        """MIRROR_PAD that repeats the edge too."""
        if not any(map(any, amounts)):
            return x
        sizes = self.constant("paddings", numpy.array(amounts, numpy.int32))
        shape = [n + sum(around) for n, around in zip(self.shape(x), amounts, strict=True)]
        return self.piece("MIRROR_PAD", [x, sizes], shape, "MirrorPadOptions", {"mode": "SYMMETRIC"})

    def graph(self, graph: Graph, last: int) -> Graph:
        """The graph with the pieces in place; `last` is what the operator computed, in any shape."""
        (output, *more) = self.operator.outputs
        wanted = self.network.tensor(output)
        last = self.reshape(last, wanted.shape)
        if more or not self._made or last not in self._made[-1].outputs:
            raise TransformError(f"'{self.name}' cannot be taken apart")
        self._made[-1] = replace(self._made[-1], outputs=(output,))
        self._edit.put(self.operator, *self._made)
        return replace(graph, subgraphs=(self._edit.result(), *graph.subgraphs[1:]))

    def _unique(self, what: str) -> str:
        return f"{self.name}/{what}_{len(self._made)}_{len(self._added)}"


def each(graph: Graph, places: Collection[Place], change: Callable[[Pieces], int]) -> Graph:
    """The graph with the operators at these places changed.

    `change` makes the pieces and returns the tensor that has what the operator computed.

    Raises:
        TransformError: none could be changed.
    """
    changed, objection = graph, "there is nothing to change"
    for place in dict.fromkeys(places):
        operator = operator_at(changed.main, place)
        if operator is None:
            continue
        try:
            pieces = Pieces(Network(changed.main, _named(changed)), operator)
            changed = pieces.graph(changed, change(pieces))
        except TransformError as error:
            objection = str(error)
        except (IndexError, ValueError, ZeroDivisionError):  # odd files: inputs left out, strides of 0
            objection = f"'{place.name}' is not described as its kind of operator is"
    if changed is graph:
        raise TransformError(objection)
    return changed


def _named(graph: Graph) -> set[int]:
    ours = [signature for signature in graph.signatures if signature.subgraph == graph.main.index]
    return {index for signature in ours for index in (*signature.inputs.values(), *signature.outputs.values())}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What SAME padding adds in front and behind (TFLite: the smaller half in front)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2

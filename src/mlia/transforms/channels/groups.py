"""Which channels of a model must go together.

A *lane* is a set of channels that can only be removed together: one output channel of a convolution, all that is
computed from it channel by channel, and the channels of other producers that it is added to. Lanes are found by
following channels from the operators that mix them (CONV_2D, FULLY_CONNECTED: their *producers*) through
everything that does not, to the operators that mix them again (their *readers*). Channels are on the last axis of a
tensor; several elements of that axis can belong to one lane, as after flattening.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.graph.graph import Operator, Subgraph, Tensor
from mlia.transforms.calibration import Array
from mlia.transforms.constants import stored

FIXED = -1  # the lane of channels that no producer computes; it is never removed
# Each output element depends on its own channel only, and the channels stay on the last axis.
CHANNELWISE = (
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ELU", "GELU", "HARD_SWISH", "LOGISTIC", "TANH",
    "ABS", "NEG", "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "SIGN",
    "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR",
    "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND",
)  # fmt: skip
ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU")
REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
PADDINGS = ("PAD", "PADV2", "MIRROR_PAD")
RESHAPING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


class Part(Struct, frozen=True):
    """An axis of a constant that has channels: which operator reads it, at which input, and the lanes there."""

    operator: int
    position: int
    axis: int
    lanes: Array


class Group(Struct, frozen=True):
    """Lanes that the same producers share. `pinned` says why none can be removed, and is empty when they can.

    `producers` and `readers` are indexes of operators.
    """

    producers: tuple[int, ...]
    lanes: tuple[int, ...]
    readers: tuple[int, ...]
    pinned: str


class Structure(Struct, frozen=True):
    """The lanes of a subgraph: of each tensor's last axis, of axes of constants, and in groups.

    `readers` has, for each operator that mixes channels, the lanes of its weights' input axis.
    """

    tensors: Mapping[int, Array]
    parts: tuple[Part, ...]
    readers: Mapping[int, Array]
    groups: tuple[Group, ...]


def channel_structure(subgraph: Subgraph) -> Structure:
    """Follow the channels of every CONV_2D and FULLY_CONNECTED."""
    search = _Search(subgraph)
    for operator in subgraph.operators:
        search.visit(operator)
    for index in subgraph.outputs:
        search.pin(search.lanes(index), "is an output of the model")
    return search.structure()


class _Search:
    """Lanes under construction: sets of channels that are joined as operators are visited (union-find)."""

    def __init__(self, subgraph: Subgraph) -> None:
        self._subgraph = subgraph
        self._joined: list[int] = []  # each channel's representative, or one that is closer to it
        self._pinned: dict[int, str] = {}
        self._tensors: dict[int, Array] = {}
        self._parts: list[Part] = []
        self._producers: dict[int, Array] = {}
        self._readers: dict[int, Array] = {}

    def lanes(self, index: int) -> Array:
        """The channels on the last axis of a tensor."""
        shape = self._subgraph.tensors[index].shape
        return self._tensors.get(index, numpy.full(shape[-1] if shape else 0, FIXED))

    def pin(self, lanes: Array, reason: str) -> None:
        """Never remove these."""
        for lane in numpy.unique(lanes[lanes != FIXED]):
            self._pinned.setdefault(self._find(int(lane)), reason)

    def visit(self, operator: Operator) -> None:
        """Follow the channels through one operator."""
        follow: dict[str, Callable[[Operator], Array | None]] = {
            "CONV_2D": self._convolution,
            "FULLY_CONNECTED": self._fully_connected,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "CONCATENATION": self._concatenation,
            "TRANSPOSE": self._transpose,
            **dict.fromkeys(CHANNELWISE, lambda operator: self.lanes(operator.inputs[0])),
            **dict.fromkeys(ELEMENTWISE, self._elementwise),
            **dict.fromkeys(REDUCTIONS, self._reduction),
            **dict.fromkeys(PADDINGS, self._padding),
            **dict.fromkeys(RESHAPING, self._reshaping),
        }
        is_whole = bool(operator.inputs and operator.outputs) and operator.inputs[0] >= 0
        lanes = follow[operator.kind](operator) if is_whole and operator.kind in follow else None
        if lanes is None:
            name = self._subgraph.operator_name(operator)
            for index in operator.inputs:
                if index >= 0:
                    self.pin(self.lanes(index), f"feeds {operator.kind} '{name}', which needs all channels")
        elif (lanes != FIXED).any():
            self._tensors[operator.outputs[0]] = lanes

    def structure(self) -> Structure:
        """What was found."""
        roots = numpy.array([self._find(lane) for lane in range(len(self._joined))] + [FIXED])
        producers: dict[int, set[int]] = {}
        for operator, lanes in self._producers.items():
            for lane in roots[lanes]:
                producers.setdefault(int(lane), set()).add(operator)
        grouped: dict[tuple[tuple[int, ...], str], list[int]] = {}
        for lane, operators in producers.items():
            grouped.setdefault((tuple(sorted(operators)), self._pinned.get(lane, "")), []).append(lane)
        readers = {operator: roots[lanes] for operator, lanes in self._readers.items()}
        groups = tuple(
            Group(operators, tuple(lanes), _reading(readers, lanes), pinned)
            for (operators, pinned), lanes in grouped.items()
        )
        tensors = {index: roots[lanes] for index, lanes in self._tensors.items()}
        parts = tuple(replace(part, lanes=roots[part.lanes]) for part in self._parts)
        return Structure(tensors, parts, readers, groups)

    def _find(self, lane: int) -> int:
        while self._joined[lane] != lane:
            self._joined[lane] = self._joined[self._joined[lane]]
            lane = self._joined[lane]
        return lane

    def _join(self, left: Array, right: Array, name: str) -> Array:
        """Make channels go together; those that meet fixed ones are pinned."""
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            if FIXED in (one, other):
                self.pin(numpy.array([one, other]), f"is joined in '{name}' with channels that are fixed")
                continue
            one, other = sorted((self._find(one), self._find(other)))
            self._joined[other] = one
            if other in self._pinned:
                self._pinned.setdefault(one, self._pinned[other])
        return numpy.where(left == FIXED, right, left)

    def _new(self, operator: Operator, count: int) -> Array:
        lanes = numpy.arange(len(self._joined), len(self._joined) + count)
        self._joined.extend(lanes.tolist())
        self._producers[operator.index] = lanes
        return lanes

    def _input(self, operator: Operator, position: int) -> Tensor | None:
        """An input, or None where it is left out."""
        return self._subgraph.tensor(operator.inputs[position]) if position < len(operator.inputs) else None

    def _constant(self, operator: Operator, position: int) -> Array | None:
        tensor = self._input(operator, position)
        return stored(tensor) if tensor is not None and tensor.is_constant and not tensor.is_sparse else None

    def _has_float_weights(self, operator: Operator) -> bool:
        weights, bias = self._input(operator, 1), self._input(operator, 2)
        parameters = [weights, *([bias] if bias is not None else [])]
        return all(
            tensor is not None and tensor.is_constant and tensor.dtype == "float32" and not tensor.is_sparse
            for tensor in parameters
        )

    def _part(self, operator: Operator, position: int, axis: int, lanes: Array) -> None:
        if position < len(operator.inputs) and operator.inputs[position] >= 0 and (lanes != FIXED).any():
            self._parts.append(Part(operator.index, position, axis, lanes))

    def _mixing(self, operator: Operator, lanes: Array, axis: int) -> Array:
        """An operator whose weights have its output's channels on the first axis and its input's on another."""
        weights = self._subgraph.tensors[operator.inputs[1]]
        if (lanes != FIXED).any():
            self._readers[operator.index] = lanes
        self._part(operator, 1, axis, lanes)
        made = self._new(operator, weights.shape[0])
        self._part(operator, 1, 0, made)
        self._part(operator, 2, 0, made)
        return made

    def _convolution(self, operator: Operator) -> Array | None:
        lanes = self.lanes(operator.inputs[0])
        if not self._has_float_weights(operator) or self._subgraph.tensors[operator.inputs[1]].shape[3] != len(lanes):
            return None  # weights that are computed, or convolutions in groups
        return self._mixing(operator, lanes, 3)

    def _fully_connected(self, operator: Operator) -> Array | None:
        lanes = self.lanes(operator.inputs[0])
        if not self._has_float_weights(operator) or operator.options.get("weights_format", "DEFAULT") != "DEFAULT":
            return None
        depth = self._subgraph.tensors[operator.inputs[1]].shape[1]
        return self._mixing(operator, numpy.tile(lanes, depth // len(lanes)), 1) if _fits(lanes, depth) else None

    def _depthwise(self, operator: Operator) -> Array | None:
        lanes = self.lanes(operator.inputs[0])
        if not self._has_float_weights(operator):
            return None
        channels = self._subgraph.tensors[operator.inputs[1]].shape[3]
        if (lanes == FIXED).all():
            made = self._new(operator, channels)
            self.pin(made, "is computed channel by channel from channels that are fixed")
            return made
        made = numpy.repeat(lanes, channels // len(lanes))  # with a multiplier, each makes several
        self._part(operator, 1, 3, made)
        self._part(operator, 2, 0, made)
        return made

    def _elementwise(self, operator: Operator) -> Array | None:
        name = self._subgraph.operator_name(operator)
        width = len(self.lanes(operator.outputs[0]))
        whole = None
        for index in operator.inputs:
            lanes = self.lanes(index)
            if self._subgraph.tensors[index].is_constant:
                continue
            if len(lanes) != width:  # one channel for all
                self.pin(lanes, f"is read for all channels of '{name}' at once")
                continue
            whole = lanes if whole is None else self._join(whole, lanes, name)
        if whole is None:
            return None
        for position, index in enumerate(operator.inputs):
            tensor = self._subgraph.tensors[index]
            if tensor.is_constant and tensor.shape and tensor.shape[-1] == width:
                self._part(operator, position, len(tensor.shape) - 1, whole)
        return whole

    def _concatenation(self, operator: Operator) -> Array | None:
        name = self._subgraph.operator_name(operator)
        rank = len(self._subgraph.tensors[operator.outputs[0]].shape)
        inputs = [self.lanes(index) for index in operator.inputs]
        if not rank:  # of what has no rank before the run nothing is known
            return None
        if operator.number("axis") % rank != rank - 1:
            if len({len(lanes) for lanes in inputs}) > 1:
                return None
            whole = inputs[0]
            for lanes in inputs[1:]:
                whole = self._join(whole, lanes, name)
            return whole
        return numpy.concatenate(inputs)

    def _transpose(self, operator: Operator) -> Array | None:
        order = self._constant(operator, 1)
        keeps_channels = order is not None and order.ndim == 1 and order.size and order[-1] == len(order) - 1
        return self.lanes(operator.inputs[0]) if keeps_channels else None

    def _reduction(self, operator: Operator) -> Array | None:
        rank = len(self._subgraph.tensors[operator.inputs[0]].shape)
        axes = self._constant(operator, 1)
        keeps_channels = axes is not None and rank > 0 and (axes % rank != rank - 1).all()
        return self.lanes(operator.inputs[0]) if keeps_channels else None

    def _padding(self, operator: Operator) -> Array | None:
        sizes = self._constant(operator, 1)
        keeps_channels = sizes is not None and sizes.ndim == 2 and len(sizes) > 0 and not sizes[-1].any()
        return self.lanes(operator.inputs[0]) if keeps_channels else None

    def _reshaping(self, operator: Operator) -> Array | None:
        """Elements keep their order: element e of the whole is in channel e modulo the number of channels."""
        lanes = self.lanes(operator.inputs[0])
        shape = self._subgraph.tensors[operator.outputs[0]].shape
        is_known = self._input(operator, 1) is None or self._constant(operator, 1) is not None
        fits = is_known and bool(shape) and _fits(lanes, shape[-1])
        return numpy.tile(lanes, shape[-1] // len(lanes)) if fits else None


def _fits(lanes: Array, width: int) -> bool:
    return len(lanes) > 0 and width % len(lanes) == 0


def _reading(readers: Mapping[int, Array], lanes: Sequence[int]) -> tuple[int, ...]:
    return tuple(operator for operator, read in readers.items() if numpy.isin(read, lanes).any())

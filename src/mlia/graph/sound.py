"""What a model may not contradict: the options, weights and shapes of each operator, held against each other.

Compilers and kernels take a file's word. What no kernel could run they work on without end, or read past their
tensors. So it is refused where the file is read, with the operator and the value. Sizes that are known only at run
time (-1 in the signature, 0 in the shape) contradict nothing, and neither does a tensor whose rank is not known.
"""

from collections.abc import Callable, Sequence
from struct import unpack_from

from mlia.errors import ModelError
from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.graph.sound_tensors import check_tensors, short_name

WIDEST = 65_535  # dilation: networks have 36; a compiler that is told of a million taps between two works without end
_Sizes = tuple[int | None, ...]  # None where only the run tells


def check_sound(graph: Graph) -> None:
    """Refuse a model that contradicts itself.

    What must fit is what the operators of TensorFlow Lite ask of their inputs: strides, dilations and windows of 1 at
    least, weights for the channels there are (grouped convolutions included), and outputs of the size that the inputs
    make. A kind of operator that is not known here is taken as it is, and so is TOSA, whose operators have the same
    names and other inputs.

    Raises:
        ModelError: names the operator and what of it contradicts.
    """
    if graph.is_tosa:
        return
    for subgraph in graph.subgraphs:
        check_tensors(subgraph)
        for operator in subgraph.operators:
            if operator.kind in _CHECKS:
                _CHECKS[operator.kind](_Parts(subgraph, operator))


class _Parts:
    """An operator, its tensors, and how to say what is wrong with it."""

    def __init__(self, subgraph: Subgraph, operator: Operator) -> None:
        self.operator = operator
        self._subgraph = subgraph

    def refuse(self, what: str) -> ModelError:
        """The error, which names the operator."""
        name, operator = short_name(self._subgraph.operator_name(self.operator)), self.operator
        number = operator.index if not self._subgraph.index else f"{self._subgraph.index}:{operator.index}"
        return ModelError(f"it contradicts itself: operator {number}, {operator.kind} '{name}', {what}")

    def inputs(self) -> list[Tensor]:
        """All inputs that are there."""
        return [tensor for index in self.operator.inputs if (tensor := self._subgraph.tensor(index)) is not None]

    def outputs(self) -> list[Tensor]:
        return [self._subgraph.tensors[index] for index in self.operator.outputs]

    def input(self, position: int, what: str) -> Tensor:
        """One input that must be there."""
        inputs = self.operator.inputs
        tensor = self._subgraph.tensor(inputs[position]) if position < len(inputs) else None
        if tensor is None:
            raise self.refuse(f"has no {what}")
        return tensor

    def optional(self, position: int) -> Tensor | None:
        inputs = self.operator.inputs
        return self._subgraph.tensor(inputs[position]) if position < len(inputs) else None

    def output(self) -> Tensor:
        """The first output, which must be there."""
        if not self.operator.outputs:
            raise self.refuse("has no output")
        return self._subgraph.tensors[self.operator.outputs[0]]

    def at_least_one(self, *options: str) -> list[int]:
        """Options that count something: 1 or more."""
        values = [self.operator.number(option) for option in options]
        for option, value in zip(options, values, strict=True):
            if value < 1:
                raise self.refuse(f"has {option} {value}; it must be 1 or more")
        return values

    def sizes(self, tensor: Tensor, rank: int, what: str) -> _Sizes:
        """Of a tensor that must have so many dimensions."""
        if len(tensor.shape) != rank:
            raise self.refuse(f"has {what} of shape {list(tensor.shape)}; it must have {rank} dimensions")
        return _sizes(tensor)

    def fits(self, what: str, stored: int | None, expected: int | None, why: str) -> None:
        """A size of the output, or of the weights, as it is stored and as it must be."""
        if stored is not None and expected is not None and stored != expected:
            raise self.refuse(f"has {what} {stored}, but {why} {expected}")


def _sizes(tensor: Tensor) -> _Sizes:
    opened = tensor.shape_signature if len(tensor.shape_signature) == len(tensor.shape) else tensor.shape
    return tuple(None if signed == -1 or not size else size for size, signed in zip(tensor.shape, opened, strict=True))


def _elements(tensors: Sequence[Tensor]) -> int | None:
    """How many elements several tensors have together; None where one is open."""
    if any(None in _sizes(tensor) or _may_be_unranked(tensor) for tensor in tensors):
        return None
    return sum(tensor.elements for tensor in tensors)


def _may_be_unranked(tensor: Tensor) -> bool:
    """A shape without sizes is that of a scalar, or of what nobody knows before the run."""
    return not tensor.shape and not tensor.is_constant and not tensor.has_rank


# Windows: what moves over an image, by the axes of height and width (and depth in front).


def _window_options(parts: _Parts, axes: str, is_dilated: bool) -> tuple[list[int], list[int]]:
    strides = parts.at_least_one(*(f"stride_{axis}" for axis in axes))
    spreads = [1] * len(axes)
    if is_dilated:
        spreads = parts.at_least_one(*(f"dilation_{axis}_factor" for axis in axes))
        if max(spreads) > WIDEST:
            raise parts.refuse(f"has a dilation of {max(spreads)}, which reaches past any input; {WIDEST} is the most")
    if (padding := parts.operator.options.get("padding")) not in ("SAME", "VALID"):
        raise parts.refuse(f"has padding {padding}; there are SAME and VALID")
    return strides, spreads


def _fit_window(
    parts: _Parts, ifm: _Sizes, ofm: _Sizes, taps: _Sizes, strides: Sequence[int], spreads: Sequence[int]
) -> None:
    """Output sizes as padding, stride and window make them of the input's; the batch is the input's."""
    parts.fits("an output whose batch is", ofm[0], ifm[0], "that of its input is")
    is_same = parts.operator.options["padding"] == "SAME"
    names = ("depth", "height", "width")[-len(strides) :]
    for name, size, made, tap, stride, spread in zip(names, ifm[1:-1], ofm[1:-1], taps, strides, spreads, strict=True):
        if size is None or tap is None:
            continue
        covered = size if is_same else size - (tap - 1) * spread
        expected = max(-(-covered // stride), 0)
        rest = "" if is_same else f", a window of {tap}{f' at dilation {spread}' if spread > 1 else ''}"
        how = f"{parts.operator.options['padding']} padding, stride {stride}{rest} and an input of {size} make"
        parts.fits(f"an output whose {name} is", made, expected, how)


def _weights(parts: _Parts, rank: int) -> _Sizes:
    tensor = parts.input(1, "weights")
    sizes = parts.sizes(tensor, rank, "weights")
    if 0 in tensor.shape and not tensor.is_dynamic:
        raise parts.refuse(f"has weights of shape {list(tensor.shape)}; each size must be 1 or more")
    return sizes


def _fit_bias(parts: _Parts, position: int, channels: int | None) -> None:
    bias = parts.optional(position)
    if bias is not None and bias.shape:
        parts.fits("biases whose number is", _elements([bias]), channels, "its output channels are")


def _fit_groups(parts: _Parts, channels: int | None, of_group: int | None, made: int | None) -> None:
    """Weights that take all channels, or those of one of several groups."""
    if channels is None or of_group is None:
        return
    if channels % of_group:
        raise parts.refuse(f"has weights for {of_group} input channels, but its input has {channels}")
    groups = channels // of_group
    if made is not None and made % groups:
        raise parts.refuse(f"has {made} output channels, which {groups} groups cannot share evenly")


def _convolution(parts: _Parts) -> None:
    """CONV_2D: weights are (O, H, W, I of a group)."""
    strides, spreads = _window_options(parts, "hw", True)
    ifm, weights = parts.sizes(parts.input(0, "input"), 4, "an input"), _weights(parts, 4)
    ofm = parts.sizes(parts.output(), 4, "an output")
    _fit_groups(parts, ifm[-1], weights[-1], weights[0])
    parts.fits("an output whose channels are", ofm[-1], weights[0], "its filters are")
    _fit_bias(parts, 2, weights[0])
    _fit_window(parts, ifm, ofm, weights[1:3], strides, spreads)


def _depthwise(parts: _Parts) -> None:
    """DEPTHWISE_CONV_2D: weights are (1, H, W, O). A multiplier of 0 is one that was not written."""
    strides, spreads = _window_options(parts, "hw", True)
    ifm, weights = parts.sizes(parts.input(0, "input"), 4, "an input"), _weights(parts, 4)
    ofm = parts.sizes(parts.output(), 4, "an output")
    parts.fits("weights whose first size is", weights[0], 1, "it must be")
    multiplier = parts.operator.number("depth_multiplier")
    if multiplier < 0:
        raise parts.refuse(f"has depth_multiplier {multiplier}; it must be 1 or more")
    if ifm[-1] is not None and weights[-1] is not None:
        if weights[-1] % ifm[-1]:
            raise parts.refuse(f"has weights for {weights[-1]} channels, no multiple of its input's {ifm[-1]}")
        if multiplier and weights[-1] != ifm[-1] * multiplier:
            made = f"{ifm[-1]} input channels and depth_multiplier {multiplier} make {ifm[-1] * multiplier}"
            raise parts.refuse(f"has weights for {weights[-1]} channels, but {made}")
    parts.fits("an output whose channels are", ofm[-1], weights[-1], "its weights are for")
    _fit_bias(parts, 2, weights[-1])
    _fit_window(parts, ifm, ofm, weights[1:3], strides, spreads)


def _convolution_3d(parts: _Parts) -> None:
    """CONV_3D: weights are (D, H, W, I of a group, O)."""
    strides, spreads = _window_options(parts, "dhw", True)
    ifm, weights = parts.sizes(parts.input(0, "input"), 5, "an input"), _weights(parts, 5)
    ofm = parts.sizes(parts.output(), 5, "an output")
    _fit_groups(parts, ifm[-1], weights[-2], weights[-1])
    parts.fits("an output whose channels are", ofm[-1], weights[-1], "its filters are")
    _fit_bias(parts, 2, weights[-1])
    _fit_window(parts, ifm, ofm, weights[:3], strides, spreads)


def _transpose_convolution(parts: _Parts) -> None:
    """TRANSPOSE_CONV: weights are (O, H, W, I). The output's height and width are the file's to choose."""
    _window_options(parts, "hw", False)
    ifm, weights = parts.sizes(parts.input(2, "input"), 4, "an input"), _weights(parts, 4)
    ofm = parts.sizes(parts.output(), 4, "an output")
    parts.fits("weights whose input channels are", weights[-1], ifm[-1], "its input has")
    parts.fits("an output whose channels are", ofm[-1], weights[0], "its filters are")
    parts.fits("an output whose batch is", ofm[0], ifm[0], "that of its input is")
    _fit_bias(parts, 3, weights[0])


def _pooling(parts: _Parts) -> None:
    strides, spreads = _window_options(parts, "hw", False)
    taps = parts.at_least_one("filter_height", "filter_width")
    ifm = parts.sizes(parts.input(0, "input"), 4, "an input")
    ofm = parts.sizes(parts.output(), 4, "an output")
    parts.fits("an output whose channels are", ofm[-1], ifm[-1], "its input has")
    _fit_window(parts, ifm, ofm, tuple(taps), strides, spreads)


# Matrices.


def _fully_connected(parts: _Parts) -> None:
    """FULLY_CONNECTED: weights are (O, I); the input's elements are rows of I."""
    given, weights = _elements([parts.input(0, "input")]), _weights(parts, 2)
    made = _elements([parts.output()])
    _fit_bias(parts, 2, weights[0])
    if given is None or weights[0] is None or weights[1] is None:
        return
    if given % weights[1]:
        raise parts.refuse(f"has weights for {weights[1]} inputs, and an input of {given} elements is no multiple")
    parts.fits("an output whose elements are", made, given // weights[1] * weights[0], "its input and weights make")


def _batch_matmul(parts: _Parts) -> None:
    """BATCH_MATMUL: (…, N, K) by (…, K, M), each transposed where its option says so."""
    left, right = parts.input(0, "input"), parts.input(1, "second input")
    for tensor in (left, right):
        if len(tensor.shape) < 2:
            raise parts.refuse(f"has an input of shape {list(tensor.shape)}; it must have 2 dimensions at least")
    options = parts.operator.options
    depth = _sizes(left)[-2 if options.get("adj_x") else -1]
    other = _sizes(right)[-1 if options.get("adj_y") else -2]
    parts.fits("a second input whose depth is", other, depth, "the first has")


# What neither adds nor drops an element, and what is computed element by element.


def _keeps(first: int, last: int | None) -> Callable[[_Parts], None]:
    """As many elements come out as go in; `first` and `last` bound the inputs that count."""

    def check(parts: _Parts) -> None:
        parts.output()
        count = max(len(parts.operator.inputs[first:last]), 1)
        given = [parts.input(position, "input") for position in range(first, first + count)]
        parts.fits("outputs whose elements are", _elements(parts.outputs()), _elements(given), "its inputs have")

    return check


def _concatenation(parts: _Parts) -> None:
    """CONCATENATION: of tensors that differ along one axis only."""
    _keeps(0, None)(parts)
    first, *others = (parts.input(position, "input") for position in range(len(parts.operator.inputs)))
    axis = parts.operator.number("axis")
    if _may_be_unranked(first):
        return
    _fit_axes(parts, [axis], first)
    for other in others:
        sizes = parts.sizes(other, len(first.shape), "an input")
        for place, (size, wanted) in enumerate(zip(sizes, _sizes(first), strict=True)):
            if place != axis % len(first.shape):
                parts.fits(f"an input whose size along axis {place} is", size, wanted, "that of its first is")


def _transpose(parts: _Parts) -> None:
    """TRANSPOSE: by an order that names each axis once."""
    _keeps(0, 1)(parts)
    given, order = parts.input(0, "input"), _integers(parts.input(1, "order of axes"))
    if order is not None and not _may_be_unranked(given) and sorted(order) != [*range(len(given.shape))]:
        raise parts.refuse(f"has the order of axes {order[:9]} for an input of shape {list(given.shape)}")


def _padding(parts: _Parts) -> None:
    """PAD and its kin: by a pair of sizes for each axis."""
    given, pads = parts.input(0, "input"), parts.input(1, "sizes of padding")
    parts.output()
    if _may_be_unranked(given):
        return
    if list(pads.shape) != [len(given.shape), 2]:
        raise parts.refuse(f"has padding of shape {list(pads.shape)} for an input of shape {list(given.shape)}")
    sizes = _integers(pads)
    if sizes is None:
        return
    if min(sizes, default=0) < 0:
        raise parts.refuse(f"has padding {min(sizes)}; it must be 0 or more")
    made = parts.sizes(parts.output(), len(given.shape), "an output") if parts.output().shape else ()
    for axis, (size, out) in enumerate(zip(_sizes(given), made, strict=False)):
        expected = None if size is None else size + sizes[2 * axis] + sizes[2 * axis + 1]
        parts.fits(f"an output whose size along axis {axis} is", out, expected, "its input and padding make")


def _reduction(parts: _Parts) -> None:
    """Sums, means and extremes along axes that the input has."""
    given, axes = parts.input(0, "input"), _integers(parts.input(1, "axes"))
    parts.output()
    if axes is not None and not _may_be_unranked(given):
        _fit_axes(parts, axes, given)


def _fit_axes(parts: _Parts, axes: Sequence[int], given: Tensor) -> None:
    rank = len(given.shape)
    for axis in axes:
        if not -rank <= axis < rank:
            raise parts.refuse(f"works along axis {axis} of an input of shape {list(given.shape)}")


def _integers(tensor: Tensor) -> list[int] | None:
    """The values of a constant of int32 or int64; None of anything else."""
    if tensor.dtype not in ("int32", "int64") or not tensor.is_constant or tensor.is_sparse:
        return None
    code = "i" if tensor.dtype == "int32" else "q"
    return list(unpack_from(f"<{tensor.elements}{code}", tensor.data))


def _broadcast(parts: _Parts) -> None:
    """Two inputs, each size of which is the other's or 1."""
    given = parts.input(0, "input"), parts.input(1, "second input")
    if any(map(_may_be_unranked, given)):
        return
    left, right = map(_sizes, given)
    rank = max(len(left), len(right))
    left, right = ((1,) * (rank - len(sizes)) + sizes for sizes in (left, right))
    for one, other in zip(left, right, strict=True):
        if None not in (one, other) and one != other and 1 not in (one, other):
            raise parts.refuse(f"has inputs of shapes {_text(left)} and {_text(right)}, which do not go together")
    expected: int | None = 1
    for one, other in zip(left, right, strict=True):
        size = other if one == 1 else one if other == 1 else one or other
        expected = None if expected is None or size is None else expected * size
    parts.fits("an output whose elements are", _elements([parts.output()]), expected, "its inputs make")


def _text(sizes: _Sizes) -> str:
    return str(["?" if size is None else size for size in sizes]).replace("'", "")


_FIRST = (
    "ABS", "CAST", "CEIL", "COS", "DEPTH_TO_SPACE", "DEQUANTIZE", "ELU", "EXP", "EXPAND_DIMS", "FLOOR", "GELU",
    "HARD_SWISH", "L2_NORMALIZATION", "LEAKY_RELU", "LOG", "LOGICAL_NOT", "LOGISTIC", "LOG_SOFTMAX", "NEG", "PRELU",
    "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RESHAPE", "ROUND", "RSQRT", "SIN", "SOFTMAX",
    "SPACE_TO_DEPTH", "SPLIT_V", "SQRT", "SQUARE", "SQUEEZE", "TANH", "UNPACK",
)  # fmt: skip
_PADDINGS = ("MIRROR_PAD", "PAD", "PADV2")
_REDUCTIONS = ("MEAN", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM")
_BY_ELEMENT = (
    "ADD", "DIV", "EQUAL", "FLOOR_DIV", "FLOOR_MOD", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND",
    "LOGICAL_OR", "MAXIMUM", "MINIMUM", "MUL", "NOT_EQUAL", "POW", "SQUARED_DIFFERENCE", "SUB",
)  # fmt: skip
_CHECKS: dict[str, Callable[[_Parts], None]] = {
    **dict.fromkeys(_FIRST, _keeps(0, 1)),
    **dict.fromkeys(_PADDINGS, _padding),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "PACK": _keeps(0, None),
    "SPLIT": _keeps(1, 2),
    **dict.fromkeys(_BY_ELEMENT, _broadcast),
    **dict.fromkeys(("AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D"), _pooling),
    "BATCH_MATMUL": _batch_matmul,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "CONV_3D": _convolution_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_convolution,
}

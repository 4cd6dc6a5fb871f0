"""TRANSPOSEs that cancel across the operators between them.

A region is a set of connected operators that compute the same whatever the order of axes, such as ADD, PAD and
CONCATENATION. Behind a TRANSPOSE, all of it can work in the order that was there before; what is gained are the
TRANSPOSEs into and out of the region, each a copy of a whole tensor on an NPU.
"""

from collections.abc import Callable, Iterable

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.graph.graph import Operator, OptionValue
from mlia.transforms.calibration import Array
from mlia.transforms.rewrites.layout import flattened, inverse, permutation, transposed
from mlia.transforms.rewrites.network import Edit, Network, operator

ELEMENTWISE = (
    "ABS", "ADD", "CAST", "CEIL", "COS", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU",
    "LOG", "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "NEG", "POW", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1",
    "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH",
)  # fmt: skip
PADDING = ("PAD", "PADV2", "MIRROR_PAD")
REDUCING = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
SLICING = ("SLICE", "STRIDED_SLICE")


class _Region(Struct, frozen=True):
    """The operators, by index, behind TRANSPOSEs by `order`; `entering` tensors are computed outside of them."""

    order: tuple[int, ...]
    operators: frozenset[int]
    entering: tuple[int, ...]
    made: tuple[int, ...]


def cancelled_transposes(network: Network, transpose: Operator) -> Edit | None:
    """TRANSPOSEs around a region vanish, where that leaves fewer elements to transpose than before."""
    order = permutation(network, transpose)
    if order is None or order == tuple(range(len(order))):
        return None
    for both_ways in (True, False):
        region = _grow(network, transpose.outputs[0], order, both_ways)
        if region.operators and _pays(network, region):
            edit = _moved(network, transpose, region)
            if edit is not None:
                return edit
    return None


def _carried(
    network: Network, found: Operator, order: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The inputs and outputs of an operator that get another order of axes; None if it depends on that order."""
    rank = len(order)
    kind = found.kind
    inputs: tuple[int, ...]
    parameters: tuple[int, ...]
    if kind in ELEMENTWISE or kind == "CONCATENATION":
        inputs, parameters = found.inputs, ()
    elif kind == "SPLIT":
        inputs, parameters = found.inputs[1:], found.inputs[:1]
    elif kind in (*PADDING, *SLICING, *REDUCING):
        inputs, parameters = found.inputs[:1], found.inputs[1:]
    else:
        return None
    constants: list[Array] = [network.constant(index) for index in parameters]
    if any(values is None for values in constants):
        return None
    for index in inputs:
        tensor = network.tensor(index) if index >= 0 else None
        if tensor is None or tensor.is_variable or (tensor.quantization and len(tensor.quantization.scale) > 1):
            return None
        is_constant = network.constant(index) is not None
        fits = len(tensor.shape) <= rank if is_constant and kind in ELEMENTWISE else len(tensor.shape) == rank
        if not fits or (tensor.is_constant and not is_constant):
            return None
    if kind == "STRIDED_SLICE" and any(
        found.number(mask) for mask in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask", "offset")
    ):
        return None
    computed = tuple(dict.fromkeys(index for index in inputs if network.constant(index) is None))
    if kind in REDUCING and not found.options.get("keep_dims"):
        axes = {int(axis) % rank for axis in numpy.ravel(constants[0]).tolist()}
        kept = [order[axis] for axis in range(rank) if axis not in axes]
        return (computed, ()) if kept == sorted(kept) else None
    return computed, found.outputs


def _grow(network: Network, start: int, order: tuple[int, ...], both_ways: bool) -> _Region:
    """All that is connected to a tensor by operators that do not care, downstream only or both ways."""
    carried: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    waiting = list(network.readers(start))
    while waiting:
        candidate = waiting.pop()
        if candidate.index in carried:
            continue
        sides = _carried(network, candidate, order)
        if sides is None:
            continue
        carried[candidate.index] = sides
        for index in sides[1]:
            waiting.extend(network.readers(index))
        for index in sides[0] if both_ways else ():
            maker = network.maker(index)
            if permutation(network, maker) == order:
                waiting.extend(network.readers(index))
            elif maker is not None:
                waiting.append(maker)
    made = dict.fromkeys(index for _, outputs in carried.values() for index in outputs)
    entering = dict.fromkeys(index for inputs, _ in carried.values() for index in inputs if index not in made)
    return _Region(order, frozenset(carried), tuple(entering), tuple(made))


def _strangers(network: Network, region: _Region, index: int) -> list[Operator]:
    return [reader for reader in network.readers(index) if reader.index not in region.operators]


def _closes(network: Network, region: _Region, reader: Operator) -> bool:
    return permutation(network, reader) == inverse(region.order)


def _needs_order(network: Network, region: _Region, index: int) -> bool:
    """Whether a tensor that the region makes is needed in the old order too, at the price of a TRANSPOSE."""
    strangers = _strangers(network, region, index)
    return index in network.seen or any(not _closes(network, region, reader) for reader in strangers)


def _pays(network: Network, region: _Region) -> bool:
    """Whether fewer elements are transposed, by no more TRANSPOSEs. One that another or weights take up is free."""
    gained: list[int] = []
    lost: list[int] = []
    for index in region.entering:
        elements = network.tensor(index).elements
        turned = permutation(network, network.maker(index))
        is_free = turned is not None and index not in network.seen and not _strangers(network, region, index)
        if turned == region.order and is_free:
            gained.append(elements)
        elif turned != region.order and not is_free:
            lost.append(elements)
    for index in region.made:
        elements = network.tensor(index).elements
        strangers = _strangers(network, region, index)
        gained.extend(elements for reader in strangers if _closes(network, region, reader))
        others = [reader for reader in strangers if permutation(network, reader) is None]
        if index in network.seen or (others and flattened(network, index) is None):
            lost.append(elements)
    return sum(gained) > sum(lost) and len(gained) >= len(lost)


def _moved(network: Network, start: Operator, region: _Region) -> Edit | None:
    order, back = region.order, inverse(region.order)
    members = [member for member in network.operators if member.index in region.operators]
    kinds = list(dict.fromkeys(member.kind for member in members))
    more = f" and {len(kinds) - 3} more" if len(kinds) > 3 else ""
    edit = Edit(network, start, f"no TRANSPOSE around {', '.join(kinds[:3])}{more}")
    now: dict[int, int] = {}  # the tensor that replaces one in the region
    first: dict[int, list[Operator]] = {}  # TRANSPOSEs to execute in front of a member
    behind: dict[int, list[Operator]] = {}
    for index in region.entering:
        maker = network.maker(index, "TRANSPOSE")
        if maker is not None and permutation(network, maker) == order:
            now[index] = maker.inputs[0]
            continue
        reader = next(member for member in members if index in member.inputs)
        tensor = network.tensor(index)
        now[index] = edit.tensor(transposed(tensor, back, f"{tensor.name}/transposed"))
        first.setdefault(reader.index, []).append(_transpose(edit, index, now[index], back))
    for index in region.made:
        if not _leave(network, edit, region, index, now, behind):
            return None
    for member in members:
        inputs = _inputs(network, edit, member, order)
        turned = replace(
            member,
            inputs=tuple(now.get(index, index) for index in inputs),
            outputs=tuple(now.get(index, index) for index in member.outputs),
            options=_options(member, order),
        )
        edit.put(member, *first.get(member.index, ()), turned, *(t for i in member.outputs for t in behind.get(i, ())))
    return edit


def _leave(
    network: Network, edit: Edit, region: _Region, index: int, now: dict[int, int], behind: dict[int, list[Operator]]
) -> bool:
    """Settle one tensor that the region makes: what is it called, and what reads it; False if that cannot be."""
    tensor = network.tensor(index)
    back = inverse(region.order)
    closing = [reader for reader in _strangers(network, region, index) if _closes(network, region, reader)]
    known = [reader.outputs[0] for reader in closing if reader.outputs[0] in network.seen]
    is_needed = _needs_order(network, region, index)
    if len(known) > 1:
        return False
    if known:
        now[index] = known[0]
    elif is_needed:
        suffix = "/untransposed" if index in network.seen else ""
        now[index] = edit.tensor(transposed(tensor, back, f"{tensor.name}{suffix}"))
        if not suffix:
            edit.set_tensor(index, replace(tensor, name=f"{tensor.name}/transposed"))
    else:
        now[index] = index
        edit.set_tensor(index, transposed(tensor, back, tensor.name))
    for reader in closing:
        edit.put(reader)
        if reader.outputs[0] != now[index]:
            edit.read_instead(reader.outputs[0], now[index])
    if is_needed:
        behind[index] = [_transpose(edit, now[index], index, region.order)]
    return True


def _transpose(edit: Edit, source: int, output: int, order: Iterable[int]) -> Operator:
    sizes = edit.constant("permutation", numpy.array(list(order), numpy.int32))
    return operator("TRANSPOSE", [source, sizes], output, "TransposeOptions")


def _inputs(network: Network, edit: Edit, member: Operator, order: tuple[int, ...]) -> tuple[int, ...]:
    """The operator's inputs with its constants in the new order."""
    back = inverse(order)
    rank = len(order)

    def turn(index: int, turned: Callable[[Array], Array]) -> int:
        values = network.constant(index)
        if values is None:
            return index
        tensor = network.tensor(index)
        return edit.constant(tensor.name, turned(values).astype(values.dtype), tensor.quantization)

    def values(index: int) -> int:
        def widened(constant: Array) -> Array:
            if constant.size == 1:
                return constant
            return constant.reshape((1,) * (rank - constant.ndim) + constant.shape).transpose(back)

        return turn(index, widened)

    def axes(index: int) -> int:
        return turn(index, lambda constant: numpy.array(order)[constant % rank])

    def per_axis(index: int) -> int:
        return turn(index, lambda constant: constant[list(back)])

    if member.kind == "SPLIT":
        return axes(member.inputs[0]), *member.inputs[1:]
    if member.kind in REDUCING:
        return member.inputs[0], axes(member.inputs[1])
    if member.kind in PADDING:
        return member.inputs[0], per_axis(member.inputs[1]), *member.inputs[2:]
    if member.kind in SLICING:
        return member.inputs[0], *(per_axis(index) for index in member.inputs[1:])
    return tuple(values(index) for index in member.inputs)


def _options(member: Operator, order: tuple[int, ...]) -> dict[str, OptionValue]:
    options = dict(member.options)
    if member.kind == "CONCATENATION":
        options["axis"] = order[member.number("axis") % len(order)]
    for mask in ("begin_mask", "end_mask"):
        if member.kind == "STRIDED_SLICE":
            bits = member.number(mask)
            options[mask] = sum(1 << order[axis] for axis in range(len(order)) if bits >> axis & 1)
    return options

"""Sequences laid along the width of a feature map instead of along its height.

A model of one-dimensional convolutions has tensors of (batch, time, 1, channels). In memory (batch, 1, time,
channels) is the same, and an NPU that computes several columns at a time is not left with one.
"""

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, OptionValue, Tensor
from mlia.transforms.remedies.places import Place, with_name
from mlia.transforms.remedies.shaping import reshape, reshaped
from mlia.transforms.rewrites.network import Edit, Network, without_unused_tensors
from mlia.transforms.rewrites.regions import ELEMENTWISE

_LYING = "/lying"  # is added to names
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
_PAIRS = (("stride_h", "stride_w"), ("dilation_h_factor", "dilation_w_factor"), ("filter_height", "filter_width"))


def rows_instead_of_columns(graph: Graph) -> Graph:
    """The graph with convolutions over (time, 1) done over (1, time), and what lies between them.

    Each output is a sum over the same numbers, so that integers are bit-identical.

    Raises:
        TransformError: there is no convolution of that kind.
    """
    network = Network(graph.main)
    turning = [found for found in graph.operators if _turns(network, found)]
    if not any(found.kind in CONVOLUTIONS for found in turning):
        raise TransformError("no convolution runs along the height of a tensor of width 1")
    edit = Edit(network, turning[0], "sequences lie along the width")
    inside = {index for found in turning for index in _sides(network, found)}
    others = [found for found in graph.operators if found not in turning]
    needed = {*graph.main.outputs, *(index for found in others for index in found.inputs)}
    made = {index for found in turning for index in found.outputs}
    lying = {index: edit.tensor(_lying(network.tensor(index))) for index in sorted(inside)}
    entered: set[int] = set()
    for found in turning:
        place = []
        for index in dict.fromkeys(found.inputs):
            if index in inside and index not in made and index not in entered:
                entered.add(index)
                place.append(_reshape(edit, index, lying[index], _lying(network.tensor(index))))
        place.append(_turned(network, edit, found, lying))
        for index in found.outputs:
            if index in needed:
                place.append(_reshape(edit, lying[index], index, network.tensor(index)))
        edit.put(found, *place)
    return without_unused_tensors(replace(graph, subgraphs=(edit.result(), *graph.subgraphs[1:])))


def place_when_lying(graph: Graph, place: Place) -> Place:
    """Where an operator is after that, if it is one of those that are turned."""
    network = Network(graph.main)
    before = with_name(graph.main, place.name)[: place.number]
    return Place(f"{place.name}{_LYING}", sum(_turns(network, found) for found in before))


def _lying(tensor: Tensor) -> Tensor:
    batch, time, _, channels = tensor.shape
    return reshaped(tensor, (batch, 1, time, channels), f"{tensor.name}{_LYING}")


def _reshape(edit: Edit, source: int, output: int, after: Tensor) -> Operator:
    return reshape(edit, source, output, after.is_dynamic, after.shape, after.name)


def _sides(network: Network, found: Operator) -> list[int]:
    """The computed tensors that an operator reads and writes."""
    count = 1 if found.kind in (*CONVOLUTIONS, *POOLS) else len(found.inputs)
    return [index for index in (*found.inputs[:count], *found.outputs) if network.constant(index) is None]


def _turns(network: Network, found: Operator) -> bool:
    if found.kind not in (*CONVOLUTIONS, *POOLS, *ELEMENTWISE) or not found.inputs or not found.outputs:
        return False
    for index in _sides(network, found):
        tensor = network.tensor(index) if index >= 0 else None
        if tensor is None or tensor.is_variable or len(tensor.shape) != 4 or tensor.shape[2] != 1:
            return False
        if -1 in tensor.shape_signature[1:]:
            return False
    if found.kind in CONVOLUTIONS:
        weights = network.constant(found.inputs[1]) if len(found.inputs) > 1 else None
        return weights is not None and weights.ndim == 4 and weights.shape[2] == 1
    if found.kind in POOLS:
        return found.number("filter_width") == 1
    constants = [values for index in found.inputs if index >= 0 and (values := network.constant(index)) is not None]
    return all(values.size == 1 or values.ndim == 1 for values in constants)


def _turned(network: Network, edit: Edit, found: Operator, lying: dict[int, int]) -> Operator:
    options: dict[str, OptionValue] = dict(found.options)
    for one, other in _PAIRS:
        if one in options:
            options[one], options[other] = found.options.get(other, 1), found.options.get(one, 1)
    inputs = [lying.get(index, index) for index in found.inputs]
    if found.kind in CONVOLUTIONS:
        weights = network.constant(found.inputs[1])
        assert weights is not None  # _turns() looked
        old = network.tensor(found.inputs[1])
        inputs[1] = edit.constant(old.name, weights.transpose(0, 2, 1, 3), old.quantization)
    outputs = tuple(lying[index] for index in found.outputs)
    return replace(found, inputs=tuple(inputs), outputs=outputs, options=options)

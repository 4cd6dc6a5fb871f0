"""A model without some of its channels: every tensor and every constant that has them is narrowed."""

from collections import Counter
from collections.abc import Collection

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.transforms.calibration import Array
from mlia.transforms.channels.groups import Structure
from mlia.transforms.constants import as_data, stored


class Draft:
    """A subgraph whose constants are being replaced."""

    def __init__(self, subgraph: Subgraph) -> None:
        self._subgraph = subgraph
        self.tensors = list(subgraph.tensors)
        self.operators = list(subgraph.operators)
        self.copied: set[str] = set()  # constants that several operators read and that differ now
        reading = (index for operator in subgraph.operators for index in operator.inputs)
        self._reads = Counter([*subgraph.outputs, *reading])

    def constant(self, operator: int, position: int) -> Array:
        """The values of a constant that an operator reads."""
        return stored(self.tensors[self.operators[operator].inputs[position]])

    def place(self, operator: int, position: int, values: Array) -> None:
        """Give one operator other values for a constant, in a tensor of its own if others read the old one too."""
        index = self.operators[operator].inputs[position]
        changed = replace(self.tensors[index], shape=values.shape, shape_signature=(), data=as_data(values))
        if self._reads[index] == 1:
            self.tensors[index] = changed
            return
        self._reads[index] -= 1
        self.copied.add(changed.name)
        self._append(operator, position, changed)

    def add_bias(self, operator: int, change: Array) -> None:
        """Add to the bias of a CONV_2D or FULLY_CONNECTED, which gets one if it has none."""
        inputs = self.operators[operator].inputs
        if len(inputs) > 2 and inputs[2] >= 0:
            self.place(operator, 2, self.constant(operator, 2) + change.astype(numpy.float32))
            return
        name = f"{self._subgraph.operator_name(self._subgraph.operators[operator])}/bias"
        data = as_data(change.astype(numpy.float32))
        self._append(operator, 2, Tensor(name, change.shape, "float32", data=data))

    def subgraph(self) -> Subgraph:
        """The subgraph as it stands."""
        return replace(self._subgraph, tensors=tuple(self.tensors), operators=tuple(self.operators))

    def _append(self, operator: int, position: int, tensor: Tensor) -> None:
        self.tensors.append(tensor)
        inputs = [*self.operators[operator].inputs]
        inputs[position : position + 1] = [len(self.tensors) - 1]
        self._reads[len(self.tensors) - 1] = 1
        self.operators[operator] = replace(self.operators[operator], inputs=tuple(inputs))


def without_lanes(graph: Graph, structure: Structure, removed: Collection[int]) -> tuple[Draft, frozenset[int]]:
    """The main subgraph without these lanes, and which operators now read fewer channels and mix them.

    Constants that several operators read are copied where they come to differ.
    """
    draft = Draft(graph.main)
    gone = list(removed)
    for index, lanes in structure.tensors.items():
        channels = int((~numpy.isin(lanes, gone)).sum())
        if channels < len(lanes):
            draft.tensors[index] = _narrowed(draft.tensors[index], channels)
    for part in structure.parts:
        stays = ~numpy.isin(part.lanes, gone)
        if not stays.all():
            values = draft.constant(part.operator, part.position)
            draft.place(part.operator, part.position, values.compress(stays, part.axis))
    for operator in graph.operators:
        if operator.kind == "RESHAPE" and draft.tensors[operator.outputs[0]] != graph.main.tensors[operator.outputs[0]]:
            _reshape(draft, operator)
    losing = (operator for operator, lanes in structure.readers.items() if numpy.isin(lanes, gone).any())
    return draft, frozenset(losing)


def _narrowed(tensor: Tensor, channels: int) -> Tensor:
    signature = (*tensor.shape_signature[:-1], channels) if tensor.shape_signature else ()
    return replace(tensor, shape=(*tensor.shape[:-1], channels), shape_signature=signature)


def _reshape(draft: Draft, operator: Operator) -> None:
    """Tell a RESHAPE its new last size, in the input and in the option that may each hold it."""
    channels = draft.tensors[operator.outputs[0]].shape[-1]
    if len(operator.inputs) > 1 and operator.inputs[1] >= 0:
        sizes = draft.constant(operator.index, 1).copy()
        if sizes[-1] != -1:
            sizes[-1] = channels
            draft.place(operator.index, 1, sizes)
    asked = operator.options.get("new_shape")
    if isinstance(asked, tuple) and asked and asked[-1] != -1:
        options = {**operator.options, "new_shape": (*asked[:-1], channels)}
        draft.operators[operator.index] = replace(draft.operators[operator.index], options=options)

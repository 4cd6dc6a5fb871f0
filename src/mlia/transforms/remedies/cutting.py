"""Integer models with a few channels less, cut out of their codes: to see what the right number would bring.

Which channels belong together is found as for float models (mlia.transforms.channels). Nothing makes up for what is
removed; those go whose weights are smallest. A model should be trained with fewer channels instead.
"""

from collections.abc import Callable, Mapping

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import ACTING, Graph, Quantization, Subgraph, Tensor
from mlia.transforms.calibration import Array
from mlia.transforms.channels.cut import without_lanes
from mlia.transforms.channels.groups import Group, Structure, channel_structure
from mlia.transforms.constants import real

_MIXING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def with_fewer_channels(graph: Graph, keep: Callable[[int], int]) -> Graph:
    """The integer model with `keep(channels)` channels in each group of operators that share theirs.

    Raises:
        TransformError: no channel can be removed.
    """
    main = graph.main
    if len(graph.subgraphs) > 1 or any(found.kind in ACTING for found in graph.operators):
        raise TransformError("channels are only cut in models of one subgraph without state")
    structure = channel_structure(_as_float(main))
    norms = _norms(main, structure)
    removed: set[int] = set()
    for group in structure.groups:
        surplus = len(group.lanes) - keep(len(group.lanes))
        if surplus > 0 and not group.pinned and group.readers:
            removed |= {*_weakest(group, norms)[:surplus]}
    if not removed:
        raise TransformError("no channels can be removed: they reach an output or an operator that needs them all")
    draft, _ = without_lanes(graph, structure, removed)
    for part in structure.parts:
        stays = ~numpy.isin(part.lanes, list(removed))
        index = draft.operators[part.operator].inputs[part.position]
        draft.tensors[index] = _requantized(draft.tensors[index], part.axis, stays)
    return replace(graph, subgraphs=(draft.subgraph(),))


def _as_float(main: Subgraph) -> Subgraph:
    """The subgraph with its constants described as float weights, as the search for channels expects them."""
    weights = {index for found in main.operators if found.kind in _MIXING for index in found.inputs[1:3] if index >= 0}
    tensors = tuple(
        replace(tensor, dtype="float32") if index in weights and tensor.dtype in ("int8", "int32", "int64") else tensor
        for index, tensor in enumerate(main.tensors)
    )
    return replace(main, tensors=tensors)


def _norms(main: Subgraph, structure: Structure) -> Mapping[int, float]:
    """Per lane the sum of the magnitudes of the weights that compute it, in real numbers."""
    norms: dict[int, float] = {}
    for part in structure.parts:
        found = main.operators[part.operator]
        if part.position != 1 or part.axis != (3 if found.kind == "DEPTHWISE_CONV_2D" else 0):
            continue
        values: Array = numpy.abs(real(main.tensors[found.inputs[1]]))
        sums = values.sum(tuple(axis for axis in range(values.ndim) if axis != part.axis))
        for lane, norm in zip(part.lanes.tolist(), sums.tolist(), strict=True):
            norms[lane] = norms.get(lane, 0.0) + norm
    return norms


def _weakest(group: Group, norms: Mapping[int, float]) -> list[int]:
    return sorted(group.lanes, key=lambda lane: norms.get(lane, 0.0))


def _requantized(tensor: Tensor, axis: int, stays: Array) -> Tensor:
    """A constant whose scales per channel are those of the channels that stay."""
    quantization = tensor.quantization
    if quantization is None or len(quantization.scale) != len(stays) or stays.all():
        return tensor
    if quantization.axis != axis and len(tensor.shape) > 1:
        return tensor
    zeros = quantization.zero_point if len(quantization.zero_point) == len(stays) else ()
    scale = tuple(value for value, stay in zip(quantization.scale, stays, strict=True) if stay)
    zero_point = (
        tuple(value for value, stay in zip(zeros, stays, strict=bool(zeros)) if stay) or quantization.zero_point
    )
    return replace(tensor, quantization=Quantization(scale, zero_point, quantization.axis))

"""Parameters of operators in the types that an Ethos-U takes."""

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator
from mlia.transforms.remedies.local import at_each
from mlia.transforms.rewrites.network import Edit, Network

_PADDING = ("PAD", "PADV2", "MIRROR_PAD")


def parameters_as_int32(graph: Graph) -> Graph:
    """Constant paddings of other integer types as int32.

    Raises:
        TransformError: all are int32 or int64 already, or are computed.
    """
    return at_each(graph, _widened, "no constant paddings have another type")


def _widened(network: Network, found: Operator) -> Edit | None:
    if found.kind not in _PADDING or len(found.inputs) < 2:
        return None
    values = network.constant(found.inputs[1])
    if values is None or values.dtype.kind not in "iu" or values.dtype in (numpy.int32, numpy.int64):
        return None
    edit = Edit(network, found, "paddings are int32")
    wide = edit.constant(network.tensor(found.inputs[1]).name, values.astype(numpy.int32))
    edit.put(found, replace(found, inputs=(found.inputs[0], wide, *found.inputs[2:])))
    return edit

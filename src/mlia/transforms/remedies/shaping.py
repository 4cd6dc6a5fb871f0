"""RESHAPEs that remedies add. The batch may be left open; all other sizes must be known."""

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Operator, Tensor
from mlia.transforms.rewrites.network import Edit, operator


def reshaped(tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """The description of a computed tensor in another shape."""
    signature = (-1, *shape[1:]) if tensor.is_dynamic else ()
    return replace(tensor, name=name, shape=shape, shape_signature=signature)


def reshape(edit: Edit, source: int, output: int, is_open: bool, shape: tuple[int, ...], name: str) -> Operator:
    """A RESHAPE to that shape; with an open batch, to whatever batch there is."""
    sizes = (-1, *shape[1:]) if is_open else shape
    asked = edit.constant(f"{name}/shape", numpy.array(sizes, numpy.int32))
    return operator("RESHAPE", [source, asked], output, "ReshapeOptions", {"new_shape": sizes})

"""Rewrites of TRANSPOSE and RESHAPE. An NPU computes in NHWC and copies all of a tensor to transpose it.

Converters from PyTorch and ONNX put a TRANSPOSE in front of and behind each convolution, because their models
are NCHW; nothing of that is needed where the operators in between do not care about the order of axes.
"""

import math
from collections.abc import Sequence

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Operator, Tensor
from mlia.transforms.rewrites.network import Edit, Network, operator, same_numbers

RESHAPING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def permutation(network: Network, transpose: Operator | None) -> tuple[int, ...] | None:
    """The constant permutation of a TRANSPOSE that changes no numbers; None for anything else."""
    if transpose is None or transpose.kind != "TRANSPOSE":
        return None
    order = network.constant(transpose.inputs[1])
    if order is None or not same_numbers(network.tensor(transpose.inputs[0]), network.tensor(transpose.outputs[0])):
        return None
    return tuple(int(axis) % order.size for axis in order)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(int(axis) for axis in numpy.argsort(order))


def transposed(tensor: Tensor, order: Sequence[int], name: str) -> Tensor:
    """The description of a computed tensor with its axes in another order."""
    signature = tuple(tensor.shape_signature[axis] for axis in order) if tensor.shape_signature else ()
    return replace(tensor, name=name, shape=tuple(tensor.shape[axis] for axis in order), shape_signature=signature)


def merged_transposes(network: Network, second: Operator) -> Edit | None:
    """Two TRANSPOSEs in a row are one; when they cancel, none is left. Each is a copy of the whole tensor."""
    outer = permutation(network, second)
    first = network.maker(second.inputs[0], "TRANSPOSE")
    inner = permutation(network, first)
    if first is None or inner is None or outer is None:
        return None
    order = tuple(inner[axis] for axis in outer)
    source = first.inputs[0]
    if order == tuple(range(len(order))):
        edit = Edit(network, second, f"it undid the TRANSPOSE '{network.name(first)}', so neither is needed here")
        if edit.pass_by(second, source):
            return edit
    if not network.is_private(second.inputs[0]):
        return None
    edit = Edit(network, second, f"joined with the TRANSPOSE '{network.name(first)}' in front of it")
    sizes = edit.constant(f"{network.name(second)}/permutation", numpy.array(order, numpy.int32))
    edit.put(second, replace(second, inputs=(source, sizes)))
    return edit


def transpose_as_reshape(network: Network, transpose: Operator) -> Edit | None:
    """A TRANSPOSE that only moves axes of size 1 becomes a RESHAPE, which an NPU does not execute at all."""
    order = permutation(network, transpose)
    if order is None or order == tuple(range(len(order))):
        return None
    before, after = network.tensor(transpose.inputs[0]), network.tensor(transpose.outputs[0])
    moving = [axis for axis in order if before.shape[axis] != 1]
    if moving != sorted(moving) or after.is_dynamic:
        return None
    edit = Edit(network, transpose, "the TRANSPOSE only moved axes of size 1: now a RESHAPE")
    edit.put(transpose, _reshape(edit, transpose.inputs[0], transpose.outputs[0], after))
    return edit


def merged_reshapes(network: Network, second: Operator) -> Edit | None:
    """Of RESHAPEs in a row (SQUEEZE and EXPAND_DIMS are such) the last one is enough: one operator less."""
    first = network.maker(second.inputs[0], *RESHAPING) if second.kind in RESHAPING else None
    if first is None or (first.inputs[0] in network.subgraph.inputs and network.tensor(first.inputs[0]).is_dynamic):
        return None
    before, between = network.tensor(first.inputs[0]), network.tensor(first.outputs[0])
    after = network.tensor(second.outputs[0])
    if before.is_dynamic or between.is_dynamic or after.is_dynamic or before.is_constant:
        return None
    if not (same_numbers(before, between) and same_numbers(between, after)):
        return None
    if not network.is_private(second.inputs[0]) and before.shape != after.shape:
        return None
    edit = Edit(network, second, f"joined with the {first.kind} '{network.name(first)}' in front of it")
    edit.put(second, _reshape(edit, first.inputs[0], second.outputs[0], after))
    return edit


def _reshape(edit: Edit, source: int, output: int, after: Tensor) -> Operator:
    sizes = edit.constant(f"{after.name}/shape", numpy.array(after.shape, numpy.int32))
    return operator("RESHAPE", [source, sizes], output, "ReshapeOptions", {"new_shape": after.shape})


def transpose_into_weights(network: Network, transpose: Operator) -> Edit | None:
    """A TRANSPOSE in front of RESHAPE and FULLY_CONNECTED becomes another order of the constant weights.

    Models in NCHW flatten in that order; the columns of the weights can be sorted instead of the activations.
    """
    order = permutation(network, transpose)
    found = flattened(network, transpose.outputs[0]) if order is not None else None
    if order is None or found is None:
        return None
    before = network.tensor(transpose.inputs[0])
    reshape, dense = found
    weights = network.constant(dense.inputs[1])
    assert weights is not None  # flattened() found it
    positions = numpy.arange(before.elements).reshape(before.shape).transpose(order).reshape(-1)
    if before.elements != weights.shape[1]:  # several rows, each sorted alike
        if order[0] != 0:
            return None
        positions = positions[: weights.shape[1]]
    edit = Edit(network, transpose, f"the weights of '{network.name(dense)}' are in that order instead")
    sorted_weights = numpy.empty_like(weights)
    sorted_weights[:, positions] = weights
    old = network.tensor(dense.inputs[1])
    index = edit.constant(old.name, sorted_weights, old.quantization)
    edit.put(transpose)
    edit.put(reshape, replace(reshape, inputs=(transpose.inputs[0], *reshape.inputs[1:])))
    edit.put(dense, replace(dense, inputs=(dense.inputs[0], index, *dense.inputs[2:])))
    return edit


def flattened(network: Network, index: int) -> tuple[Operator, Operator] | None:
    """The RESHAPE to rows and the FULLY_CONNECTED with constant weights that alone read a tensor."""
    tensor = network.tensor(index)
    if not network.is_private(index) or tensor.is_dynamic:
        return None
    (reshape,) = network.readers(index)
    if reshape.kind != "RESHAPE" or not network.is_private(reshape.outputs[0]):
        return None
    (dense,) = network.readers(reshape.outputs[0])
    if dense.kind != "FULLY_CONNECTED" or dense.inputs[0] != reshape.outputs[0]:
        return None
    weights = network.constant(dense.inputs[1])
    quantization = network.tensor(dense.inputs[1]).quantization
    if weights is None or (quantization and len(quantization.scale) > 1 and quantization.axis != 0):
        return None
    depth = math.prod(tensor.shape[1:])
    rows = network.tensor(reshape.outputs[0]).shape
    is_row = weights.shape[1] in (depth, tensor.elements) and rows[-1] == weights.shape[1]
    return (reshape, dense) if is_row else None

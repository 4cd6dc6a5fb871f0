"""Sizes and parameters of run time as constants, and a batch of one. These run LiteRT, in a child process."""

from collections.abc import Callable

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.child import call
from mlia.transforms.interpreter import infer_shapes
from mlia.transforms.remedies.applying import apply_rewrites
from mlia.transforms.rewrites.folding import folded_constants, folded_shape
from mlia.transforms.rewrites.rewrite import Rule, fixed_batch, local


def with_sizes_known(graph: Graph) -> Graph:
    """The batch fixed to 1, and all sizes and parameters that follow from it as constants.

    Raises:
        TransformError: nothing is open, or more than the batch.
    """
    return _in_child(graph, _sizes_known)


def with_constants_folded(graph: Graph) -> Graph:
    """What is computed from constants, or from sizes that are known, as constants.

    Raises:
        TransformError: nothing is computed from constants.
    """
    return _in_child(graph, _constants_folded)


def _in_child(graph: Graph, function: Callable[[bytes], bytes]) -> Graph:
    made = call(function, write_tflite(graph))
    return replace(read_tflite(made), provenance=graph.provenance)


def _sizes_known(content: bytes) -> bytes:
    return _applied(content, fixed_batch, local(folded_shape), local(folded_constants))


def _constants_folded(content: bytes) -> bytes:
    return _applied(content, local(folded_shape), local(folded_constants))


def _applied(content: bytes, *rules: Rule) -> bytes:
    return write_tflite(apply_rewrites(read_tflite(content), *rules))


def batch_of_one(graph: Graph) -> Graph:
    """The model for one sample at a time.

    Raises:
        TransformError: the inputs have no batch above 1 in common, or LiteRT cannot run the model with a batch of 1.
    """
    main = graph.main
    inputs = [main.tensors[index] for index in main.inputs]
    batches = {tensor.shape[0] for tensor in inputs if tensor.shape}
    if len(batches) != 1 or max(batches) < 2:
        raise TransformError("the inputs have no batch above 1 in common")
    (batch,) = batches
    tensors = list(main.tensors)
    for index, tensor in enumerate(tensors):
        if not tensor.is_constant and tensor.shape and tensor.shape[0] == batch and not tensor.is_variable:
            tensors[index] = replace(tensor, shape=(1, *tensor.shape[1:]))
    operators = []
    for found in main.operators:
        if found.kind == "RESHAPE":
            wanted = found.options.get("new_shape")
            if isinstance(wanted, tuple) and wanted and wanted[0] == batch:
                found = replace(found, options={**found.options, "new_shape": (1, *wanted[1:])})
            for index in found.inputs[1:]:
                tensors[index] = _with_batch(tensors[index], batch)
        operators.append(found)
    single = replace(main, tensors=tuple(tensors), operators=tuple(operators))
    changed = replace(graph, subgraphs=(single, *graph.subgraphs[1:]))
    shapes = call(infer_shapes, write_tflite(changed), [tensors[index].shape for index in main.inputs])
    for found in single.operators:
        for index in found.outputs:
            if shapes.get(index, tensors[index].shape) != tensors[index].shape:
                raise TransformError(f"the batch is not the first size of '{tensors[index].name}'")
    return changed


def _with_batch(tensor: Tensor, batch: int) -> Tensor:
    """The sizes that a RESHAPE asks for, with the batch 1."""
    if tensor.dtype != "int32" or not tensor.is_constant:
        return tensor
    values = numpy.frombuffer(tensor.data, numpy.int32).copy()
    if not values.size or values[0] != batch:
        return tensor
    values[0] = 1
    return replace(tensor, data=memoryview(values.tobytes()))

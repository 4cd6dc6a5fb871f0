"""The constants of a graph as numpy arrays, and a graph with others in their place."""

from collections.abc import Mapping

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Array


def stored(tensor: Tensor) -> Array:
    """What the tensor stores, in its shape and type: the codes of a quantized one.

    Raises:
        TransformError: it stores fewer numbers than its shape has.
    """
    import numpy

    values = numpy.frombuffer(tensor.data, tensor.dtype)[: tensor.elements]
    if len(values) < tensor.elements:
        raise TransformError(f"'{tensor.name}' stores {len(values):,} of its {tensor.elements:,} numbers")
    return values.reshape(tensor.shape)


def real(tensor: Tensor) -> Array:
    """What the tensor means, as float32: scale * (stored - zero_point), per tensor or along an axis."""
    import numpy

    values = stored(tensor).astype(numpy.float32)
    if tensor.quantization is None:
        return values
    zero_point = numpy.array(tensor.quantization.zero_point or (0,), numpy.float32)
    if len(zero_point) > 1:
        zero_point = along(zero_point, tensor, tensor.quantization.axis)
    return (values - zero_point) * scales(tensor.quantization, tensor)


def scales(quantization: Quantization, tensor: Tensor) -> Array:
    """The scales in a shape that broadcasts over the tensor's."""
    import numpy

    values = numpy.array(quantization.scale, numpy.float32)
    return along(values, tensor, quantization.axis) if len(values) > 1 else values.reshape(())


def along(values: Array, tensor: Tensor, axis: int) -> Array:
    """One value per index of an axis, in a shape that broadcasts over the tensor's."""
    shape = [1] * len(tensor.shape)
    shape[axis] = -1
    return values.reshape(shape)


def as_data(array: Array) -> memoryview:
    """An array as the bytes of a tensor."""
    import numpy

    return memoryview(numpy.ascontiguousarray(array).tobytes())


def with_constants(graph: Graph, contents: Mapping[int, Array]) -> Graph:
    """The graph with other contents of these constants of its main subgraph, by index; types and shapes stay."""
    return reread(patched(graph, contents))


def patched(graph: Graph, contents: Mapping[int, Array]) -> Graph:
    """Like with_constants, but the graph's file is still the old one: for models on the way to others."""
    tensors = list(graph.main.tensors)
    for index, array in contents.items():
        assert array.shape == tensors[index].shape
        tensors[index] = replace(tensors[index], data=as_data(array.astype(tensors[index].dtype)))
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)), *graph.subgraphs[1:]))


def reread(graph: Graph) -> Graph:
    """The graph with the TFLite file that belongs to it."""
    return replace(read_tflite(write_tflite(graph)), provenance=graph.provenance)

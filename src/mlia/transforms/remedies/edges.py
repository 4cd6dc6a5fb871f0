"""Inputs and outputs of a model in the integers that it computes in, instead of float32 or uint8."""

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.transforms.rewrites.network import Edit, Network, named_outside, same_numbers


def integer_ends(graph: Graph) -> Graph:
    """Inputs that are only quantized, and outputs that are only dequantized, in integers. Names stay.

    Raises:
        TransformError: no input or output is like that.
    """
    changed = graph
    for index in graph.main.inputs:
        changed = _integer_input(changed, index)
    for index in graph.main.outputs:
        changed = _integer_output(changed, index)
    if changed is graph:
        raise TransformError("no input is only quantized, and no output only dequantized")
    return changed


def signed_ends(graph: Graph) -> Graph:
    """Inputs in uint8 that are only brought to int8, and outputs the other way, in int8. Names stay.

    Raises:
        TransformError: no input or output is like that.
    """
    changed = graph
    for index in graph.main.inputs:
        changed = _integer_input(changed, index, "uint8")
    for index in graph.main.outputs:
        changed = _integer_output(changed, index, "QUANTIZE", "uint8")
    if changed is graph:
        raise TransformError("no input in uint8 is only brought to int8, and no output in int8 to uint8")
    return changed


def _integer_input(graph: Graph, index: int, dtype: str = "float32") -> Graph:
    network = Network(graph.main, named_outside(graph))
    readers = network.readers(index)
    tensor = network.tensor(index)
    if tensor.dtype != dtype or not readers or index in graph.main.outputs:
        return graph
    if any(reader.kind != "QUANTIZE" or {*reader.outputs} & network.seen for reader in readers):
        return graph
    first = network.tensor(readers[0].outputs[0])
    if any(not same_numbers(network.tensor(reader.outputs[0]), first) for reader in readers):
        return graph
    if dtype == "uint8" and first.dtype != "int8":
        return graph
    edit = Edit(network, readers[0], "an input in integers")
    edit.set_tensor(index, replace(tensor, dtype=first.dtype, quantization=first.quantization))
    for reader in readers:
        edit.put(reader)
        edit.read_instead(reader.outputs[0], index)
    return replace(graph, subgraphs=(edit.result(), *graph.subgraphs[1:]))


def _integer_output(graph: Graph, index: int, kind: str = "DEQUANTIZE", dtype: str = "float32") -> Graph:
    network = Network(graph.main, named_outside(graph))
    found = network.maker(index, kind)
    if found is None or network.readers(index) or network.maker(found.inputs[0]) is None:
        return graph
    source, tensor = network.tensor(found.inputs[0]), network.tensor(index)
    if dtype == "uint8" and (source.dtype, tensor.dtype) != ("int8", dtype):
        return graph
    edit = Edit(network, found, "an output in integers")
    edit.set_tensor(index, replace(tensor, dtype=source.dtype, quantization=source.quantization))
    if not edit.pass_by(found, found.inputs[0]):
        return graph
    return replace(graph, subgraphs=(edit.result(), *graph.subgraphs[1:]))

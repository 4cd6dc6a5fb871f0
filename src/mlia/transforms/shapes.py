"""Sizes that a TFLite model leaves open, fixed to what the user gives."""

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, InputShapes, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.child import call
from mlia.transforms.interpreter import infer_shapes


def with_input_shapes(graph: Graph, shapes: InputShapes) -> Graph:
    """The graph for inputs of these shapes; LiteRT infers the shapes of all other tensors.

    Raises:
        TransformError: no such input, a size that the model does not leave open, or shapes that do not work.
    """
    main = graph.main
    inputs = [main.tensors[index] for index in main.inputs]
    names = [tensor.name for tensor in inputs]
    for name in shapes:
        if name not in names and (name or len(names) > 1):
            raise TransformError(f"the model has no input '{name}': name one of {', '.join(names)}")
    wanted = [_shape_of(tensor, shapes) for tensor in inputs]
    try:
        found = call(infer_shapes, graph.file, wanted)
    except TransformError:
        # What stops LiteRT may be an operator that it has no kernel for; the file has sizes for its own inputs.
        is_stored = [tensor.shape for tensor in inputs] == wanted
        if not is_stored or not any(operator.kind == "CUSTOM" for operator in main.operators):
            raise
        found = {}
    tensors = tuple(
        replace(tensor, shape=found.get(index, tensor.shape), shape_signature=())
        for index, tensor in enumerate(main.tensors)
    )
    fixed = replace(graph, subgraphs=(replace(main, tensors=tensors), *graph.subgraphs[1:]))
    return replace(read_tflite(write_tflite(fixed)), provenance=graph.provenance)


def _shape_of(tensor: Tensor, shapes: InputShapes) -> tuple[int, ...]:
    wanted = shapes.get(tensor.name, shapes.get("", tensor.shape))
    fixed = tensor.shape_signature or tensor.shape
    if len(wanted) != len(fixed) or any(size not in (-1, want) for size, want in zip(fixed, wanted, strict=True)):
        open_shape = "x".join("?" if size == -1 else str(size) for size in fixed)
        given = "x".join(map(str, wanted))
        raise TransformError(f"the input '{tensor.name}' is {open_shape} and cannot be {given}")
    return tuple(wanted)

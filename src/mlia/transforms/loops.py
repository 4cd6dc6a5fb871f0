"""Recurrent layers of TFLite files in the form that quantizers take: loops unrolled, and LSTMs with room for ranges.

1. A WHILE whose file says how often it runs becomes that many copies of its body. What follows from constants alone,
   the counters and the first step from a state of zeros, is computed once, by LiteRT. Products with zeros are left out,
   because a tensor of nothing but zeros gets a scale that says nothing.
2. A fused LSTM in float gets the intermediate tensors in which a quantizer notes the ranges of its gates. Converters
   leave them out of files in float, and a quantizer that misses them leaves the LSTM in float.
"""

from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.graph.loops import trip_count
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.child import call
from mlia.transforms.constants import as_data, reread, stored

MOST_OPERATORS = 4096  # of one unrolled loop: more would no longer be a model for a microcontroller
_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_RANGES = 5  # the sums of the four gates, and the hidden state
_ACTING = ("CUSTOM", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


def ready_to_quantize(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The same model with loops unrolled and LSTMs completed, and what was done; the same graph when nothing was.

    Raises:
        TransformError: LiteRT cannot compute what follows from constants.
    """
    changes: list[str] = []
    made = _with_ranges(graph)
    while True:
        found = next(((loop, runs) for loop in made.operators if (runs := _unrollable(made, loop))), None)
        if found is None:
            break
        loop, runs = found
        made = _without_zeros(_folded(_unrolled(made, loop, runs)))
        changes.append(f"a WHILE unrolled into {runs} steps")
    if made is graph:
        return graph, ()
    if not any(operator.called for operator in made.operators):  # only loops of the main subgraph have been unrolled
        made = replace(
            made, subgraphs=made.subgraphs[:1], signatures=tuple(s for s in made.signatures if not s.subgraph)
        )
    return reread(made), tuple(changes)


def _with_ranges(graph: Graph) -> Graph:
    tensors, operators = list(graph.main.tensors), list(graph.operators)
    for place, found in enumerate(operators):
        if found.kind == _LSTM and not found.intermediates and tensors[found.outputs[0]].dtype == "float32":
            notes = range(len(tensors), len(tensors) + _RANGES)
            name = graph.main.operator_name(found)
            tensors += (Tensor(f"{name}/range_{number}", (1,), "float32") for number in range(_RANGES))
            operators[place] = replace(found, intermediates=tuple(notes))
    if len(tensors) == len(graph.main.tensors):
        return graph
    return _with_main(graph, replace(graph.main, tensors=tuple(tensors), operators=tuple(operators)))


def _unrollable(graph: Graph, loop: Operator) -> int:
    """How many steps a loop has, 0 where it stays a loop."""
    runs = trip_count(graph, graph.main, loop) or 0
    body = graph.subgraphs[loop.called[1]] if runs else None
    if body is None or runs * len(body.operators) > MOST_OPERATORS:
        return 0
    return 0 if any(each.called or each.kind in _ACTING for each in body.operators) else runs


def _unrolled(graph: Graph, loop: Operator, runs: int) -> Graph:
    """The main subgraph with copies of the loop's body in its place."""
    main, body = graph.main, graph.subgraphs[loop.called[1]]
    tensors, copies = list(main.tensors), list[Operator]()
    shared: dict[int, int] = {}
    for index, tensor in enumerate(body.tensors):
        if tensor.is_constant and index not in body.inputs:
            shared[index] = len(tensors)
            tensors.append(tensor)
    values = list(loop.inputs)
    for step in range(runs):
        place = {**shared, -1: -1, **dict(zip(body.inputs, values, strict=True))}
        for found in body.operators:
            for index in (*found.outputs, *found.intermediates):
                tensor = body.tensors[index]
                place[index] = len(tensors)
                tensors.append(replace(tensor, name=f"{tensor.name}/step_{step}"))
            ends = (
                tuple(place[index] for index in part) for part in (found.inputs, found.outputs, found.intermediates)
            )
            inputs, outputs, intermediates = ends
            if found.kind == "FULLY_CONNECTED" and inputs[2:] and inputs[2] in shared.values():
                # A bias is quantized by the scale of its operator's input, which each step has of its own.
                bias = tensors[inputs[2]]
                inputs = (*inputs[:2], len(tensors))
                tensors.append(replace(bias, name=f"{bias.name}/step_{step}", data=memoryview(bytes(bias.data))))
            copies.append(replace(found, inputs=inputs, outputs=outputs, intermediates=intermediates))
        values = [place[index] for index in body.outputs]
    instead = dict(zip(loop.outputs, values, strict=True))
    operators = [*main.operators[: loop.index], *copies, *main.operators[loop.index + 1 :]]
    return _with_main(graph, _redirected(replace(main, tensors=tuple(tensors)), operators, instead), instead)


def _folded(graph: Graph) -> Graph:
    """With constants for all that is computed from constants, and a slice for each GATHER of one place."""
    main = graph.main
    fixed = {index for index, tensor in enumerate(main.tensors) if tensor.is_constant} | {-1}
    lone, rest = list[Operator](), list[Operator]()
    for found in main.operators:
        is_fixed = {*found.inputs} <= fixed and not found.called and found.kind not in _ACTING
        (lone if is_fixed else rest).append(found)
        fixed |= {*found.outputs} if is_fixed else set()
    read = {index for found in rest for index in found.inputs} | {*main.outputs}
    wanted = [index for found in lone for index in found.outputs if index in read]
    tensors = list(main.tensors)
    if wanted:
        part = replace(main, operators=_numbered(lone), inputs=(), outputs=tuple(wanted))
        for index, values in zip(wanted, call(computed, write_tflite(_used(Graph((part,))))), strict=True):
            tensors[index] = Tensor(tensors[index].name, values.shape, values.dtype.name, data=as_data(values))
    rest = [_sliced(found, tensors) for found in rest]
    main = replace(main, tensors=tuple(tensors), operators=_numbered(rest))
    needed = main.needed_operators()  # a step may give what only a caller of the last one would read
    kept = [found for found in main.operators if found.index in needed]
    return _with_main(graph, replace(main, operators=_numbered(kept)))


def _without_zeros(graph: Graph) -> Graph:
    """Without products with a constant of zeros, and sums with what these would have been."""
    main = graph.main
    tensors, kept = list(main.tensors), list[Operator]()
    instead: dict[int, int] = {}
    zeros = {
        index
        for index, each in enumerate(tensors)
        if each.is_constant and each.dtype == "float32" and not any(each.data.cast("B"))
    }
    for found in main.operators:
        inputs = tuple(instead.get(index, index) for index in found.inputs)
        output = found.outputs[0] if found.outputs else -1
        zero = [index for index in inputs if index in zeros]
        is_plain = found.options.get("fused_activation_function", "NONE") == "NONE" and output not in main.outputs
        if zero and is_plain and found.kind == "MUL":
            size = 4 * tensors[output].elements
            tensors[output] = replace(tensors[output], data=memoryview(bytes(size)))
            zeros.add(output)
        elif zero and is_plain and (found.kind == "ADD" or (found.kind == "SUB" and inputs[1] in zeros)):
            other = inputs[0] if inputs[1] in zeros else inputs[1]
            if tensors[other].shape == tensors[output].shape:
                instead[output] = other
                continue
            kept.append(replace(found, inputs=inputs))
        else:
            kept.append(replace(found, inputs=inputs))
    main = replace(main, tensors=tuple(tensors), operators=_numbered(kept))
    needed = main.needed_operators()
    return _with_main(
        graph, replace(main, operators=_numbered([each for each in main.operators if each.index in needed]))
    )


def computed(content: bytes) -> list[Array]:
    """What a model without inputs computes. For child processes."""
    from mlia.transforms.interpreter import ReferenceModel

    return ReferenceModel(content).run(())


def _sliced(found: Operator, tensors: list[Tensor]) -> Operator:
    """GATHER of one constant place as STRIDED_SLICE, which an NPU has and quantizers know."""
    import numpy

    if found.kind != "GATHER" or found.number("batch_dims") or not tensors[found.inputs[1]].is_constant:
        return found
    source, places = tensors[found.inputs[0]], stored(tensors[found.inputs[1]])
    axis, rank = found.number("axis"), len(source.shape)
    axis += rank if axis < 0 else 0
    if places.shape != () or not 0 <= axis < rank or not 0 <= int(places) < source.shape[axis]:
        return found
    begin, end = numpy.zeros(rank, numpy.int32), numpy.array(source.shape, numpy.int32)
    begin[axis], end[axis] = int(places), int(places) + 1
    name, first = tensors[found.outputs[0]].name, len(tensors)
    for what, values in (("begin", begin), ("end", end), ("steps", numpy.ones(rank, numpy.int32))):
        tensors.append(Tensor(f"{name}/{what}", (rank,), "int32", data=as_data(values)))
    return Operator(
        found.index, "STRIDED_SLICE", (found.inputs[0], first, first + 1, first + 2), found.outputs,
        {"shrink_axis_mask": 1 << axis}, "StridedSliceOptions",
    )  # fmt: skip


def _redirected(subgraph: Subgraph, operators: list[Operator], instead: dict[int, int]) -> Subgraph:
    moved = [replace(found, inputs=tuple(instead.get(index, index) for index in found.inputs)) for found in operators]
    outputs = tuple(instead.get(index, index) for index in subgraph.outputs)
    return replace(subgraph, operators=_numbered(moved), outputs=outputs)


def _numbered(operators: list[Operator]) -> tuple[Operator, ...]:
    return tuple(replace(found, index=number) for number, found in enumerate(operators))


def _with_main(graph: Graph, main: Subgraph, instead: dict[int, int] | None = None) -> Graph:
    """With another main subgraph, of which only the tensors in use are kept."""
    moved = instead or {}
    signatures = tuple(
        signature
        if signature.subgraph
        else replace(signature, outputs={name: moved.get(index, index) for name, index in signature.outputs.items()})
        for signature in graph.signatures
    )
    return _used(replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=signatures))


def _used(graph: Graph) -> Graph:
    from mlia.transforms.rewrites.network import without_unused_tensors

    return without_unused_tensors(graph)

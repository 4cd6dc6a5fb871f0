"""State that a model keeps in resource variables, as inputs and outputs that its caller keeps."""

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Subgraph

VARIABLE_KINDS = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


def variable_names(graph: Graph) -> dict[int, str]:
    """The name of the variable that each handle of the main subgraph stands for."""
    return {
        operator.outputs[0]: f"{operator.options.get('container', '')}{operator.options.get('shared_name', '')}"
        for operator in graph.operators
        if operator.kind == "VAR_HANDLE" and operator.outputs
    }


def state_outside(graph: Graph) -> Graph:
    """The graph with an input for each variable that it reads and an output for each that it writes.

    The caller gives the outputs of one inference as inputs to the next, and at first what CALL_ONCE had set.

    Raises:
        TransformError: there are no variables, or other subgraphs use them too.
    """
    names = variable_names(graph)
    acting = [operator for operator in graph.operators if operator.kind in ("READ_VARIABLE", "ASSIGN_VARIABLE")]
    if not acting:
        raise TransformError("the model has no variables")
    first = {operator.number("init_subgraph_index", -1) for operator in graph.operators if operator.kind == "CALL_ONCE"}
    for subgraph in graph.subgraphs[1:]:
        uses = any(operator.kind in VARIABLE_KINDS for operator in subgraph.operators)
        if uses and subgraph.index not in first:
            raise TransformError(f"the subgraph '{subgraph.name}' uses variables too")
    if any(not operator.inputs or operator.inputs[0] not in names for operator in acting):
        raise TransformError("a variable's handle comes from somewhere else")
    return _externalized(graph, names)


def _externalized(graph: Graph, names: dict[int, str]) -> Graph:
    main = graph.main
    tensors = list(main.tensors)
    current: dict[str, int] = {}
    instead: dict[int, int] = {}
    inputs, given = list(main.inputs), {}
    written: dict[str, int] = {}
    kept: list[Operator] = []
    for operator in main.operators:
        if operator.kind in ("VAR_HANDLE", "CALL_ONCE"):
            continue
        sources = tuple(instead.get(index, index) for index in operator.inputs)
        if operator.kind == "READ_VARIABLE" and operator.outputs:
            name, (output, *_) = names[operator.inputs[0]], operator.outputs
            if name not in current:
                current[name], given[name] = output, output
                inputs.append(output)
                tensors[output] = replace(tensors[output], name=f"{name}/before")
            else:
                instead[output] = current[name]
        elif operator.kind == "ASSIGN_VARIABLE" and len(sources) > 1:
            name = names[operator.inputs[0]]
            current[name] = written[name] = sources[1]
        else:
            kept.append(replace(operator, index=len(kept), inputs=sources))
    made = {index for operator in kept for index in operator.outputs}
    if any(index not in made for index in written.values()):
        raise TransformError("a variable is set to what no operator computes")
    outputs = [instead.get(index, index) for index in main.outputs]
    outputs += [index for index in dict.fromkeys(written.values()) if index not in outputs]
    changed = replace(main, tensors=tuple(tensors), operators=tuple(kept), inputs=tuple(inputs), outputs=tuple(outputs))
    signatures = tuple(
        replace(
            signature,
            inputs={**signature.inputs, **{f"{name}/before": index for name, index in given.items()}},
            outputs={
                **{key: instead.get(index, index) for key, index in signature.outputs.items()},
                **{f"{name}/after": index for name, index in written.items()},
            },
        )
        if signature.subgraph == main.index
        else signature
        for signature in graph.signatures
    )
    return replace(graph, subgraphs=(changed, *_still_called(graph, kept)), signatures=signatures)


def _still_called(graph: Graph, kept: list[Operator]) -> tuple[Subgraph, ...]:
    """The further subgraphs: none when only CALL_ONCE had called them."""
    calls = any(operator.kind in ("WHILE", "IF", "CALL") for operator in kept)
    return graph.subgraphs[1:] if calls else ()

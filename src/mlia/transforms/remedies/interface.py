"""Changes at the ends of a model: what its callers feed and read."""

from contextlib import suppress

from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator
from mlia.transforms.remedies.applying import without_transposes
from mlia.transforms.rewrites.layout import inverse, permutation, transposed
from mlia.transforms.rewrites.network import Edit, Network, without_unused_tensors


def in_nhwc(graph: Graph) -> Graph:
    """The graph with fewer TRANSPOSEs, and none at its inputs and outputs.

    Raises:
        TransformError: no input or output is only transposed.
    """
    with suppress(TransformError):  # those at the ends may be the only ones
        graph = without_transposes(graph)
    return with_inputs_transposed(graph)


def with_inputs_transposed(graph: Graph) -> Graph:
    """Inputs and outputs that are only transposed, in the order that the operators inside work in.

    Raises:
        TransformError: no input or output is only transposed.
    """
    changed = graph
    for index in graph.main.inputs:
        network = Network(changed.main)
        readers = network.readers(index)
        orders = {permutation(network, reader) for reader in readers}
        order = next(iter(orders)) if len(orders) == 1 else None
        if order is None or index in graph.main.outputs:
            continue
        if any({*reader.outputs} & {*graph.main.outputs} for reader in readers):
            continue
        tensor = network.tensor(index)
        edit = Edit(network, readers[0], "the input is in that order")
        edit.set_tensor(index, transposed(tensor, order, tensor.name))
        for reader in readers:
            edit.put(reader)
            edit.read_instead(reader.outputs[0], index)
        changed = replace(changed, subgraphs=(edit.result(), *changed.subgraphs[1:]))
    for index in graph.main.outputs:
        network = Network(changed.main)
        maker = network.maker(index, "TRANSPOSE")
        order = permutation(network, maker)
        if maker is None or order is None or network.readers(index) or not network.is_private(maker.inputs[0]):
            continue
        edit = Edit(network, maker, "the output is in that order")
        tensor = network.tensor(index)
        edit.set_tensor(index, transposed(tensor, inverse(order), tensor.name))
        if edit.pass_by(maker, maker.inputs[0]):
            changed = replace(changed, subgraphs=(edit.result(), *changed.subgraphs[1:]))
    if changed is graph:
        raise TransformError("no input or output is only transposed")
    return without_unused_tensors(changed)


def final_softmax(graph: Graph) -> list[Operator]:
    """The SOFTMAXes whose results are only outputs of the model."""
    network = Network(graph.main)
    return [
        found
        for found in graph.operators
        if found.kind == "SOFTMAX"
        and found.outputs[0] in graph.main.outputs
        and not network.readers(found.outputs[0])
        and found.inputs[0] not in network.seen
        and network.maker(found.inputs[0]) is not None
    ]


def without_final_softmax(graph: Graph) -> Graph:
    """The model without its last SOFTMAX: its output is what that read.

    Raises:
        TransformError: no output is made by a SOFTMAX.
    """
    found = final_softmax(graph)
    if not found:
        raise TransformError("no output of the model is made by a SOFTMAX")
    instead = {operator.outputs[0]: operator.inputs[0] for operator in found}
    main = graph.main
    kept = [operator for operator in main.operators if operator not in found]
    changed = replace(
        main,
        operators=tuple(replace(operator, index=index) for index, operator in enumerate(kept)),
        outputs=tuple(instead.get(index, index) for index in main.outputs),
    )
    signatures = tuple(
        replace(signature, outputs={name: instead.get(index, index) for name, index in signature.outputs.items()})
        if signature.subgraph == main.index
        else signature
        for signature in graph.signatures
    )
    return without_unused_tensors(replace(graph, subgraphs=(changed, *graph.subgraphs[1:]), signatures=signatures))

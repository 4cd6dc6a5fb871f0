"""What flows into each operator of a model, advanced operator by operator. For child processes only.

A model whose weights change on the way is run once, not once for each operator: what is behind stays computed.
"""

from collections.abc import Sequence

import numpy
from msgspec.structs import replace

from mlia.graph.graph import ACTING, Graph, Operator, Tensor
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import Model, samples_of


def has_state(graph: Graph) -> bool:
    """Whether what an operator computes depends on more than its inputs, so that a model cannot be cut."""
    variable = any(tensor.is_variable for tensor in graph.main.tensors)
    return variable or len(graph.subgraphs) > 1 or any(operator.kind in ACTING for operator in graph.operators)


class Stream:
    """The activations of a model without state for some samples, as far as it has been advanced.

    `stacks` are the samples in real numbers, an array per input of the model, (samples, *shape).
    """

    def __init__(self, graph: Graph, stacks: Sequence[Array]) -> None:
        self._values = dict(zip(graph.main.inputs, stacks, strict=True))
        self._next = 0

    def input_of(self, graph: Graph, operator: Operator) -> Array:
        """The operator's first input for all samples in real numbers, (samples, *shape).

        The graph may differ from the last one in constants of operators that have not been passed.
        """
        if operator.index > self._next:
            self._advance(graph, operator.index)
        return self._values[operator.inputs[0]]

    def _advance(self, graph: Graph, until: int) -> None:
        passed, ahead = graph.operators[self._next : until], graph.operators[until:]
        made = {index for operator in passed for index in operator.outputs}
        read = {index for operator in passed for index in operator.inputs if index >= 0}
        awaited = {*graph.main.outputs, *(index for operator in ahead for index in operator.inputs)}
        inputs = tuple(sorted(index for index in read - made if not graph.main.tensors[index].is_constant))
        outputs = tuple(sorted(made & awaited))
        model = Model(_part(graph, passed, inputs, outputs))
        found: list[list[Array]] = [[] for _ in outputs]
        for sample in samples_of([self._values[index] for index in inputs]):
            model.run(sample)
            for position in range(len(outputs)):
                found[position].append(model.output(position).astype(numpy.float32))
        for index, arrays in zip(outputs, found, strict=True):
            self._values[index] = numpy.stack(arrays)
        self._values = {index: values for index, values in self._values.items() if index in awaited}
        self._next = until


def _part(graph: Graph, operators: tuple[Operator, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
    """Some operators as a model of their own, with the indexes of tensors that they had."""
    used = {index for operator in operators for index in (*operator.inputs, *operator.outputs)}
    tensors = tuple(
        tensor if index in used else Tensor(tensor.name, (), tensor.dtype)
        for index, tensor in enumerate(graph.main.tensors)
    )
    renumbered = tuple(replace(operator, index=index) for index, operator in enumerate(operators))
    part = replace(graph.main, tensors=tensors, operators=renumbered, inputs=inputs, outputs=outputs)
    return write_tflite(replace(graph, subgraphs=(part,), signatures=(), metadata={}))

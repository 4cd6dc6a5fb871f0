"""A subgraph that is being rewritten: who makes and who reads each tensor, and an edit that gives the next one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy
from msgspec.structs import replace

from mlia.graph.graph import ACTING, Graph, Operator, OptionValue, Quantization, Subgraph, Tensor
from mlia.transforms.calibration import Array

ACTIVATION = "fused_activation_function"
NONE = "NONE"


class Network:
    """A subgraph with its connections. `seen` are the tensors that are known outside of it, by index."""

    def __init__(self, subgraph: Subgraph, seen: Iterable[int] = ()) -> None:
        self.subgraph = subgraph
        self.operators = subgraph.operators
        variables = (index for index, tensor in enumerate(subgraph.tensors) if tensor.is_variable)
        self.seen = frozenset((*subgraph.inputs, *subgraph.outputs, *seen, *variables))
        self._makers = {index: operator for operator in subgraph.operators for index in operator.outputs}
        self._readers: dict[int, list[Operator]] = {}
        for operator in subgraph.operators:
            for index in dict.fromkeys(operator.inputs):
                self._readers.setdefault(index, []).append(operator)

    def tensor(self, index: int) -> Tensor:
        """The tensor with that index, which must not be an optional one left out."""
        return self.subgraph.tensors[index]

    def maker(self, index: int, *kinds: str) -> Operator | None:
        """The operator that computes a tensor, if it is one of these kinds; of any kind when none is named."""
        made = self._makers.get(index)
        return made if made is not None and (not kinds or made.kind in kinds) else None

    def readers(self, index: int) -> list[Operator]:
        """The operators that read a tensor, each once, in execution order."""
        return self._readers.get(index, [])

    def is_private(self, index: int) -> bool:
        """Whether one operator alone reads the tensor and nobody outside knows it."""
        return index not in self.seen and len(self.readers(index)) == 1

    def constant(self, index: int) -> Array | None:
        """A constant as it is stored; None for what is computed, left out, sparse, or of an odd type."""
        if index < 0:
            return None
        tensor = self.tensor(index)
        if not tensor.is_constant or tensor.is_sparse or tensor.is_variable:
            return None
        try:
            values = numpy.frombuffer(tensor.data, tensor.dtype)
        except TypeError:  # a type of fewer than 8 bits
            return None
        return values[: tensor.elements].reshape(tensor.shape)

    def real(self, index: int) -> Array | None:
        """A constant in real numbers (float64); None as above, and for scales per channel."""
        values = self.constant(index)
        if values is None:
            return None
        quantization = self.tensor(index).quantization
        if quantization is None:
            return values.astype(numpy.float64)
        if len(quantization.scale) != 1:
            return None
        return (values.astype(numpy.float64) - (*quantization.zero_point, 0)[0]) * quantization.scale[0]

    def is_float(self, operator: Operator) -> bool:
        """Whether an operator reads and writes float32 only, apart from integer parameters such as axes."""
        computed = [self.tensor(index) for index in (*operator.inputs, *operator.outputs) if index >= 0]
        first = self.tensor(operator.inputs[0])
        return first.dtype == "float32" and all(tensor.quantization is None for tensor in computed)

    def name(self, operator: Operator) -> str:
        """What the report calls an operator."""
        return self.subgraph.operator_name(operator)


def named_outside(graph: Graph) -> set[int]:
    """Tensors of the main subgraph that signatures name."""
    ours = [signature for signature in graph.signatures if signature.subgraph == graph.main.index]
    return {index for signature in ours for index in (*signature.inputs.values(), *signature.outputs.values())}


def same_numbers(before: Tensor, after: Tensor) -> bool:
    """Whether equal codes of two tensors mean equal numbers: type and quantization are the same."""
    return before.dtype == after.dtype and _scales(before.quantization) == _scales(after.quantization)


def _scales(quantization: Quantization | None) -> Any:
    return (quantization.scale, quantization.zero_point) if quantization else None


class Edit:
    """Changes to a network, collected; result() is the network's subgraph with them. The network stays as it is."""

    def __init__(self, network: Network, where: Operator, what: str) -> None:
        self.where = network.name(where)
        self.what = what
        self._network = network
        self._tensors = list(network.subgraph.tensors)
        self._operators = {operator.index: [operator] for operator in network.operators}
        self._instead: dict[int, int] = {}

    def tensor(self, tensor: Tensor) -> int:
        """Add a tensor."""
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, name: str, values: Array, quantization: Quantization | None = None) -> int:
        """Add a constant."""
        data = memoryview(values.tobytes())
        return self.tensor(Tensor(name, values.shape, values.dtype.name, quantization, data))

    def set_tensor(self, index: int, tensor: Tensor) -> None:
        """Another description for a tensor."""
        self._tensors[index] = tensor

    def put(self, operator: Operator, *instead: Operator) -> None:
        """What is executed in the place of an operator; nothing removes it."""
        self._operators[operator.index] = list(instead)

    def read_instead(self, index: int, other: int) -> None:
        """All that read one tensor read another."""
        self._instead[index] = other

    def pass_by(self, operator: Operator, source: int) -> bool:
        """Remove an operator whose only output equals `source`; False where input and output of the model would meet.

        A name that is known outside stays: then what makes `source` writes it under that name.
        """
        (output,) = operator.outputs
        maker = self._network.maker(source)
        if output not in self._network.seen:
            self.read_instead(output, source)
        elif maker is None or source in self._network.seen or len(self._operators[maker.index]) != 1:
            return False
        else:
            outputs = tuple(output if index == source else index for index in maker.outputs)
            self.put(maker, replace(maker, outputs=outputs))
            self.read_instead(source, output)
        self.put(operator)
        return True

    def result(self) -> Subgraph:
        """The edited subgraph, without operators that only removed ones had needed."""
        operators = [made for place in self._operators.values() for made in place]
        renumbered = tuple(
            replace(operator, index=index, inputs=tuple(self._follow(i) for i in operator.inputs))
            for index, operator in enumerate(operators)
        )
        edited = replace(self._network.subgraph, tensors=tuple(self._tensors), operators=renumbered)
        return without_unneeded(edited, self._network.seen)

    def _follow(self, index: int) -> int:
        while index in self._instead:
            index = self._instead[index]
        return index


def unneeded(subgraph: Subgraph, seen: Iterable[int]) -> list[Operator]:
    """Operators that nothing needs: no output, and nothing that acts beyond its outputs, depends on them."""
    wanted = {*subgraph.outputs, *seen}
    idle = []
    for operator in reversed(subgraph.operators):
        if (
            not operator.outputs
            or wanted & {*operator.outputs}
            or operator.kind in ACTING
            or _writes(operator, subgraph)
        ):
            wanted |= {*operator.inputs}
        else:
            idle.append(operator)
    return idle[::-1]


def _writes(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether it keeps state in a tensor, as LSTM and SVDF do."""
    tensors = (subgraph.tensor(index) for index in operator.inputs)
    return any(tensor is not None and tensor.is_variable for tensor in tensors)


def without_unneeded(subgraph: Subgraph, seen: Iterable[int]) -> Subgraph:
    """The subgraph without such operators."""
    idle = {operator.index for operator in unneeded(subgraph, seen)}
    kept = [operator for operator in subgraph.operators if operator.index not in idle]
    return replace(subgraph, operators=tuple(replace(operator, index=index) for index, operator in enumerate(kept)))


def operator(
    kind: str,
    inputs: Sequence[int],
    output: int,
    options_table: str = "",
    options: Mapping[str, OptionValue] | None = None,
) -> Operator:
    """A new operator with one output; its index is set when the edit is finished."""
    return Operator(-1, kind, tuple(inputs), (output,), options or {}, options_table)


def without_unused_tensors(graph: Graph) -> Graph:
    """The graph without tensors of the main subgraph that nothing refers to, so that no file stores them."""
    main = graph.main
    used = {*main.inputs, *main.outputs}
    for found in main.operators:
        used |= {*found.inputs, *found.outputs, *found.intermediates}
    ours = [signature for signature in graph.signatures if signature.subgraph == main.index]
    for signature in ours:
        used |= {*signature.inputs.values(), *signature.outputs.values()}
    kept = sorted(used - {-1})
    new = {-1: -1} | {old: position for position, old in enumerate(kept)}

    def moved(indexes: Iterable[int]) -> tuple[int, ...]:
        return tuple(new[index] for index in indexes)

    operators = tuple(
        replace(
            found, inputs=moved(found.inputs), outputs=moved(found.outputs), intermediates=moved(found.intermediates)
        )
        for found in main.operators
    )
    signatures = tuple(
        replace(
            signature,
            inputs={name: new[index] for name, index in signature.inputs.items()},
            outputs={name: new[index] for name, index in signature.outputs.items()},
        )
        if signature in ours
        else signature
        for signature in graph.signatures
    )
    tensors = tuple(main.tensors[index] for index in kept)
    compact = replace(
        main, tensors=tensors, operators=operators, inputs=moved(main.inputs), outputs=moved(main.outputs)
    )
    return replace(graph, subgraphs=(compact, *graph.subgraphs[1:]), signatures=signatures)

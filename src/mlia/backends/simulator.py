"""A compiled model executed without hardware: the NPU's part in our simulator, the host's in LiteRT.

For child processes only: LiteRT can abort on some models.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from struct import iter_unpack

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.command_stream import COMPILED_OPERATOR
from mlia.errors import SimulatorError
from mlia.graph.graph import Graph, Operator, Subgraph, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.container import Config, Program, read_program
from mlia.simulator.decode import operations
from mlia.simulator.machine import Machine
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, Operation
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import ReferenceModel, first_line
from mlia.transforms.rewrites.network import without_unused_tensors

READ_ONLY, ARENA, FAST_SCRATCH = 0, 1, 2  # the regions of a compiled TFLite file, in Vela's numbers
ALLOCATION = "OfflineMemoryAllocation"
_HEADER = 3  # version, subgraphs, tensors
# What comes before the model's own inputs: command stream, read-only data, scratch, fast scratch.
_STREAM, _CONSTANTS, _SCRATCH, _FAST = range(4)

Watch = Callable[[int, Compute, Memory], None]


class Stream(Struct, frozen=True):
    """One command stream of a model: of which operator in which subgraph, and what it does."""

    number: int
    subgraph: int
    operator: Operator
    program: Program
    operations: tuple[Operation, ...]


class _HostPart(Struct, frozen=True):
    """Consecutive operators of the host, as a model of their own, and the tensors that go in and out."""

    model: ReferenceModel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def streams_of(graph: Graph) -> tuple[Stream, ...]:
    """The command streams of a compiled model, in the order of the file.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found: list[Stream] = []
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            if operator.custom_code == COMPILED_OPERATOR:
                program = read_program(_constant(subgraph, operator, _STREAM))
                found.append(Stream(len(found), subgraph.index, operator, program, tuple(operations(program))))
    return tuple(found)


def config_of(graph: Graph) -> Config | None:
    """The NPU that the model is compiled for; None where nothing of it runs on one."""
    streams = streams_of(graph)
    return streams[0].program.config if streams else None


class Session:
    """A compiled model that is run. Variables keep what they hold from one run to the next.

    `watch` is told the number of the stream, each operation that was executed, and the memory after it.

    Raises:
        SimulatorError: a stream has what is not known, or an operator of the host does not run in LiteRT.
    """

    def __init__(self, compiled: bytes, watch: Watch | None = None) -> None:
        self._graph = read_tflite(compiled)
        self._watch = watch
        self._addresses = _addresses(self._graph)
        self._streams = {(each.subgraph, each.operator.index): each for each in streams_of(self._graph)}
        self._arena = numpy.zeros(self._arena_bytes(), numpy.uint8)
        self._fast = numpy.zeros(self._bytes_of(_FAST), numpy.uint8)
        self._parts = self._cut(self._graph.main)
        self._reset()

    def run(self, sample: Sequence[Array]) -> list[Array]:
        """The outputs for one sample: an array per input, of the input's shape and type."""
        main = self._graph.main
        known = dict(zip(main.inputs, (numpy.asarray(values) for values in sample), strict=True))
        for part in self._parts:
            if isinstance(part, _HostPart):
                inputs = [_known(known, index, main) for index in part.inputs]
                try:
                    known |= dict(zip(part.outputs, part.model.run(inputs), strict=True))
                except (RuntimeError, ValueError) as error:
                    raise SimulatorError(f"LiteRT cannot run the host's part: {first_line(error)}") from None
            else:
                self._execute(main, part, known)
        return [_known(known, index, main) for index in main.outputs]

    def _reset(self) -> None:
        """Variables begin at their zero point, and what runs once has run."""
        for subgraph in self._graph.subgraphs:
            for index, tensor in enumerate(subgraph.tensors):
                address = self._addresses[subgraph.index][index]
                if tensor.is_variable and address is not None:
                    zero = tensor.quantization.zero_point[0] if tensor.quantization else 0
                    self._write(address, numpy.full(tensor.shape, zero, tensor.dtype))
        for operator in self._graph.main.operators:
            if operator.kind == "CALL_ONCE":
                called = next(
                    each for each in self._graph.subgraphs if each.index == operator.number("init_subgraph_index")
                )
                for inner in called.operators:
                    if inner.custom_code == COMPILED_OPERATOR:
                        self._execute(called, inner, {})

    def _cut(self, main: Subgraph) -> list[Operator | _HostPart]:
        """The model as operators of the NPU, and of the host what stands between them."""
        parts: list[Operator | _HostPart] = []
        inner = {each.index for each in self._graph.subgraphs if _has_streams(each)}
        for on_npu, group in groupby(main.operators, lambda operator: operator.custom_code == COMPILED_OPERATOR):
            if on_npu:
                parts += group
                continue
            kept = [
                each for each in group if not (each.kind == "CALL_ONCE" and each.number("init_subgraph_index") in inner)
            ]
            calling = [each.kind for each in kept if each.kind in ("WHILE", "IF", "CALL", "CALL_ONCE") and inner]
            if calling:
                raise SimulatorError(
                    f"{calling[0]} calls subgraphs with operators on the NPU, which cannot be simulated"
                )
            if kept:
                parts.append(self._host_part(kept))
        return parts

    def _host_part(self, operators: list[Operator]) -> _HostPart:
        main = self._graph.main
        made = {index for operator in operators for index in operator.outputs}
        read = dict.fromkeys(index for operator in operators for index in operator.inputs if index >= 0)
        tensors = main.tensors
        inputs = tuple(i for i in read if i not in made and not tensors[i].is_constant and not tensors[i].is_variable)
        others = [each for each in main.operators if each not in operators]
        wanted = {*main.outputs, *(index for each in others for index in each.inputs)}
        outputs = tuple(index for operator in operators for index in operator.outputs if index in wanted)
        numbered = tuple(replace(operator, index=index) for index, operator in enumerate(operators))
        part = replace(main, operators=numbered, inputs=inputs, outputs=outputs)
        graph = Graph((part, *self._graph.subgraphs[1:]), self._graph.description)
        try:
            return _HostPart(ReferenceModel(write_tflite(without_unused_tensors(graph))), inputs, outputs)
        except (RuntimeError, ValueError) as error:
            raise SimulatorError(f"LiteRT cannot run the host's part: {first_line(error)}") from None

    def _execute(self, subgraph: Subgraph, operator: Operator, known: dict[int, Array]) -> None:
        """One operator on the NPU: its inputs into the arena, its stream, its outputs out of it."""
        stream = self._streams[subgraph.index, operator.index]
        addresses = self._addresses[subgraph.index]
        constants = numpy.frombuffer(_constant(subgraph, operator, _CONSTANTS), numpy.uint8)
        for index in operator.inputs[_FAST + 1 :]:
            if index in known:
                self._write(_address(addresses, index, subgraph), known[index])
        shares = operator.inputs[_FAST] == operator.inputs[_SCRATCH] or not self._fast.size
        regions = {READ_ONLY: constants, ARENA: self._arena, FAST_SCRATCH: self._arena if shares else self._fast}
        memory = Memory(regions)
        watch = self._watch

        def told(operation: Compute) -> None:
            if watch is not None:
                watch(stream.number, operation, memory)

        Machine(stream.program.config, memory).run(stream.operations, told)
        for index in operator.outputs:
            known[index] = self._read(_address(addresses, index, subgraph), subgraph.tensors[index])

    def _write(self, address: int, values: Array) -> None:
        content = numpy.ascontiguousarray(values).view(numpy.uint8).reshape(-1)
        if address + content.size > self._arena.size:
            raise SimulatorError(f"a tensor at {address:#x} does not fit into the arena of {self._arena.size} bytes")
        self._arena[address : address + content.size] = content

    def _read(self, address: int, tensor: Tensor) -> Array:
        dtype = numpy.dtype(tensor.dtype)
        content = self._arena[address : address + tensor.elements * dtype.itemsize]
        return numpy.frombuffer(content.tobytes(), dtype).reshape(tensor.shape)

    def _arena_bytes(self) -> int:
        """As large as every scratch tensor, and as every tensor with a place in it reaches."""
        ends = [0, self._bytes_of(_SCRATCH)]
        for subgraph in self._graph.subgraphs:
            for tensor, address in zip(subgraph.tensors, self._addresses[subgraph.index], strict=True):
                if address is not None and not tensor.is_constant:
                    ends.append(address + tensor.elements * numpy.dtype(tensor.dtype).itemsize)
        return max(ends)

    def _bytes_of(self, position: int) -> int:
        tensors = [
            self._graph.subgraphs[each.subgraph].tensors[each.operator.inputs[position]]
            for each in self._streams.values()
        ]
        return max((tensor.elements for tensor in tensors), default=0)


def _has_streams(subgraph: Subgraph) -> bool:
    return any(operator.custom_code == COMPILED_OPERATOR for operator in subgraph.operators)


def _constant(subgraph: Subgraph, operator: Operator, position: int) -> bytes:
    if len(operator.inputs) <= _FAST:
        raise SimulatorError("an ethos-u operator has fewer inputs than a command stream, constants and scratch")
    return bytes(subgraph.tensors[operator.inputs[position]].data)


def _known(known: dict[int, Array], index: int, subgraph: Subgraph) -> Array:
    tensor = subgraph.tensors[index]
    if index in known:
        return known[index]
    if tensor.is_constant:
        return numpy.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape)
    raise SimulatorError(f"nothing computes '{tensor.name}'")


def _addresses(graph: Graph) -> dict[int, list[int | None]]:
    """Where in the arena each tensor of each subgraph is; None for those that are not there."""
    content = bytes(graph.metadata.get(ALLOCATION, b""))
    if len(content) < 4 * _HEADER or len(content) % 4:
        if any(map(_has_streams, graph.subgraphs)):
            raise SimulatorError("the compiled model does not say where its tensors are in the arena")
        content = b"\xff" * 4 * (_HEADER + sum(len(each.tensors) for each in graph.subgraphs))
    numbers = [number for (number,) in iter_unpack("<i", content)][_HEADER:]
    found: dict[int, list[int | None]] = {}
    for subgraph in graph.subgraphs:
        count = len(subgraph.tensors)
        if len(numbers) < count:
            raise SimulatorError("the compiled model has more tensors than places in the arena")
        found[subgraph.index] = [number if number >= 0 else None for number in numbers[:count]]
        numbers = numbers[count:]
    return found


def _address(addresses: Sequence[int | None], index: int, subgraph: Subgraph) -> int:
    address = addresses[index]
    if address is None:
        raise SimulatorError(f"'{subgraph.tensors[index].name}' has no place in the arena")
    return address

"""A compiled model executed without hardware: the NPU's part in our simulator, the host's in LiteRT.

For child processes only: LiteRT can abort on some models.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from struct import iter_unpack

import numpy
from msgspec import Struct

from mlia.backends.simulator.kernels import Choice, Kernels, Step
from mlia.errors import SimulatorError
from mlia.graph.graph import COMPILED_OPERATOR, Graph, Operator, Subgraph, Tensor
from mlia.graph.tflite import ELEMENT_BITS, read_tflite
from mlia.simulator.machine import Machine
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute
from mlia.simulator.stream import Stream, read_stream
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import first_line

READ_ONLY, ARENA, FAST_SCRATCH = 0, 1, 2  # the regions of a compiled TFLite file, in Vela's numbers
ALLOCATION = "OfflineMemoryAllocation"
_STATEFUL = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
_HEADER = 3  # version, subgraphs, tensors
# What comes before the model's own inputs: command stream, read-only data, scratch, fast scratch.
STREAM, CONSTANTS, SCRATCH, FAST = range(4)

SMALL_BYTES = 2  # integers with more are indexes and the like
MOST_BYTES = 1 << 30
"""Of an arena, a fast scratch or a variable: no Ethos-U has as much memory, and a damaged file may ask for any."""

# What numpy raises for sizes and addresses that no compiler writes: a damaged stream.
NOT_THERE = numpy.zeros(0, numpy.uint8)  # stands for an output that the compiler has lost
_DAMAGE = (ArithmeticError, IndexError, MemoryError, ValueError)

Watch = Callable[[int, Compute, Memory], None]


class HostRefused(SimulatorError):
    """LiteRT does not run a part of the host."""


class _HostPart(Struct, frozen=True):
    """Consecutive operators of the host, as a model of their own, and the tensors that go in and out."""

    step: Step
    operators: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def streams_of(graph: Graph) -> dict[tuple[int, int], Stream]:
    """The command streams of a compiled model by subgraph and operator, numbered in the order of the file.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found: dict[tuple[int, int], Stream] = {}
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            if operator.custom_code == COMPILED_OPERATOR:
                payload = _constant(subgraph, operator, STREAM)
                try:
                    found[subgraph.index, operator.index] = read_stream(len(found), payload)
                except _DAMAGE as error:
                    message = f"command stream {len(found)} cannot be read: {first_line(error)}"
                    raise SimulatorError(message) from None
    return found


class Session:
    """A compiled model that is run. Variables keep what they hold from one run to the next.

    `watch` is told the number of the stream, each operation that was executed, and the memory after it. With `kernels`
    that are stepwise, operators of the host run one by one, and numbers are made up for those that LiteRT cannot run:
    the same in every session. A model that is not compiled runs on the host; then what reads one of those `unknown`
    operators, which are not made up for, is unknown too.

    Raises:
        SimulatorError: a stream has what is not known, or an operator of the host does not run in LiteRT.
    """

    def __init__(
        self,
        compiled: bytes,
        watch: Watch | None = None,
        kernels: Kernels | None = None,
        unknown: Collection[int] = (),
    ) -> None:
        self._graph = read_tflite(compiled)
        self._watch = watch
        self._kernels = kernels or Kernels(Choice())
        self._unknown = unknown
        self._runs = 0
        self._tensors: dict[int, Array] = {}
        self.uncomputed: set[int] = set()
        self._addresses = addresses_of(self._graph)
        self._streams = streams_of(self._graph)
        self._arena = _empty(_arena_bytes(self._graph, self._addresses), "arena")
        self._fast = _empty(_largest(self._graph, FAST), "fast scratch")
        self._state: dict[str, Array] = {}
        self._parts = {each.index: self._cut(each) for each in self._called()}
        self.reset()

    def run(self, sample: Sequence[Array]) -> list[Array]:
        """The outputs for one sample: an array per input, of the input's shape and type."""
        main = self._graph.main
        if len(sample) != len(main.inputs):
            raise SimulatorError(f"the compiled model has {len(main.inputs)} inputs, and {len(sample)} are given")
        self.run_parts(sample)
        return [_known(self._tensors, index, main) for index in main.outputs]

    def run_parts(self, sample: Sequence[Array]) -> None:
        """Run one sample, and leave its tensors to be asked for."""
        self._tensors = dict(zip(self._graph.main.inputs, map(numpy.asarray, sample), strict=True))
        self._run_parts(self._graph.main, self._tensors)
        self._runs += 1

    def outputs(self) -> list[Array]:
        """The outputs after run_parts(); one without elements for each that the compiler has lost."""
        found = (self.tensor(index) for index in self._graph.main.outputs)
        return [NOT_THERE if each is None else each for each in found]

    def tensor(self, index: int) -> Array | None:
        """A tensor of the main subgraph after a run; None where it is unknown."""
        if index in self._tensors:
            return self._tensors[index]
        tensor = self._graph.main.tensors[index]
        return _as_array(bytes(tensor.data), tensor) if tensor.is_constant else None

    def _called(self) -> list[Subgraph]:
        """The main subgraph, and those that it calls once; others stay with the operator that calls them."""
        once = [each.number("init_subgraph_index") for each in self._graph.main.operators if each.kind == "CALL_ONCE"]
        return [each for each in self._graph.subgraphs if each is self._graph.main or each.index in once]

    def reset(self) -> None:
        """Variables begin at their zero point, and what runs once has run."""
        for subgraph in self._graph.subgraphs:
            for index, tensor in enumerate(subgraph.tensors):
                address = self._addresses[subgraph.index][index]
                if tensor.is_variable and address is not None:
                    zero = (*tensor.quantization.zero_point, 0)[0] if tensor.quantization else 0
                    self._write(address, _filled(tensor, zero))
        for parts in self._parts.values():
            for part in parts:
                if isinstance(part, _HostPart):
                    part.step.reset()
        for subgraph in self._called():
            if subgraph is not self._graph.main:
                self._run_parts(subgraph, {})

    def _run_parts(self, subgraph: Subgraph, known: dict[int, Array]) -> None:
        for part in self._parts[subgraph.index]:
            if isinstance(part, _HostPart):
                self._run_host(subgraph, part, known)
            elif part.custom_code == COMPILED_OPERATOR:
                self._execute(subgraph, part, known)
            else:
                self._keep_state(subgraph, part, known)

    def _run_host(self, subgraph: Subgraph, part: _HostPart, known: dict[int, Array]) -> None:
        if self._unknown and not all(index in known for index in part.inputs):
            return
        inputs = [_known(known, index, subgraph) for index in part.inputs]
        found = part.step.run(inputs)
        if found is None:
            if not self._kernels.is_stepwise:
                raise HostRefused(f"the host's part: {part.step.refusal}")
            self.uncomputed |= {*part.operators}
            if any(index in self._unknown for index in part.operators):
                return
            found = [_made_up(subgraph.tensors[index], self._runs) for index in part.outputs]
        known |= dict(zip(part.outputs, found, strict=True))

    def _keep_state(self, subgraph: Subgraph, operator: Operator, known: dict[int, Array]) -> None:
        """Resource variables are ours to keep: parts of the host are models of their own, and share none."""
        if operator.kind == "VAR_HANDLE":
            known[operator.outputs[0]] = numpy.array(str(operator.options.get("shared_name", "")))
        elif operator.kind == "ASSIGN_VARIABLE":
            handle, value = (_known(known, index, subgraph) for index in operator.inputs)
            self._state[str(handle)] = value
        elif operator.kind == "READ_VARIABLE":
            handle = str(_known(known, operator.inputs[0], subgraph))
            if handle not in self._state:
                tensor = subgraph.tensors[operator.outputs[0]]
                self._state[handle] = _filled(tensor, 0)
            known[operator.outputs[0]] = self._state[handle]

    def _cut(self, subgraph: Subgraph) -> list[Operator | _HostPart]:
        """A subgraph as operators of the NPU and of state, and of the host what stands between them."""
        parts: list[Operator | _HostPart] = []
        inner = [each for each in self._graph.subgraphs[1:] if _has_streams(each)]

        def is_ours(operator: Operator) -> bool:
            return operator.custom_code == COMPILED_OPERATOR or operator.kind in _STATEFUL

        for ours, group in groupby(subgraph.operators, is_ours):
            if ours:
                parts += group
                continue
            kept = [operator for operator in group if operator.kind != "CALL_ONCE" and operator.outputs]
            calling = [operator.kind for operator in kept if operator.kind in ("WHILE", "IF", "CALL") and inner]
            if calling:
                raise SimulatorError(
                    f"{calling[0]} may call subgraphs with operators on the NPU, which is not simulated"
                )
            if self._kernels.is_stepwise:
                parts += [self._host_part(subgraph, [operator]) for operator in kept]
            elif kept:
                parts.append(self._host_part(subgraph, kept))
        return parts

    def _host_part(self, main: Subgraph, operators: list[Operator]) -> _HostPart:
        made = {index for operator in operators for index in operator.outputs}
        read = dict.fromkeys(index for operator in operators for index in operator.inputs if index >= 0)
        tensors = main.tensors
        inputs = tuple(i for i in read if i not in made and not tensors[i].is_constant and not tensors[i].is_variable)
        own = {operator.index for operator in operators}
        others = [each for each in main.operators if each.index not in own]
        wanted = {*main.outputs, *(index for each in others for index in each.inputs)}
        made_here = tuple(index for operator in operators for index in operator.outputs)
        outputs = made_here if self._kernels.is_stepwise else tuple(index for index in made_here if index in wanted)
        step = Step(self._kernels, self._graph, main, operators, inputs, outputs)
        return _HostPart(step, tuple(sorted(own)), inputs, outputs)

    def _execute(self, subgraph: Subgraph, operator: Operator, known: dict[int, Array]) -> None:
        """One operator on the NPU: its inputs into the arena, its stream, its outputs out of it."""
        stream = self._streams[subgraph.index, operator.index]
        addresses = self._addresses[subgraph.index]
        constants = numpy.frombuffer(_constant(subgraph, operator, CONSTANTS), numpy.uint8)
        for index in operator.inputs[FAST + 1 :]:
            address = addresses[index]
            if index in known and address is not None:  # without a place in the arena, no command can read it
                self._write(address, known[index])
        shares = shares_arena(operator, self._fast.size)
        regions = {READ_ONLY: constants, ARENA: self._arena, FAST_SCRATCH: self._arena if shares else self._fast}
        memory = Memory(regions)
        watch = self._watch

        def told(operation: Compute) -> None:
            if watch is not None:
                watch(stream.number, operation, memory)

        try:
            Machine(stream.program.config, memory).run(stream.operations, told)
        except _DAMAGE as error:
            raise SimulatorError(f"command stream {stream.number} cannot be executed: {first_line(error)}") from None
        for index in operator.outputs:
            known[index] = self._read(_address(addresses, index, subgraph), subgraph.tensors[index])

    def _write(self, address: int, values: Array) -> None:
        content = numpy.ascontiguousarray(values).view(numpy.uint8).reshape(-1)
        if address + content.size > self._arena.size:
            raise SimulatorError(f"a tensor at {address:#x} does not fit into the arena of {self._arena.size} bytes")
        self._arena[address : address + content.size] = content

    def _read(self, address: int, tensor: Tensor) -> Array:
        return _as_array(self._arena[address : address + size_bytes(tensor)].tobytes(), tensor)


def _arena_bytes(graph: Graph, addresses: Mapping[int, Sequence[int | None]]) -> int:
    """As large as every scratch tensor, and as every tensor with a place in it reaches."""
    ends = [0, _largest(graph, SCRATCH)]
    for subgraph in graph.subgraphs:
        for tensor, address in zip(subgraph.tensors, addresses[subgraph.index], strict=True):
            if address is not None and not tensor.is_constant:
                ends.append(address + size_bytes(tensor))
    return max(ends)


def _largest(graph: Graph, position: int) -> int:
    """The bytes of the largest tensor that stands at a position of the NPU's operators."""
    tensors = [
        subgraph.tensors[operator.inputs[position]]
        for subgraph in graph.subgraphs
        for operator in subgraph.operators
        if operator.custom_code == COMPILED_OPERATOR
    ]
    return max((tensor.elements for tensor in tensors), default=0)


def size_bytes(tensor: Tensor) -> int:
    """What a tensor takes in the arena."""
    return tensor.elements * ELEMENT_BITS.get(tensor.dtype, 8) // 8


def _empty(size: int, what: str) -> Array:
    """Memory of `size` bytes, all zero."""
    if size > MOST_BYTES:
        raise SimulatorError(f"the compiled model asks for {size:,} bytes of {what}; at most {MOST_BYTES:,} are given")
    return numpy.zeros(size, numpy.uint8)


def _filled(tensor: Tensor, value: int) -> Array:
    """An array for a variable, with the same value everywhere."""
    if tensor.elements > MOST_BYTES:
        message = f"the compiled model asks for {tensor.elements:,} elements of '{tensor.name}'"
        raise SimulatorError(f"{message}; at most {MOST_BYTES:,} are given")
    try:
        return numpy.full(tensor.shape, value, tensor.dtype)
    except (TypeError, *_DAMAGE) as error:
        raise SimulatorError(f"the variable '{tensor.name}' cannot be kept: {first_line(error)}") from None


def _made_up(tensor: Tensor, run: int) -> Array:
    """Numbers for what nothing computes, by the shape and the type of a tensor: noise, and 0 for indexes."""
    random = numpy.random.default_rng([run, *tensor.shape])
    try:
        dtype = numpy.dtype(tensor.dtype)
        if dtype.kind == "f":
            return random.normal(0, 1, tensor.shape).astype(dtype)
        if dtype.kind in "iu" and dtype.itemsize <= SMALL_BYTES:
            limits = numpy.iinfo(dtype)
            return random.integers(limits.min, limits.max, tensor.shape, dtype, endpoint=True)
        return numpy.zeros(tensor.shape, dtype)
    except TypeError as error:
        raise SimulatorError(f"no numbers can be made up for '{tensor.name}': {first_line(error)}") from None


def _as_array(content: bytes, tensor: Tensor) -> Array:
    """Bytes as what a tensor says that they are."""
    try:
        return numpy.frombuffer(content, tensor.dtype).reshape(tensor.shape)
    except (TypeError, *_DAMAGE) as error:
        raise SimulatorError(f"'{tensor.name}' cannot be read: {first_line(error)}") from None


def shares_arena(operator: Operator, fast_bytes: int) -> bool:
    """Whether an operator's fast scratch is a part of the arena: one tensor is both, or it has no bytes."""
    return operator.inputs[FAST] == operator.inputs[SCRATCH] or not fast_bytes


def _has_streams(subgraph: Subgraph) -> bool:
    return any(operator.custom_code == COMPILED_OPERATOR for operator in subgraph.operators)


def _constant(subgraph: Subgraph, operator: Operator, position: int) -> bytes:
    if len(operator.inputs) <= FAST:
        raise SimulatorError("an ethos-u operator has fewer inputs than a command stream, constants and scratch")
    return bytes(subgraph.tensors[operator.inputs[position]].data)


def _known(known: dict[int, Array], index: int, subgraph: Subgraph) -> Array:
    tensor = subgraph.tensors[index]
    if index in known:
        return known[index]
    if tensor.is_constant:
        return _as_array(bytes(tensor.data), tensor)
    if index in subgraph.outputs and not any(index in operator.outputs for operator in subgraph.operators):
        raise SimulatorError(f"the compiled model neither writes the output '{tensor.name}' nor has data for it")
    raise SimulatorError(f"nothing computes '{tensor.name}'")


def addresses_of(graph: Graph) -> dict[int, list[int | None]]:
    """Where in the arena each tensor of each subgraph is; None for those that are not there."""
    content = bytes(graph.metadata.get(ALLOCATION, b""))
    is_compiled = any(map(_has_streams, graph.subgraphs))
    if not is_compiled or len(content) < 4 * _HEADER or len(content) % 4:  # a plan for another runtime may be there
        if is_compiled:
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

"""How much RAM TensorFlow Lite Micro (TFLM) needs for a model: its tensor arena, planned as TFLM plans it.

An arena is filled from both ends. The head holds the tensors and scratch buffers of the operators; they share
memory where their lives do not overlap. The tail holds what stays: the structures of the interpreter and of the
kernels, and the state of the model (`arena_tail`).

Facts are from TFLM's sources (tensorflow/lite/micro in github.com/tensorflow/tflite-micro): lives from
`micro_allocation_info.cc`, placing from `memory_planner/greedy_memory_planner.cc`, what is planned and in which
order from `micro_allocator.cc`. Checked against the interpreter of the `tflite-micro` package of 2026-10-23.
"""

import struct
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from mlia.backends.cortex_m.arena_scratch import scratch_sizes
from mlia.backends.cortex_m.arena_tail import MICROCONTROLLER, Runtime, aligned, persistent_bytes, setup_bytes
from mlia.cpu_results import ArenaUse
from mlia.graph.graph import Graph, Operator
from mlia.targets.cores import Core

ALIGNMENT = 16  # of every buffer in the head: MicroArenaBufferAlignment()
ELEMENT_BYTES = {
    "float64": 8, "int64": 8, "uint64": 8, "complex64": 8, "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
OFFLINE_PLAN = "OfflineMemoryAllocation"  # metadata: a plan that was made beforehand, by Vela for example
CALLED = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
    "CALL_ONCE": ("init_subgraph_index",),
}


class ArenaTensor(Struct, frozen=True):
    """A buffer in the head: where it is, and from which operator of the main subgraph to which it is needed."""

    name: str
    offset: int
    size_bytes: int
    first: int
    last: int


class Arena(Struct, frozen=True):
    """The tensor arena of a model.

    `size_bytes` is what TFLM reports as used: `nonpersistent_bytes` (head) plus `persistent_bytes` (tail).
    `minimum_bytes` is the smallest arena that starting the model succeeds in: where tensors are small, preparing
    kernels and planning takes more memory than they do. `scratch_bytes` is the largest sum of scratch buffers of
    one operator. `peak_operator` is the operator at which most bytes are alive; -1 in a model without any.
    """

    size_bytes: int
    nonpersistent_bytes: int
    persistent_bytes: int
    scratch_bytes: int
    minimum_bytes: int
    tensors: tuple[ArenaTensor, ...]
    peak_operator: int


class Buffer(Struct, frozen=True):
    """Something to place: alive from step `first` to step `last`, both included, at `offset` if that is fixed."""

    name: str
    size_bytes: int
    first: int
    last: int
    offset: int | None = None


def plan_arena(
    graph: Graph, *, cmsis_nn: bool = False, extension: str = "none", runtime: Runtime = MICROCONTROLLER
) -> Arena:
    """The arena of a model: head, tail, and what is where in the head.

    `cmsis_nn`: convolutions and the like run in CMSIS-NN, whose scratch buffers depend on `extension`: "none",
    "DSP" or "MVE". Without it, TFLM's reference kernels. `runtime` tells how TFLM was built.
    """
    lives = _Lives(graph, cmsis_nn, extension)
    offsets = place(lives.buffers)
    head = max((offset + buffer.size_bytes for buffer, offset in zip(lives.buffers, offsets, strict=True)), default=0)
    tail = persistent_bytes(graph, cmsis_nn, extension, lives.scratch_count, runtime)
    planning = tail.when_planned + setup_bytes(graph, lives.scratch_count, len(lives.buffers), runtime)
    tensors = tuple(
        ArenaTensor(
            buffer.name, offset, buffer.size_bytes, lives.operator_at(buffer.first), lives.operator_at(buffer.last)
        )
        for buffer, offset in zip(lives.buffers, offsets, strict=True)
    )
    return Arena(
        size_bytes=head + tail.size_bytes,
        nonpersistent_bytes=head,
        persistent_bytes=tail.size_bytes,
        scratch_bytes=lives.scratch_bytes,
        minimum_bytes=max(head + tail.size_bytes, planning, tail.preparing_bytes),
        tensors=tensors,
        peak_operator=_peak(lives),
    )


def arena_use(graph: Graph, core: Core) -> ArenaUse:
    """What is in the arena of a model on a core, as a report says it."""
    arena = plan_arena(graph, cmsis_nn=core.extension != "none", extension=core.extension)
    return ArenaUse(
        used_bytes=arena.size_bytes,
        start_bytes=arena.minimum_bytes,
        planned_bytes=arena.nonpersistent_bytes,
        scratch_bytes=arena.scratch_bytes,
        persistent_bytes=arena.persistent_bytes,
    )


def place(buffers: Sequence[Buffer]) -> list[int]:
    """The offset of each buffer: the largest first, each in the lowest gap among those it lives together with.

    Among equals the one that was added last goes first, as in TFLM. Buffers whose offset is fixed come before all.
    """
    fixed = [index for index, buffer in enumerate(buffers) if buffer.offset is not None]
    free = [index for index in reversed(range(len(buffers))) if buffers[index].offset is None]
    free.sort(key=lambda index: -buffers[index].size_bytes)
    offsets = [0] * len(buffers)
    placed = _Placed()
    for index in (*fixed, *free):
        wanted = buffers[index]
        offsets[index] = wanted.offset if wanted.offset is not None else placed.lowest_gap(wanted)
        placed.add(wanted, offsets[index])
    return offsets


class _Placed:
    """Where buffers are already, from and to which byte, by the steps at which they live and at which they begin to.

    Most live for a few steps, so that looking at those of their own steps alone is much faster than at all.
    """

    def __init__(self) -> None:
        self._alive: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._begun: dict[int, list[tuple[int, int]]] = defaultdict(list)

    def add(self, buffer: Buffer, offset: int) -> None:
        place = offset, offset + buffer.size_bytes
        self._begun[buffer.first].append(place)
        for step in range(buffer.first, buffer.last + 1):
            self._alive[step].append(place)

    def lowest_gap(self, wanted: Buffer) -> int:
        """The lowest offset that is free as long as the buffer lives."""
        neighbors = list(self._alive.get(wanted.first, ()))
        for step in range(wanted.first + 1, wanted.last + 1):
            neighbors += self._begun.get(step, ())
        end = 0
        for first_byte, last_byte in sorted(neighbors):
            if first_byte - end >= wanted.size_bytes:
                break
            end = max(end, last_byte)
        return end


class _Lives:
    """When each tensor and each scratch buffer is needed, in steps: 0 is before the first operator.

    Each operator is a step, and so is entering a subgraph that an operator calls.
    """

    def __init__(self, graph: Graph, cmsis_nn: bool, extension: str) -> None:
        self._graph = graph
        self._cmsis_nn = cmsis_nn
        self._extension = extension
        self._step = 0
        self._operator_at_step = [0]
        self._walking: list[int] = []
        self._first: dict[tuple[int, int], int] = {}
        self._last: dict[tuple[int, int], int] = {}
        self._scratch: dict[tuple[int, int], tuple[int, int]] = {}
        self._walk(0)
        scratch = self._scratch_buffers()
        self.scratch_count = len(scratch)
        self.buffers = [*self._tensor_buffers(), *scratch]

    def operator_at(self, step: int) -> int:
        """The operator of the main subgraph that a step belongs to."""
        return self._operator_at_step[max(step, 0)]

    def _create(self, key: tuple[int, int]) -> None:
        self._first[key] = self._last[key] = self._step

    def _advance(self, operator: int) -> None:
        self._step += 1
        self._operator_at_step.append(operator)

    def _walk(self, number: int, caller: int | None = None) -> None:
        subgraph = self._graph.subgraphs[number]
        self._walking.append(number)
        for tensor in (*subgraph.inputs, *subgraph.outputs):
            self._create((number, tensor))
        for operator in subgraph.operators:
            at = operator.index if caller is None else caller
            self._advance(at)
            begin = self._step
            for tensor in operator.outputs:
                self._create((number, tensor))
            for called in self._called(operator):
                self._advance(at)
                self._walk(called, at)
            for tensor in (*operator.inputs, *operator.outputs):
                self._last[number, tensor] = self._step
            self._scratch[number, operator.index] = (begin, self._step)
        for tensor in subgraph.outputs:
            self._last[number, tensor] = self._step
        self._walking.pop()

    def _called(self, operator: Operator) -> list[int]:
        numbers = [operator.number(option, -1) for option in CALLED.get(operator.kind, ())]
        # A subgraph that calls itself would never end, in TFLM either.
        return [
            number for number in numbers if 0 <= number < len(self._graph.subgraphs) and number not in self._walking
        ]

    def _tensor_buffers(self) -> list[Buffer]:
        plan = _offline_plan(self._graph)
        buffers = []
        for subgraph in self._graph.subgraphs:
            for index, tensor in enumerate(subgraph.tensors):
                # A resource is a number that its kernel keeps; variables are in the tail.
                size = tensor.elements * ELEMENT_BYTES.get(tensor.dtype, 0)
                if tensor.dtype == "int4":
                    size = (tensor.elements + 1) // 2
                if tensor.is_constant or tensor.is_variable or size == 0:
                    continue
                first = self._first.get((subgraph.index, index), -1)
                last = self._last.get((subgraph.index, index), -1)
                offset = plan[index] if index < len(plan) and plan[index] >= 0 else None
                buffers.append(Buffer(tensor.name, aligned(size, ALIGNMENT), first, last, offset))
        return buffers

    def _scratch_buffers(self) -> list[Buffer]:
        buffers = []
        self.scratch_bytes = 0
        for subgraph in self._graph.subgraphs:
            for operator in subgraph.operators:
                sizes = [
                    aligned(size, ALIGNMENT)
                    for size in scratch_sizes(subgraph, operator, self._cmsis_nn, self._extension)
                ]
                self.scratch_bytes = max(self.scratch_bytes, sum(sizes))
                first, last = self._scratch.get((subgraph.index, operator.index), (-1, -1))
                name = f"scratch of {subgraph.operator_name(operator)}"
                buffers += [Buffer(name, size, first, last) for size in sizes]
        return buffers


def _offline_plan(graph: Graph) -> tuple[int, ...]:
    """Offsets by tensor, -1 where TFLM is to choose. The metadata is: version, subgraph, count, offsets (int32)."""
    content = graph.metadata.get(OFFLINE_PLAN, memoryview(b""))
    if len(content) < 12:
        return ()
    count = min(struct.unpack_from("<i", content, 8)[0], (len(content) - 12) // 4)
    return struct.unpack_from(f"<{max(count, 0)}i", content, 12)


def _peak(lives: _Lives) -> int:
    if not lives.buffers or not any(buffer.first >= 0 for buffer in lives.buffers):
        return -1
    changes = [0] * (max(buffer.last for buffer in lives.buffers) + 2)
    for buffer in lives.buffers:
        if buffer.last >= 0:
            changes[max(buffer.first, 0)] += buffer.size_bytes
            changes[buffer.last + 1] -= buffer.size_bytes
    alive = list(accumulate(changes[:-1]))
    return lives.operator_at(alive.index(max(alive)))

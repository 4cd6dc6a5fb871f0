"""What Vela answers -> steps, folded into the user's operators, and the constraints those break.

Its database, as Vela 5.2 writes it: `source` has the model's operators (ext_key is the index within the
subgraph), `perf` the compiled steps with the operator each came from, `perf_debug` the bytes each moves,
`perf_debug_main` the cycles of each hardware unit, `queue` which command stream a step is in.

Its log has a paragraph for each operator that is left to the CPU: the operator by kind and first output,
the reason with the offending value, and below it the published rule, if the reason does not say it all.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from math import prod
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.vela.process import Compilation
from mlia.graph.graph import Operator, Subgraph
from mlia.results import Bound, Constraint, MemoryPlan, TensorLifetime, Traffic
from mlia.targets.target import Target

CPU_STEP = "Passthrough"  # Vela's word for an operator that it leaves to the CPU
# Vela's names of memories, and the reports'. Its local memories (shram, lutram) are inside the NPU.
MEMORY_NAMES = {"Sram": "sram", "Dram": "dram", "OnChipFlash": "flash", "OffChipFlash": "flash"}
_BOUND_BY_MEMORY = {"sram": Bound.SRAM, "dram": Bound.DRAM, "flash": Bound.FLASH}
GATHER, PRODUCT = "Gather", "MatMul"  # Vela's words for them
_PURPOSES = ("FeatureMap", "Weights", "Scales", "Lut")


class CompiledStep(Struct, frozen=True):
    """One step of the compiled program: its cycles, the bytes it moves, and its compressed weights.

    `vela_total_cycles` stay the compiler's, whoever estimates the others.
    """

    kind: str
    on_npu: bool
    npu_cycles: int
    total_cycles: int
    vela_total_cycles: int
    bound_by: Bound
    traffic: dict[str, tuple[int, int]]
    compressed_weights_bytes: int
    segment: int | None


class Refusal(Struct, frozen=True):
    """One paragraph: which operator, by kind and name of its first output, and why."""

    kind: str
    output: str
    constraint: Constraint


Refusals: TypeAlias = dict[str, list[tuple[int, Refusal]]]


def compiled_steps(compilation: Compilation) -> list[tuple[int, CompiledStep]]:
    """Each step with its operator's index in the subgraph, -1 without one, in the order of the table `perf`.

    Only for a compilation of one subgraph: with several, the compiler keeps the last one's steps only. Steps of an
    operator that are alike are one object, because a network may have ten thousands of them.
    """
    operator_of = {key: int(row["ext_key"]) for key, row in compilation.by_key("source").items()}
    stream_of = {row["optimised_id"]: row["cmdstream_id"] for row in compilation.rows("queue")}
    # Steps that were joined to another one are in that one's command stream.
    leader = {key: row["group_id"] for key, row in compilation.by_key("group").items()}
    steps = compilation.by_key("perf")
    segment_of = {key: number for number, key in enumerate(compilation.keys("cmdstream"), start=1)}
    details, units = compilation.by_key("perf_debug"), compilation.by_key("perf_debug_main")
    nothing: dict[str, str] = {}
    known: dict[tuple[int, int, int, str], CompiledStep] = {}  # by the rows, which live as long as the compilation
    found = []
    for key, row in zip(compilation.keys("perf"), compilation.rows("perf"), strict=True):
        stream = stream_of.get(steps.get(leader.get(key, key), row)["optimised_id"], "")
        moved, busy = details.get(key, nothing), units.get(key, nothing)
        kind = id(row), id(moved), id(busy), stream
        if kind not in known:
            known[kind] = _step(row, moved, busy, segment_of.get(stream))
        found.append((operator_of.get(row["source_id"], -1), known[kind]))
    return found


def _step(row: dict[str, str], details: dict[str, str], units: dict[str, str], segment: int | None) -> CompiledStep:
    return CompiledStep(
        kind=row["operator"],
        on_npu=row["operator"] != CPU_STEP,
        npu_cycles=int(row["npu_cycles"]),
        total_cycles=int(row["op_cycles"]),
        vela_total_cycles=int(row["op_cycles"]),
        bound_by=_bound(row, units),
        traffic=_traffic(row["operator"], details),
        compressed_weights_bytes=_number(details, "weight_total_bytes"),
        segment=segment,
    )


def add_traffic(steps: list[CompiledStep]) -> tuple[Traffic, ...]:
    """Bytes that the steps move, by memory."""
    read: dict[str, int] = defaultdict(int)
    written: dict[str, int] = defaultdict(int)
    for step in steps:
        for memory, (read_bytes, write_bytes) in step.traffic.items():
            read[memory] += read_bytes
            written[memory] += write_bytes
    return tuple(Traffic(memory, read[memory], written[memory]) for memory in sorted(read))


def most_bound(steps: list[CompiledStep]) -> Bound | None:
    """What the steps wait for in most of their cycles."""
    cycles: dict[Bound, int] = defaultdict(int)
    for step in steps:
        cycles[step.bound_by] += step.total_cycles
    return max(cycles, key=lambda bound: cycles[bound]) if any(cycles.values()) else None


def _number(row: dict[str, str], column: str) -> int:
    text = row.get(column, "")
    return int(text) if text else 0


def _bound(row: dict[str, str], units: dict[str, str]) -> Bound:
    """What the step waits for: a memory if it takes longer than the NPU, else the slowest unit of the NPU."""
    if int(row["op_cycles"]) > int(row["npu_cycles"]):
        access: dict[str, int] = defaultdict(int)
        for kind, memory in MEMORY_NAMES.items():
            access[memory] = max(access[memory], _number(row, f"{kind}_ac"))
        return _BOUND_BY_MEMORY[max(access, key=lambda memory: access[memory])]
    # In this order, so that a tie (of a copy, which passes through both) is told as the output unit's.
    cycles = {
        Bound.OUTPUT_UNIT: _number(units, "ao_cycles"),
        Bound.MACS: _number(units, "mac_cycles"),
        Bound.COMMANDS: _number(units, "cmd_cycles"),
    }
    slowest = max(cycles, key=lambda bound: cycles[bound])
    # The rest of the NPU's cycles are reads that have to arrive before the first block can start.
    return slowest if 2 * cycles[slowest] >= int(row["npu_cycles"]) else Bound.LATENCY


def input_bytes(operator: str, details: dict[str, str], name: str) -> int:
    """What a step reads of an input ("ifm" or "ifm2"): of a slice only that, of a table only the rows that it takes."""
    if operator == GATHER and name == "ifm":
        name, dtype = "ofm", "ifm_dtype"
    else:
        dtype = f"{name}_dtype"
    slices = [_number(details, f"{name}_slice_{axis}") for axis in "nhwc"]
    sides = slices if all(slices) else [_number(details, f"{name}_shape_{axis}") for axis in "nhwc"]
    return sized(prod(sides), details.get(dtype, ""))


def sized(elements: int, dtype: str) -> int:
    """Bytes of so many elements of Vela's type ("Int8"); of one byte where it names none."""
    return -(-elements * int("".join(filter(str.isdigit, dtype)) or "8") // 8)


def _traffic(operator: str, details: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Bytes by memory. On Ethos-U85, Vela counts nothing of a product's second operand, which is read as well."""
    moved: dict[str, tuple[int, int]] = {}
    for kind, memory in MEMORY_NAMES.items():
        read = sum(_number(details, f"{kind}{purpose}_read") for purpose in _PURPOSES)
        if operator == PRODUCT:
            here = [name for name in ("ifm", "ifm2") if details.get(f"{name}_memory") == kind]
            read = max(read, sum(input_bytes(operator, details, name) for name in here))
        written = sum(_number(details, f"{kind}{purpose}_write") for purpose in _PURPOSES)
        if read or written:
            before = moved.get(memory, (0, 0))
            moved[memory] = (before[0] + read, before[1] + written)
    return moved


_REFUSAL = re.compile(r"^Warning \([\w ]+\) operator: (?P<kind>.*), ofm: '(?P<output>.*)'$")
_PLACEHOLDER = re.compile(r"placeholder-for-(\d+)-OFM")  # Vela's name for an operator without outputs
_UNNAMED = "<unnamed>"  # and its name for a tensor without one


def read_refusals(log: str) -> list[Refusal]:
    """All refusals of a log, each once, in the order of the log."""
    refusals: dict[Refusal, None] = {}
    lines = iter(log.splitlines())
    for line in lines:
        heading = _REFUSAL.match(line)
        if not heading:
            continue
        body: list[str] = []
        for text in lines:
            if not text.strip():
                break
            body.append(text.strip())
        violation = body[0].removeprefix("Reason:").strip() if body else "no reason given"
        refusals[Refusal(heading["kind"], heading["output"], Constraint(violation, "; ".join(body[1:])))] = None
    return list(refusals)


def by_output(refusals: list[Refusal]) -> Refusals:
    """The refusals by the output that they name, each with its place in the log."""
    found: Refusals = defaultdict(list)
    for place, refusal in enumerate(refusals):
        found[refusal.output].append((place, refusal))
    return found


def constraints_of(operator: Operator, subgraph: Subgraph, refusals: Refusals) -> tuple[Constraint, ...]:
    """The constraints one operator breaks, in the order of the log.

    The output's name decides, because a fused activation is an operator of another kind to Vela.
    """
    found = [each for name in _names(operator, subgraph) for each in refusals.get(name, ())]
    chosen = sorted(found, key=lambda each: each[0])
    tensors = (subgraph.tensor(index) for index in (*operator.inputs, *operator.outputs))
    names = {tensor.name for tensor in tensors if tensor is not None and tensor.name}
    return tuple(dict.fromkeys(_without_tensors(refusal.constraint, names) for _, refusal in chosen))


def _names(operator: Operator, subgraph: Subgraph) -> tuple[str, ...]:
    """What the log may call the output of an operator."""
    if not operator.outputs:
        return (f"placeholder-for-{operator.index}-OFM",)
    name = subgraph.tensors[operator.outputs[0]].name
    # A fused activation is an operator of its own to Vela, and what goes into it has this name.
    return tuple(each for each in (name or _UNNAMED, f"{name}_act") if not _PLACEHOLDER.fullmatch(each))


def _without_tensors(constraint: Constraint, names: set[str]) -> Constraint:
    """The violation without the names of tensors in it, so that like causes read alike."""
    violation = constraint.violation
    for name in names:
        for own in (name, f"{name}_act"):  # Vela's name for what goes into a fused activation
            violation = violation.removesuffix(f" ({own})").replace(f" tensor {own} ", " a tensor ")
    return Constraint(violation, constraint.rule)


def whole_traffic(memories: dict[str, dict[str, int]]) -> tuple[Traffic, ...]:
    """Bytes that the whole file moves, by memory."""
    return tuple(
        Traffic(MEMORY_NAMES[name], memory["read_bytes"], memory["write_bytes"])
        for name, memory in sorted(memories.items())
        if name in MEMORY_NAMES
    )


def memory_plan(whole: Compilation, target: Target, tensors: tuple[TensorLifetime, ...]) -> MemoryPlan:
    """What the compiler plans for the whole file in each memory."""
    report = whole.report
    peaks = {"sram": 0, "dram": 0, "flash": 0}
    for name, memory in report["memories"].items():
        if name in MEMORY_NAMES:
            peaks[MEMORY_NAMES[name]] += memory["peak_bytes"]
    arena = MEMORY_NAMES[target.arena_memory.kind]
    shared = target.constants_memory.kind == target.arena_memory.kind
    return MemoryPlan(
        planned_sram_bytes=peaks["sram"],
        planned_dram_bytes=peaks["dram"],
        arena_memory=arena,
        planned_arena_bytes=peaks[arena] - (report["read_only_bytes"] if shared else 0),
        constants_memory=MEMORY_NAMES[target.constants_memory.kind],
        constants_bytes=report["read_only_bytes"],
        weights_bytes=report["weights_bytes"],
        compressed_weights_bytes=report["compressed_weights_bytes"],
        tensors=tensors,
    )


_NUMBERED = re.compile(r"_\d+$")  # what Vela appends to the names of tensors that it makes


def tensor_lives(compilation: Compilation, subgraph: int, names: Mapping[str, str]) -> tuple[TensorLifetime, ...]:
    """When each tensor of one subgraph is where; `names` are the user's, by those that the compiler was given.

    Tensors that the compiler makes have numbers in their names, and which of several alike is left, as in the steps of
    a SOFTMAX, is not the same in each of its runs: they are numbered anew, in the order of their time and place.
    """
    found = sorted(
        (_life(row, subgraph, names) for row in compilation.rows("tensors")),
        key=lambda each: (each.start_time, each.end_time, each.memory, each.address, each.size_bytes, each.name),
    )
    counts: dict[str, int] = defaultdict(int)
    for place, life in enumerate(found):
        base = _NUMBERED.sub("", life.name)
        if base != life.name and life.name not in names:
            counts[base] += 1
            found[place] = replace(life, name=f"{base} ({counts[base]})")
    return tuple(replace(life, name=names.get(life.name, life.name)) for life in found)


def _life(row: Mapping[str, str], subgraph: int, names: Mapping[str, str]) -> TensorLifetime:
    """One row, under the compiler's name."""
    return TensorLifetime(
        subgraph=subgraph,
        name=row["name"],
        memory=MEMORY_NAMES.get(row["memory"], row["memory"].lower()),
        usage=row["usage"],
        start_time=int(row["start_time"]),
        end_time=int(row["end_time"]),
        address=int(row["start_address"], 16),
        size_bytes=int(row["size"], 16),
    )

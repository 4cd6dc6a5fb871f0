"""The compiler's database -> its steps, folded into the operators of the user's model.

The tables, as Vela 5.2 writes them: `source` has the model's operators (ext_key is the index within the
subgraph), `perf` the compiled steps with the operator each came from, `perf_debug` the bytes each moves,
`perf_debug_main` the cycles of each hardware unit, `queue` which command stream a step is in.
"""

from collections import defaultdict

from msgspec import Struct

from mlia.backends.vela_process import Compilation
from mlia.results import Bound, Traffic

CPU_STEP = "Passthrough"  # Vela's word for an operator that it leaves to the CPU
# Vela's names of memories, and the reports'. Its local memories (shram, lutram) are inside the NPU.
MEMORY_NAMES = {"Sram": "sram", "Dram": "dram", "OnChipFlash": "flash", "OffChipFlash": "flash"}
_BOUND_BY_MEMORY = {"sram": Bound.SRAM, "dram": Bound.DRAM, "flash": Bound.FLASH}
_PURPOSES = ("FeatureMap", "Weights", "Scales", "Lut")


class CompiledStep(Struct, frozen=True):
    """One step of the compiled program: its cycles, the bytes it moves, and its compressed weights."""

    kind: str
    on_npu: bool
    npu_cycles: int
    total_cycles: int
    bound_by: Bound
    traffic: dict[str, tuple[int, int]]
    compressed_weights_bytes: int
    segment: int | None


def steps_by_operator(compilation: Compilation) -> dict[int, list[CompiledStep]]:
    """The steps of each operator, by its index in the subgraph; -1 for steps without an operator.

    Only for a compilation of one subgraph: with several, the compiler keeps the last one's steps only.
    """
    operator_of = {row["id"]: int(row["ext_key"]) for row in compilation.rows("source")}
    stream_of = {row["optimised_id"]: row["cmdstream_id"] for row in compilation.rows("queue")}
    # Steps that were joined to another one are in that one's command stream.
    leader = {row["id"]: row["group_id"] for row in compilation.rows("group")}
    optimised_of = {row["id"]: row["optimised_id"] for row in compilation.rows("perf")}
    segment_of = {row["id"]: number for number, row in enumerate(compilation.rows("cmdstream"), start=1)}
    details = {row["id"]: row for row in compilation.rows("perf_debug")}
    units = {row["id"]: row for row in compilation.rows("perf_debug_main")}
    steps: dict[int, list[CompiledStep]] = defaultdict(list)
    for row in compilation.rows("perf"):
        identity = row["id"]
        optimised = optimised_of.get(leader.get(identity, identity), row["optimised_id"])
        steps[operator_of.get(row["source_id"], -1)].append(
            CompiledStep(
                kind=row["operator"],
                on_npu=row["operator"] != CPU_STEP,
                npu_cycles=int(row["npu_cycles"]),
                total_cycles=int(row["op_cycles"]),
                bound_by=_bound(row, units.get(identity, {})),
                traffic=_traffic(details.get(identity, {})),
                compressed_weights_bytes=_number(details.get(identity, {}), "weight_total_bytes"),
                segment=segment_of.get(stream_of.get(optimised, "")),
            )
        )
    return steps


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
    cycles = {
        Bound.MACS: _number(units, "mac_cycles"),
        Bound.OUTPUT_UNIT: _number(units, "ao_cycles"),
        Bound.COMMANDS: _number(units, "cmd_cycles"),
    }
    return max(cycles, key=lambda bound: cycles[bound])


def _traffic(details: dict[str, str]) -> dict[str, tuple[int, int]]:
    moved: dict[str, tuple[int, int]] = {}
    for kind, memory in MEMORY_NAMES.items():
        read = sum(_number(details, f"{kind}{purpose}_read") for purpose in _PURPOSES)
        written = sum(_number(details, f"{kind}{purpose}_write") for purpose in _PURPOSES)
        if read or written:
            before = moved.get(memory, (0, 0))
            moved[memory] = (before[0] + read, before[1] + written)
    return moved

"""What a backend learned about a model on a target. Frozen data with units in the names."""

from enum import StrEnum

from msgspec import Struct

from mlia.estimates import Calibration


class Origin(StrEnum):
    """What a figure is: computed by a model of the hardware, executed in a simulator, or measured."""

    ESTIMATED = "estimated"
    SIMULATED = "simulated"
    MEASURED = "measured"


class Unit(StrEnum):
    """Where an operator runs. REMOVED is nowhere, because nothing reads what it computes. NOT_CALLED is nowhere either:
    it is in a subgraph that nothing calls, which is compiled, but not analyzed."""

    NPU = "NPU"
    CPU = "CPU"
    REMOVED = "removed"
    NOT_CALLED = "not called"


class Bound(StrEnum):
    """What an operator waits for most: the MAC array, the output unit, commands, a memory's bandwidth, or
    LATENCY: the first data of steps that are too short to hide it."""

    MACS = "macs"
    OUTPUT_UNIT = "output unit"
    COMMANDS = "commands"
    LATENCY = "latency"
    SRAM = "sram"
    DRAM = "dram"
    FLASH = "flash"


NOT_ASKED, ONCE = "not asked for", "once, at the start"
NOT_CALLED = (
    "not called: nothing runs them, so they are not analyzed; Vela compiles them all the same, and its own total and"
    " the memory count them"
)


class Source(Struct, frozen=True):
    """Where figures come from."""

    origin: Origin
    by: str
    version: str


class Skipped(Struct, frozen=True, tag_field="type", tag="skipped"):
    """Something that was not done, and why."""

    what: str
    reason: str


class Change(Struct, frozen=True):
    """One thing that a transform did: to which operator or tensor, and what, in a few words with figures."""

    transform: str
    where: str
    what: str


class Constraint(Struct, frozen=True):
    """Why an operator is not on the NPU: what it does, and the rule of the hardware, if one was published."""

    violation: str
    rule: str = ""


class Placement(Struct, frozen=True):
    """Where one operator runs. `segment` numbers the runs of operators on the NPU, from 1.

    `index` counts operators within their subgraph. `is_folded`: the compiler left no step of it.
    """

    subgraph: int
    index: int
    kind: str
    name: str
    processor: Unit
    segment: int | None
    macs: int
    is_folded: bool
    constraints: tuple[Constraint, ...]


class OperatorId(Struct, frozen=True):
    """An operator by its subgraph and its place there."""

    subgraph: int
    index: int


class Compatibility(Struct, frozen=True, tag_field="type", tag="compatibility"):
    """Where the operators run. Percentages are of all operators, and of all multiply-accumulates.

    `lost_outputs` are the positions of the model's outputs that nothing in the compiled file writes.
    """

    source: Source
    operators: tuple[Placement, ...]
    npu_operators: int
    cpu_operators: int
    npu_percent: float
    npu_mac_percent: float | None
    npu_segments: int
    lost_outputs: tuple[int, ...] = ()


class Traffic(Struct, frozen=True):
    """Bytes moved between the NPU and one memory (sram, dram, flash)."""

    memory: str
    read_bytes: int
    write_bytes: int


class Step(Struct, frozen=True):
    """One step of the compiled program, which an operator was turned into."""

    kind: str
    npu_cycles: int
    total_cycles: int
    vela_total_cycles: int
    bound_by: Bound


class OperatorCost(Struct, frozen=True):
    """What one operator costs per inference. None where it was not estimated; `note` says why.

    `vela_total_cycles` are the compiler's own estimate, whoever estimated the others.
    `mac_utilization` is macs / (total_cycles * macs_per_cycle), 0..1. Weights include biases and scales
    in their compressed form only, because the compiler packs them together.
    """

    subgraph: int
    index: int
    kind: str
    name: str
    processor: Unit
    npu_cycles: int | None
    total_cycles: int | None
    vela_total_cycles: int | None
    latency_ms: float | None
    cycles_percent: float | None
    macs: int
    mac_utilization: float | None
    bound_by: Bound | None
    traffic: tuple[Traffic, ...]
    weights_bytes: int
    compressed_weights_bytes: int | None
    steps: tuple[Step, ...]
    note: str


class TensorLife(Struct, frozen=True):
    """When a tensor occupies which bytes of which memory. Times count the steps of its subgraph."""

    subgraph: int
    name: str
    memory: str
    usage: str
    start_time: int
    end_time: int
    address: int
    size_bytes: int


class MemoryPlan(Struct, frozen=True):
    """What Vela plans in each memory, in bytes, and the tensors behind it: the NPU's part of what a program needs.

    `planned_sram_bytes` and `planned_dram_bytes` are peaks. `planned_arena_bytes` is the peak of the memory that holds
    the arena, without constants that share it. `constants_bytes` is compressed weights, biases and tables; where
    `constants_memory` is not flash, they are copied there at the start, and that memory's peak has them too.
    """

    planned_sram_bytes: int
    planned_dram_bytes: int
    arena_memory: str
    planned_arena_bytes: int
    constants_memory: str
    constants_bytes: int
    weights_bytes: int
    compressed_weights_bytes: int
    tensors: tuple[TensorLife, ...]


class Kernel(Struct, frozen=True):
    """What runs an operator on a Cortex-M: the library and its kernel, and why that one.

    Not supported is what TensorFlow Lite Micro has no kernel for: a model with it does not start.
    """

    library: str
    name: str
    is_supported: bool
    reason: str


class CpuTime(Struct, frozen=True):
    """Work of a Cortex-M in cycles of its clock and in time, each with the band that its estimate has."""

    cycles: int
    low_cycles: int
    high_cycles: int
    latency_ms: float
    low_ms: float
    high_ms: float


class CpuCost(Struct, frozen=True):
    """What one operator costs on a Cortex-M, in cycles of its clock and in time, each with the band that its estimate
    has. They are None where it cannot run; `kernel` says why.
    """

    subgraph: int
    index: int
    kind: str
    name: str
    kernel: Kernel
    total_cycles: int | None
    low_cycles: int | None
    high_cycles: int | None
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    cycles_percent: float | None
    macs: int
    weights_bytes: int


class CpuCompatibility(Struct, frozen=True, tag_field="type", tag="cpu_compatibility"):
    """Which operators a Cortex-M can run, and by which kernel. `stack` names the software."""

    source: Source
    stack: str
    operators: tuple[CpuCost, ...]
    supported_operators: int
    unsupported_operators: int


class ArenaUse(Struct, frozen=True):
    """What is in the tensor arena of TensorFlow Lite Micro: planned tensors with scratch buffers, and what stays to the
    end, variables among it.

    `used_bytes` is what the interpreter reports as used, `start_bytes` what starting the model needs, which may be
    more.
    """

    used_bytes: int
    start_bytes: int
    planned_bytes: int
    scratch_bytes: int
    persistent_bytes: int

    @property
    def size_bytes(self) -> int:
        """The smallest arena in which the model starts and runs."""
        return max(self.used_bytes, self.start_bytes)


class CpuPerformance(Struct, frozen=True, tag_field="type", tag="cpu_performance"):
    """What a model costs on a Cortex-M alone, per inference.

    Time and cycles are None where an operator cannot run: then the model does not start. `arena_bytes` is the tensor
    arena that a program must set aside, and `arena` what is in it; `sram_bytes` is the same here. `flash_bytes` is the
    model's file, without code. `fitted_on` says which measurements the estimate comes from, `note` what is assumed
    where there are none.
    """

    source: Source
    stack: str
    core: str
    clock_mhz: float
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    total_cycles: int | None
    low_cycles: int | None
    high_cycles: int | None
    sram_bytes: int
    flash_bytes: int
    arena_bytes: int
    macs: int
    weights_bytes: int
    arena: ArenaUse
    operators: tuple[CpuCost, ...]
    unsupported_operators: int
    fitted_on: tuple[str, ...]
    note: str


class SystemTime(Struct, frozen=True, tag_field="type", tag="system_time"):
    """What the host adds to the NPU's part of an inference: operators of its own, and the hand-over of segments.
    `cpu_alone` is the whole model on the host without the NPU, and `speedup` what the NPU makes of that, with its
    band; None where an operator cannot run there. Each part has a source of its own.
    """

    cpu: CpuTime
    handover: CpuTime
    segments: int
    cpu_alone: CpuTime | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    npu_source: Source
    cpu_source: Source
    handover_source: Source
    stack: str
    note: str


class SubgraphCost(Struct, frozen=True):
    """The part of the cycles that one further subgraph has, and when it runs."""

    subgraph: int
    name: str
    total_cycles: int
    runs: str


class Performance(Struct, frozen=True, tag_field="type", tag="performance"):
    """What the model costs on an NPU with its host.

    `latency_ms` is the whole inference, with its band: `npu_latency_ms`, `cpu_latency_ms` of the operators that the
    host runs, and `handover_ms` between both. It is None where the host's part is not known; `system` says why.
    `total_cycles` and `npu_cycles`, in which its units compute, are sums over all that is called, in cycles of the NPU,
    by the estimator that `source` names; `vela_total_cycles` is the compiler's own sum over the whole file, which
    equals the `vela` command's. `calibration` is None where that was asked for. `inference_cycles` leaves out what runs
    once, at the start; `npu_latency_ms` is their time. Cycles and `memory` are None when nothing runs on the NPU.

    `arena_bytes` is the tensor arena of TensorFlow Lite Micro that a program must set aside for the compiled model, and
    `arena` what is in it; None for TOSA. `sram_bytes` is what it needs of SRAM: the arena where that is there, else
    what Vela plans, and constants that are copied there. `flash_bytes` is the compiled file. `macs` counts the model's
    own multiply-accumulates; `compiled_macs` is the compiler's count, which adds pooling and helper steps.
    """

    source: Source
    latency_ms: float | None
    low_ms: float | None
    high_ms: float | None
    total_cycles: int | None
    sram_bytes: int
    flash_bytes: int
    arena_bytes: int | None
    macs: int
    npu_latency_ms: float | None
    npu_cycles: int | None
    handover_ms: float | None
    cpu_latency_ms: float | None
    vela_total_cycles: int | None
    inference_cycles: int | None
    clock_mhz: float
    compiled_macs: int
    mac_utilization: float | None
    traffic: tuple[Traffic, ...]
    arena: ArenaUse | None
    memory: MemoryPlan | None
    operators: tuple[OperatorCost, ...]
    further_subgraphs: tuple[SubgraphCost, ...]
    skipped: tuple[Skipped, ...]
    calibration: Calibration | None = None
    cpu_operators: tuple[CpuCost, ...] = ()
    cpu_source: Source | None = None
    cpu_stack: str = ""
    system: SystemTime | Skipped | None = None

    @property
    def known_ms(self) -> float | None:
        """Latency of the whole inference, or of the NPU's part alone where the host's is not known."""
        return self.npu_latency_ms if self.latency_ms is None else self.latency_ms


class Compiled(Struct, frozen=True):
    """What a model that is already compiled was compiled for, from its command stream header."""

    npu: str
    macs_per_cycle: int
    shram_kib: int | None
    architecture: str
    driver_format: str
    compiler: str


class Result(Struct, frozen=True):
    """All that one backend says about one model on one target."""

    backend: str
    compatibility: Compatibility | CpuCompatibility | Skipped
    performance: Performance | CpuPerformance | Skipped
    compiled: tuple[Compiled, ...] = ()

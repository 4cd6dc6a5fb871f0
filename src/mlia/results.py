"""What a backend learned about a model on a target. Frozen data with units in the names."""

from enum import StrEnum

from msgspec import Struct

from mlia.cpu_results import ArenaUse, CpuCompatibility, CpuCost, CpuPerformance, SystemTime
from mlia.estimates import Calibration, Source


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


class Skipped(Struct, frozen=True, tag_field="type", tag="skipped"):
    """Something that was not done, and why."""

    what: str
    """What was not done."""
    reason: str
    """Why not, in words."""


class Change(Struct, frozen=True):
    """One thing that a transform did."""

    transform: str
    """Name of the transform, or the code of the rule that asked for it."""
    where: str
    """Operator or tensor that it was done to."""
    what: str
    """What was done, in a few words with figures."""


class Constraint(Struct, frozen=True):
    """Why an operator is not on the NPU."""

    violation: str
    """What the operator does that the NPU does not."""
    rule: str = ""
    """The constraint of the hardware as the compiler publishes it; empty where it publishes none."""


class Placement(Struct, frozen=True):
    """Where one operator runs."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""
    kind: str
    """What it computes, such as CONV_2D."""
    name: str
    """Name of its first output."""
    processor: Unit
    """Where it runs."""
    segment: int | None
    """Number, from 1, of the run of neighboring operators on the NPU that it is in; null off the NPU."""
    macs: int
    """Multiply-accumulates of one inference."""
    is_folded: bool
    """Whether the compiler left no step of its own for it."""
    constraints: tuple[Constraint, ...]
    """Why it is not on the NPU; empty where it is."""


class OperatorId(Struct, frozen=True):
    """An operator by its subgraph and its place there."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""


class Compatibility(Struct, frozen=True, tag_field="type", tag="compatibility"):
    """Where the operators run."""

    source: Source
    """Who said so."""
    operators: tuple[Placement, ...]
    """Every operator, in the order of execution within its subgraph."""
    npu_operators: int
    """How many run on the NPU."""
    cpu_operators: int
    """How many run on the Cortex-M."""
    npu_percent: float
    """Operators on the NPU in percent of all."""
    npu_mac_percent: float | None
    """Multiply-accumulates on the NPU in percent of all; null where the model has none."""
    npu_segments: int
    """How many times the NPU is started in one inference."""
    lost_outputs: tuple[int, ...] = ()
    """Positions of the model's outputs that nothing in the compiled file writes."""


class Traffic(Struct, frozen=True):
    """Bytes moved between the NPU and one memory in one inference."""

    memory: str
    """Which memory: sram, dram or flash."""
    read_bytes: int
    """Bytes that the NPU reads from it."""
    write_bytes: int
    """Bytes that the NPU writes to it."""


class Step(Struct, frozen=True):
    """One step of the compiled program, which an operator was turned into."""

    kind: str
    """What the step computes, in the compiler's words."""
    npu_cycles: int
    """Cycles of the NPU in which its units compute."""
    total_cycles: int
    """Cycles of the NPU that it takes, waiting included, by the estimator that the performance names."""
    vela_total_cycles: int
    """The compiler's own estimate of the same."""
    bound_by: Bound
    """What it waits for most."""


class OperatorCost(Struct, frozen=True):
    """What one operator costs the NPU in one inference."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""
    kind: str
    """What it computes, such as CONV_2D."""
    name: str
    """Name of its first output."""
    processor: Unit
    """Where it runs."""
    npu_cycles: int | None
    """Cycles of the NPU in which its units compute; null where it was not estimated."""
    total_cycles: int | None
    """Cycles of the NPU that it takes, waiting for memory included; null where it was not estimated."""
    vela_total_cycles: int | None
    """The compiler's own estimate of the same, whoever estimated the others; null where there is none."""
    latency_ms: float | None
    """Time in ms of the total cycles, or of the Cortex-M for an operator there; null where it is not known."""
    cycles_percent: float | None
    """Its total cycles in percent of all on the NPU; null where it was not estimated."""
    macs: int
    """Multiply-accumulates of one inference."""
    mac_utilization: float | None
    """macs / (total_cycles * macs_per_cycle), 0..1; null without MACs or cycles."""
    bound_by: Bound | None
    """What it waits for most; null where it was not estimated."""
    traffic: tuple[Traffic, ...]
    """Bytes that it moves, by memory."""
    weights_bytes: int
    """Its weights as the model has them, without biases."""
    compressed_weights_bytes: int | None
    """The same as the NPU stores them, biases and scales included; null where there are none."""
    steps: tuple[Step, ...]
    """The compiler's steps for it."""
    note: str
    """Why something is not estimated, or when it runs; empty where there is nothing to say."""


class TensorLifetime(Struct, frozen=True):
    """When a tensor occupies which bytes of which memory."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    name: str
    """Name of the tensor, in the compiler's words."""
    memory: str
    """Which memory it is in."""
    usage: str
    """What it is used as, such as FeatureMap or Weights."""
    start_time: int
    """First step of its subgraph, counted by the compiler, at which it is there."""
    end_time: int
    """Last step at which it is there."""
    address: int
    """Its first byte, counted from the start of the area."""
    size_bytes: int
    """How many bytes it takes."""


class MemoryPlan(Struct, frozen=True):
    """What Vela plans in each memory: the NPU's part of what a program needs."""

    planned_sram_bytes: int
    """Peak of SRAM."""
    planned_dram_bytes: int
    """Peak of DRAM."""
    arena_memory: str
    """Memory that holds the arena, such as sram."""
    planned_arena_bytes: int
    """Peak of that memory, without constants that share it."""
    constants_memory: str
    """Memory that the NPU reads constants from; where it is not flash, they are copied there at the start."""
    constants_bytes: int
    """Compressed weights, biases and tables together."""
    weights_bytes: int
    """Weights as the model has them."""
    compressed_weights_bytes: int
    """Weights as the NPU stores them, biases and scales included."""
    tensors: tuple[TensorLifetime, ...]
    """Every tensor that has a place in memory."""


class SubgraphCost(Struct, frozen=True):
    """The part of the cycles that one further subgraph has."""

    subgraph: int
    """Its number, from 1."""
    name: str
    """Its name in the model; may be empty."""
    total_cycles: int
    """Cycles of its steps on the NPU, a part of the performance's total cycles."""
    runs: str
    """When it runs, in words."""


class Performance(Struct, frozen=True, tag_field="type", tag="performance"):
    """What the model costs on an NPU with its host."""

    source: Source
    """Where the cycles of the NPU come from."""
    latency_ms: float | None
    """Time of the whole inference in ms, host included; null where the host's part is not known (see system)."""
    low_ms: float | None
    """Lower end of its band in ms; null where the latency is."""
    high_ms: float | None
    """Upper end of its band in ms; null where the latency is."""
    total_cycles: int | None
    """Cycles of the NPU over all that is called, waiting included; null where nothing runs on the NPU."""
    sram_bytes: int
    """SRAM that a program needs: the arena where that is there, else Vela's plan; and constants that are copied
    there."""
    flash_bytes: int
    """Size of the compiled file, which flash holds; code is not in it."""
    arena_bytes: int | None
    """Tensor arena that a program sets aside for TensorFlow Lite Micro; null for TOSA, which that does not run."""
    macs: int
    """Multiply-accumulates of the model in one inference."""
    npu_latency_ms: float | None
    """The NPU's part of the time in ms, without what runs once; null where nothing runs on the NPU."""
    npu_cycles: int | None
    """Cycles of the NPU in which its units compute; null where nothing runs on the NPU."""
    handover_ms: float | None
    """Time in ms of handing over between the Cortex-M and the NPU; null where it is not known."""
    cpu_latency_ms: float | None
    """Time in ms of the operators on the Cortex-M; null where it is not known."""
    vela_total_cycles: int | None
    """The compiler's own total over the whole file, as the `vela` command prints it; null off the NPU."""
    inference_cycles: int | None
    """Total cycles without what runs once, at the start; null where nothing runs on the NPU."""
    clock_mhz: float
    """Clock of the NPU in MHz."""
    compiled_macs: int
    """Multiply-accumulates by the compiler's count, which adds pooling and steps of its own."""
    mac_utilization: float | None
    """macs / (total_cycles * macs_per_cycle), 0..1; null without MACs or cycles."""
    traffic: tuple[Traffic, ...]
    """Bytes that the NPU moves in one inference, by memory."""
    arena: ArenaUse | None
    """What is in the tensor arena; null for TOSA."""
    memory: MemoryPlan | None
    """What Vela plans in each memory; null where nothing runs on the NPU."""
    operators: tuple[OperatorCost, ...]
    """Cost of every operator, in the order of execution."""
    further_subgraphs: tuple[SubgraphCost, ...]
    """Cycles of subgraphs behind the main one; empty for most models."""
    skipped: tuple[Skipped, ...]
    """What could not be estimated, with the reason."""
    calibration: Calibration | None = None
    """What the estimate rests on; null where the compiler's own was asked for."""
    cpu_costs: tuple[CpuCost, ...] = ()
    """Cost of the operators that run on the Cortex-M."""
    cpu_source: Source | None = None
    """Where the figures of the Cortex-M come from; null where it has no part."""
    cpu_stack: str = ""
    """Software that runs operators on the Cortex-M; empty where it has no part."""
    system: SystemTime | Skipped | None = None
    """What the Cortex-M adds, or why that is not known; null where nobody asked."""

    @property
    def known_ms(self) -> float | None:
        """Latency of the whole inference, or of the NPU's part alone where the host's is not known."""
        return self.npu_latency_ms if self.latency_ms is None else self.latency_ms


class Compiled(Struct, frozen=True):
    """What a model that is compiled already was compiled for, from its command stream's header."""

    npu: str
    """Family of the NPU, such as ethos-u55."""
    macs_per_cycle: int
    """Multiply-accumulates per cycle of that NPU."""
    shram_kib: int | None
    """Its internal memory in KiB; null where the header does not say."""
    architecture: str
    """Version of the NPU's architecture."""
    driver_format: str
    """Format of the driver's part of the file."""
    compiler: str
    """Who compiled it, as far as the file says."""


class Result(Struct, frozen=True):
    """All that one backend says about one model on one target."""

    backend: str
    """Name of the backend: vela or cortex-m."""
    compatibility: Compatibility | CpuCompatibility | Skipped
    """Where the operators run, or why that is not told."""
    performance: Performance | CpuPerformance | Skipped
    """What the model costs, or why that is not told."""
    compiled: tuple[Compiled, ...] = ()
    """What the command streams of a compiled model are for; empty for a model that is not compiled."""

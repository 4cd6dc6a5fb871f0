"""What is learned about a model on a Cortex-M: alone, or as the host of an NPU. Frozen data with units in the names."""

from msgspec import Struct

from mlia.estimates import Source


class Kernel(Struct, frozen=True):
    """What runs an operator on a Cortex-M, and why that."""

    library: str
    """Library that has the kernel, CMSIS-NN or TFLM reference."""
    name: str
    """Name of the kernel in that library, or of what would need one."""
    is_supported: bool
    """Whether TensorFlow Lite Micro has a kernel; a model with an operator that has none does not start."""
    reason: str
    """Why this kernel, or why none; empty where there is nothing to say."""


class CpuTime(Struct, frozen=True):
    """Work of a Cortex-M, with the band that its estimate has."""

    cycles: int
    """Cycles of its clock."""
    low_cycles: int
    """Lower end of their band."""
    high_cycles: int
    """Upper end of their band."""
    latency_ms: float
    """Time in ms."""
    low_ms: float
    """Lower end of its band in ms."""
    high_ms: float
    """Upper end of its band in ms."""


class CpuCost(Struct, frozen=True):
    """What one operator costs on a Cortex-M in one inference, with the band that its estimate has."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""
    kind: str
    """What it computes, such as CONV_2D."""
    name: str
    """Name of its first output."""
    kernel: Kernel
    """What runs it."""
    total_cycles: int | None
    """Cycles of the Cortex-M; null where it cannot run."""
    low_cycles: int | None
    """Lower end of their band; null where it cannot run."""
    high_cycles: int | None
    """Upper end of their band; null where it cannot run."""
    latency_ms: float | None
    """Time in ms; null where it cannot run."""
    low_ms: float | None
    """Lower end of its band in ms; null where it cannot run."""
    high_ms: float | None
    """Upper end of its band in ms; null where it cannot run."""
    cycles_percent: float | None
    """Its cycles in percent of all on the Cortex-M; null where it cannot run."""
    macs: int
    """Multiply-accumulates of one inference."""
    weights_bytes: int
    """Its weights as the model has them, without biases."""


class CpuCompatibility(Struct, frozen=True, tag_field="type", tag="cpu_compatibility"):
    """Which operators a Cortex-M can run, and by which kernels."""

    source: Source
    """Who said so."""
    stack: str
    """Software that runs them, such as TFLM + CMSIS-NN."""
    operators: tuple[CpuCost, ...]
    """Every operator that is called, in the order of execution."""
    supported_operators: int
    """How many have a kernel."""
    unsupported_operators: int
    """How many have none; with any, the model does not start."""


class ArenaUse(Struct, frozen=True):
    """What is in the tensor arena of TensorFlow Lite Micro."""

    used_bytes: int
    """What the interpreter reports as used."""
    start_bytes: int
    """What starting the model needs, which may be more."""
    planned_bytes: int
    """Tensors and scratch buffers, which share their places."""
    scratch_bytes: int
    """The largest sum of scratch buffers of one operator."""
    persistent_bytes: int
    """What stays to the end: nodes, tensors' descriptions, variables."""

    @property
    def size_bytes(self) -> int:
        """The smallest arena in which the model starts and runs."""
        return max(self.used_bytes, self.start_bytes)


class CpuPerformance(Struct, frozen=True, tag_field="type", tag="cpu_performance"):
    """What a model costs on a Cortex-M alone in one inference."""

    source: Source
    """Where the figures come from."""
    stack: str
    """Software that runs the model, such as TFLM + CMSIS-NN."""
    core: str
    """Name of the core."""
    clock_mhz: float
    """Its clock in MHz."""
    latency_ms: float | None
    """Time of the whole inference in ms; null where an operator cannot run, for then the model does not start."""
    low_ms: float | None
    """Lower end of its band in ms; null where the latency is."""
    high_ms: float | None
    """Upper end of its band in ms; null where the latency is."""
    total_cycles: int | None
    """Cycles of the Cortex-M; null where the latency is."""
    low_cycles: int | None
    """Lower end of their band; null where the latency is."""
    high_cycles: int | None
    """Upper end of their band; null where the latency is."""
    sram_bytes: int
    """SRAM that a program needs: the arena."""
    flash_bytes: int
    """Size of the model's file, which flash holds; code is not in it."""
    arena_bytes: int
    """Tensor arena that a program sets aside."""
    macs: int
    """Multiply-accumulates of one inference."""
    weights_bytes: int
    """Weights as the model has them, without biases."""
    arena: ArenaUse
    """What is in the tensor arena."""
    operators: tuple[CpuCost, ...]
    """Cost of every operator, in the order of execution."""
    unsupported_operators: int
    """How many operators have no kernel."""
    fitted_on: tuple[str, ...]
    """Measurements that the estimate comes from."""
    note: str
    """What is assumed where there are none; empty where nothing is."""


class SystemTime(Struct, frozen=True, tag_field="type", tag="system_time"):
    """What the host adds to the NPU's part of an inference, each part with a source of its own."""

    cpu: CpuTime
    """The operators that the Cortex-M runs."""
    handover: CpuTime
    """Handing over between the Cortex-M and the NPU."""
    segments: int
    """How many times the NPU is started."""
    cpu_alone: CpuTime | None
    """The whole model on the Cortex-M without the NPU; null where an operator cannot run there."""
    speedup: float | None
    """How many times as fast the NPU makes it: the time alone / with the NPU; null where the time alone is."""
    speedup_low: float | None
    """Lower end of its band; null where the speedup is."""
    speedup_high: float | None
    """Upper end of its band; null where the speedup is."""
    npu_source: Source
    """Where the NPU's part comes from."""
    cpu_source: Source
    """Where the Cortex-M's part comes from."""
    handover_source: Source
    """Where the hand-over comes from."""
    stack: str
    """Software that runs operators on the Cortex-M."""
    note: str
    """What is assumed, in words."""

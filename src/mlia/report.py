"""CheckReport: everything that one run learned. The only thing that a renderer sees."""

from msgspec import Struct

from mlia.advice import Advised, Severity
from mlia.estimates import Calibration, Source
from mlia.faces import Face
from mlia.fidelity import Fidelity
from mlia.figures import Figures
from mlia.recipe import Recipe
from mlia.results import Change, Result, Skipped

# Raised by one in front when a field changes its meaning or goes, behind when fields are added.
SCHEMA_VERSION = "4.0"


class TensorSummary(Struct, frozen=True):
    """A tensor: what it is called, and what it holds."""

    name: str
    """Name of the tensor in the model; may be empty."""
    shape: tuple[int, ...]
    """Sizes of its axes; -1 where a size is only known at run time."""
    data_type: str
    """Type of its elements, such as int8 or float32."""
    scale: float | None = None
    """Real number that a step of its integers stands for; null where it is not quantized, or each channel has one."""
    zero_point: int | None = None
    """Integer that stands for 0, so that real = scale * (integer - zero_point); null like the scale."""


class Conversion(Struct, frozen=True):
    """What was done to the user's model before it was analyzed."""

    source_format: str
    """Format of the user's file."""
    route: str
    """Who read it, and by which way it became TFLite."""
    added: tuple[str, ...]
    """Operators that the format's converter and the quantizer added, counted in words."""
    quantized: str = ""
    """What it was quantized to, in words; empty where it was not."""
    quantizer: str = ""
    """Who quantized it; empty where nobody did."""
    calibration: str = ""
    """Which samples it was quantized with, and how many; empty where it was not."""
    fidelity: Fidelity | None = None
    """How close the quantized model is to the float one; null where nothing was quantized."""
    kept_in_float: str = ""
    """Which operators the quantizer left in float, or why it left all; empty where it left none or was not asked."""


class OperatorSummary(Struct, frozen=True):
    """One operator of the model: what it reads and makes, constants left out."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""
    kind: str
    """What it computes, such as CONV_2D; the custom code of a custom operator."""
    name: str
    """Name of its first output, as the model has it."""
    reads_from: tuple[int, ...]
    """Places of the operators of its subgraph that make its inputs, each once."""
    inputs: tuple[TensorSummary, ...]
    """Tensors that it reads, without constants."""
    outputs: tuple[TensorSummary, ...]
    """Tensors that it makes."""


class ModelSummary(Struct, frozen=True):
    """The user's model, or the TFLite file that was made from it."""

    name: str
    """Name of the file or folder, or of the Keras model."""
    format: str
    """Format that the model came in, such as TFLite or Keras archive."""
    size_bytes: int
    """Size of the TFLite file that was analyzed."""
    sha256: str
    """SHA-256 of that file, in hexadecimal digits."""
    operators: int
    """How many operators all subgraphs have."""
    subgraphs: int
    """How many subgraphs there are; 1 for most models."""
    inputs: tuple[TensorSummary, ...]
    """Inputs of the model, in its order."""
    outputs: tuple[TensorSummary, ...]
    """Outputs of the model, in its order."""
    conversion: Conversion | None = None
    """What was done to the model before it was analyzed; null where it was taken as it is."""
    graph: tuple[OperatorSummary, ...] = ()
    """Every operator, in the order of execution within its subgraph."""


class MemorySummary(Struct, frozen=True):
    """One memory of the target, as the estimate assumes it."""

    name: str
    """Name of the memory in Vela's words, such as Sram or OffChipFlash."""
    holds: tuple[str, ...]
    """What is placed there: constants, arena, cache."""
    bandwidth_gb_s: float
    """Peak bandwidth in GB/s (1e9 bytes)."""
    read_latency_cycles: int
    """Cycles of the NPU until a read is answered."""
    write_latency_cycles: int
    """Cycles of the NPU until a write is answered."""


class TargetSummary(Struct, frozen=True):
    """The target, with what the figures depend on. A Cortex-M alone has no NPU and nothing that belongs to one."""

    name: str
    """Name of the target."""
    npu: str | None
    """Name of the NPU, such as Ethos-U55; null for a Cortex-M alone."""
    macs_per_cycle: int | None
    """Multiply-accumulates that the NPU does in a cycle at most; null without an NPU."""
    clock_mhz: float
    """Clock in MHz of the NPU; of the Cortex-M where that is alone."""
    system_config: str | None
    """Name of Vela's system configuration; null without an NPU."""
    memory_mode: str | None
    """Name of Vela's memory mode; null without an NPU."""
    vela_config_source: str | None
    """The vela.ini that both names refer to; null without an NPU."""
    memories: tuple[MemorySummary, ...]
    """Memories that the NPU reaches; empty without an NPU."""
    host: str
    """Name of the Cortex-M."""
    host_clock_mhz: float
    """Clock of the Cortex-M in MHz."""
    strategy: str | None = None
    """What the compiler schedules for, Performance or Size; null without an NPU."""
    cache_limit_bytes: int | None = None
    """How much of the cache, or of the arena, the compiler may use; null for all of it."""


class TargetReport(Struct, frozen=True):
    """What was found about the model on one target, and what is advised."""

    target: TargetSummary
    """The target, with what the figures depend on."""
    results: tuple[Result, ...]
    """What the backend said; one entry."""
    advised: Advised
    """What the rules said."""
    refusal: str = ""
    """Why the model could not be checked here, with all results skipped; empty where it was."""
    as_it_is: str = ""
    """What the user's file does here as it is, where the results are of a copy that was quantized; else empty."""


class Fixed(Struct, frozen=True, tag_field="type", tag="fixed"):
    """The model with lossless remedies applied."""

    model: ModelSummary
    """The model that was written."""
    applied: tuple[Change, ...]
    """Remedies that are in it, each by the code of its rule."""
    left: tuple[Skipped, ...]
    """Remedies that are not in it, each with the reason."""
    before: Figures
    """What the model cost without them."""
    after: Figures
    """What it costs with them."""
    proof: str
    """On what the outputs were found identical, in words."""
    file: str
    """Path that the model was written to."""


class Blamed(Struct, frozen=True):
    """An operator that has much of a figure."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""
    kind: str
    """What it computes."""
    name: str
    """Name of its first output."""
    value: float
    """How much of the figure it has, in the figure's unit."""


class Budget(Struct, frozen=True):
    """One limit that was set for a target: what it allows, what there is, and what to blame for a miss."""

    target: str
    """Name of the target."""
    figure: str
    """Which figure is limited: latency_ms, sram_kib, flash_kib, npu_percent or regression_percent."""
    limit: float
    """What is allowed, in the unit of the figure: at least that for npu_percent, at most that for all others."""
    value: float | None
    """What there is; null where it is not known, which is a miss."""
    is_kept: bool
    """Whether the limit is kept."""
    reason: str
    """Why the value is not known; empty where it is."""
    blamed: tuple[Blamed, ...]
    """Operators to blame for a miss, the gravest first; empty where the limit is kept."""


class CheckReport(Face, frozen=True):
    """The answer to one `mlia check`."""

    schema_version: str
    """Version of this schema: raised in front when a field changes its meaning or goes, behind when fields are
    added."""
    mlia_version: str
    """Version of mlia that made the report."""
    model: ModelSummary
    """The model as it was analyzed."""
    targets: tuple[TargetReport, ...]
    """What was found on each target, in the order in which they were named."""
    notes: tuple[str, ...]
    """What a reader must know of how the model was taken, in sentences."""
    fixed: Fixed | Skipped | None = None
    """The model with lossless remedies applied, or why there is none; null where nobody asked for it."""
    budgets: tuple[Budget, ...] = ()
    """Limits that were set, each kept or missed; empty where none was."""


class Comparison(Struct, frozen=True):
    """The model before and after on one target."""

    target: TargetSummary
    """The target."""
    source: Source
    """Where the cycles come from."""
    calibration: Calibration | None
    """What the estimate of the model after rests on; null where the compiler's own was asked for."""
    before: Figures
    """What the model costs before, quantized."""
    after: Figures
    """What the optimized model costs."""
    gain: float | None
    """Total cycles before / after; null without cycles of the NPU."""
    ceiling: float | None
    """Total / busy cycles before, about what compressed weights can gain at most; null without cycles of the NPU."""
    explanation: str
    """Why the gain is what it is, in words."""


class Evaluation(Struct, frozen=True):
    """What the user's own function said of the model before and after; the larger, the better."""

    before: float
    """Of the quantized model before."""
    after: float
    """Of the optimized model."""


class Trial(Struct, frozen=True):
    """One recipe that was tried: what it costs on each target, in their order, and how close it is."""

    recipe: Recipe
    """What was done."""
    description: str
    """The recipe in a few words."""
    total_cycles: tuple[int | None, ...]
    """Total cycles on each target; null where nothing runs on the NPU."""
    compressed_weights_bytes: tuple[int | None, ...]
    """Weights on each target as the NPU stores them; null where nothing runs on the NPU."""
    flash_bytes: tuple[int | None, ...]
    """Size of the compiled file on each target; null where it is not known."""
    relative_error: float
    """||changed - original|| / ||original|| of the output where that is largest."""
    sqnr_db: float | None
    """Signal-to-quantization-noise ratio of that output in dB; null without noise."""
    top1_agreement: float | None
    """Share (0..1) of positions at which that output's largest element is the same; null where it has one only."""
    accuracy: float | None
    """Share (0..1) of held-out samples that it classifies rightly; null without labels."""
    score: float | None
    """What the user's own judge said; null without one."""
    objection: str
    """Which limit it breaks, in words; empty where it keeps all."""
    is_chosen: bool
    """Whether this is the recipe of the result."""


class OptimizeReport(Face, frozen=True):
    """The answer to one `mlia optimize`."""

    schema_version: str
    """Version of this schema."""
    mlia_version: str
    """Version of mlia that made the report."""
    model: ModelSummary
    """The model before, quantized."""
    optimized: ModelSummary
    """The model after."""
    float_bytes: int | None
    """Size of the float model as TFLite; null where the model was quantized already."""
    calibration: str
    """Which samples were used, and how many, in words."""
    recipe: Recipe
    """What was done."""
    changes: tuple[Change, ...]
    """What each step did, in the order in which it was done."""
    skipped: tuple[Skipped, ...]
    """What a step left alone, with the reason."""
    fidelity_before: Fidelity | None
    """How close plain quantization is to the float model; null where the model was quantized already."""
    fidelity_after: Fidelity
    """How close the optimized model is to the float model, or to the one that was given quantized."""
    evaluation: Evaluation | None
    """What the user's own judge said; null without one."""
    comparisons: tuple[Comparison, ...]
    """Before and after on each target, in their order."""
    trials: tuple[Trial, ...]
    """Recipes that were tried, in that order; empty where one was given."""
    suggestions: tuple[Trial, ...]
    """What was tried and gains time, where the recipe that was given does not."""
    missed_limit: str
    """The limit of latency or flash that the result of a search misses; empty where it keeps all."""
    notes: tuple[str, ...]
    """What a reader must know of how this was found, in sentences."""


class ConvertReport(Face, frozen=True):
    """The answer to one `mlia convert`."""

    schema_version: str
    """Version of this schema."""
    mlia_version: str
    """Version of mlia that made the report."""
    converted: ModelSummary
    """The model that was made."""
    conversion: Conversion
    """What was done to the user's model."""
    notes: tuple[str, ...]
    """What a reader must know of how the model was taken, in sentences."""


def worst_severity(report: CheckReport) -> Severity | None:
    """The severity of the gravest advice; None when there is none."""
    found = {advice.severity for entry in report.targets for advice in entry.advised.advice}
    return next((severity for severity in (Severity.WARNING, Severity.NOTE) if severity in found), None)

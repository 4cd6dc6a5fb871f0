"""CheckReport: everything that one run learned. The only thing that a renderer sees."""

from msgspec import Struct

from mlia.advice import Advised, Severity
from mlia.estimates import Calibration
from mlia.faces import Face
from mlia.fidelity import Fidelity
from mlia.figures import Figures
from mlia.recipe import Recipe
from mlia.results import Change, Result, Skipped, Source

# Raised by one in front when a field changes its meaning or goes, behind when fields are added.
SCHEMA_VERSION = "4.0"


class TensorSummary(Struct, frozen=True):
    """An input or output of the model. A size of -1 is only known at run time."""

    name: str
    shape: tuple[int, ...]
    data_type: str


class Conversion(Struct, frozen=True):
    """What was done to the user's model before it was analyzed.

    `added` counts operators that the format's converter and the quantizer added. `quantized` says to what, or
    is empty; then `fidelity` is None. `kept_in_float` says which operators the quantizer left in float, or why it left
    the whole model; it is empty when it left nothing, or was not asked.
    """

    source_format: str
    route: str
    added: tuple[str, ...]
    quantized: str = ""
    quantizer: str = ""
    calibration: str = ""
    fidelity: Fidelity | None = None
    kept_in_float: str = ""


class OperatorSummary(Struct, frozen=True):
    """One operator of the model: what it reads and makes, constants left out.

    `reads_from` are the operators of its subgraph that make its inputs, each once.
    """

    subgraph: int
    index: int
    kind: str
    name: str
    reads_from: tuple[int, ...]
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]


class ModelSummary(Struct, frozen=True):
    """The user's model. Size and hash are of the TFLite file that was analyzed, which `conversion` may have made."""

    name: str
    format: str
    size_bytes: int
    sha256: str
    operators: int
    subgraphs: int
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    conversion: Conversion | None = None
    graph: tuple[OperatorSummary, ...] = ()


class MemorySummary(Struct, frozen=True):
    """One memory of the target: peak bandwidth and latencies, as the estimate assumes them."""

    name: str
    holds: tuple[str, ...]
    bandwidth_gb_s: float
    read_latency_cycles: int
    write_latency_cycles: int


class TargetSummary(Struct, frozen=True):
    """The target, with what the figures depend on. A Cortex-M alone has no NPU and nothing that belongs to one.

    `strategy` is what the compiler schedules for; `cache_limit_bytes` is how much of the cache, or of the arena, it may
    use, None for all.
    """

    name: str
    npu: str | None
    macs_per_cycle: int | None
    clock_mhz: float
    system_config: str | None
    memory_mode: str | None
    vela_config_source: str | None
    memories: tuple[MemorySummary, ...]
    host: str
    host_clock_mhz: float
    strategy: str | None = None
    cache_limit_bytes: int | None = None


class TargetReport(Struct, frozen=True):
    """What the backends said about the model on one target, and what is advised.

    `refusal` is why the model could not be checked there, with all results skipped; empty where it was.
    """

    target: TargetSummary
    results: tuple[Result, ...]
    advised: Advised
    refusal: str = ""


class Fixed(Struct, frozen=True, tag_field="type", tag="fixed"):
    """The model with lossless remedies applied.

    `applied` are the remedies, each by the code of its rule; `left` are those that were not, with the reason. `proof`
    says on what the outputs were found identical. `file` is where the model was written.
    """

    model: ModelSummary
    applied: tuple[Change, ...]
    left: tuple[Skipped, ...]
    before: Figures
    after: Figures
    proof: str
    file: str


class Blamed(Struct, frozen=True):
    """An operator that has much of a figure, and how much of it, in the figure's unit."""

    subgraph: int
    index: int
    kind: str
    name: str
    value: float


class Budget(Struct, frozen=True):
    """One limit that was set for a target: what it allows, what there is, and what to blame for a miss.

    `figure` is latency_ms, sram_kib, flash_kib, npu_percent or regression_percent; npu_percent may not be below its
    limit, the others not above. `value` is None where it is not known, which is a miss: `reason` says why.
    """

    target: str
    figure: str
    limit: float
    value: float | None
    is_kept: bool
    reason: str
    blamed: tuple[Blamed, ...]


class CheckReport(Face, frozen=True):
    """The answer to one `mlia check`."""

    schema_version: str
    mlia_version: str
    model: ModelSummary
    targets: tuple[TargetReport, ...]
    notes: tuple[str, ...]
    fixed: Fixed | Skipped | None = None
    budgets: tuple[Budget, ...] = ()


class Comparison(Struct, frozen=True):
    """The model before and after on one target.

    `gain` is before / after in total cycles. `ceiling` is about what compressed weights can gain at most: total / NPU
    cycles before, as if it never waited for memory. None without cycles. `calibration` is what the estimate of the
    model after rests on; None where the compiler's own was asked for. `explanation` says why the gain is what it
    is.
    """

    target: TargetSummary
    source: Source
    calibration: Calibration | None
    before: Figures
    after: Figures
    gain: float | None
    ceiling: float | None
    explanation: str


class Evaluation(Struct, frozen=True):
    """What the user's own function said of the model before and after."""

    before: float
    after: float


class Trial(Struct, frozen=True):
    """One recipe that was tried: what it costs on each target, in their order, and how close it is.

    `objection` says which limit it breaks, and is empty when it keeps all. `score` is the user's own judge's.
    """

    recipe: Recipe
    description: str
    total_cycles: tuple[int | None, ...]
    compressed_weights_bytes: tuple[int | None, ...]
    flash_bytes: tuple[int | None, ...]
    relative_error: float
    sqnr_db: float | None
    top1_agreement: float | None
    accuracy: float | None
    score: float | None
    objection: str
    is_chosen: bool


class OptimizeReport(Face, frozen=True):
    """The answer to one `mlia optimize`. `fidelity_before` is that of plain quantization.

    It is None when the model was quantized already: then that model is what `fidelity_after` compares with.
    `model` is the one before, quantized; `float_bytes` is the size of the float model as TFLite, if it was float.
    `trials` are there when recipes were searched, in the order in which they were tried; `suggestions` when the
    recipe gained nothing in time: what was tried that does. `missed_limit` is the limit of latency or flash that
    the result of a search misses, and empty when it keeps all.
    """

    schema_version: str
    mlia_version: str
    model: ModelSummary
    optimized: ModelSummary
    float_bytes: int | None
    calibration: str
    recipe: Recipe
    changes: tuple[Change, ...]
    skipped: tuple[Skipped, ...]
    fidelity_before: Fidelity | None
    fidelity_after: Fidelity
    evaluation: Evaluation | None
    comparisons: tuple[Comparison, ...]
    trials: tuple[Trial, ...]
    suggestions: tuple[Trial, ...]
    missed_limit: str
    notes: tuple[str, ...]


class ConvertReport(Face, frozen=True):
    """The answer to one `mlia convert`: the model that was made, and what was done to the user's model."""

    schema_version: str
    mlia_version: str
    converted: ModelSummary
    conversion: Conversion
    notes: tuple[str, ...]


def worst_severity(report: CheckReport) -> Severity | None:
    """The severity of the gravest advice; None when there is none."""
    found = {advice.severity for entry in report.targets for advice in entry.advised.advice}
    return next((severity for severity in (Severity.WARNING, Severity.NOTE) if severity in found), None)

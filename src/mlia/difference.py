"""CompareReport: two models, or two reports of checks, side by side. The only thing its renderers see."""

from enum import StrEnum

from msgspec import Struct

from mlia.estimates import Calibration, Source
from mlia.faces import Face
from mlia.report import Budget, ModelSummary, TargetSummary
from mlia.results import Bound, Skipped, Unit


class Match(StrEnum):
    """How an operator of one model was found in the other.

    SAME has the same name, kind and output shapes; RENAMED the same kind and shapes, at its place in the order; CHANGED
    the same name only. ADDED is in the model after alone, REMOVED in the one before.
    """

    SAME = "same"
    RENAMED = "renamed"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"


class Verdict(StrEnum):
    """What became of the time of an inference. UNKNOWN: one of the two times is not known."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUAL = "as fast"
    UNKNOWN = "not known"


class Side(Struct, frozen=True):
    """One of the two that are compared."""

    given: str
    """Path as it was given, or the model's name."""
    is_report: bool
    """Whether it is a report of a check, and not a model that was checked now."""
    mlia_version: str
    """Version of mlia that checked it."""
    model: ModelSummary
    """The model of this side."""
    notes: tuple[str, ...]
    """Notes of its check."""


class Amount(Struct, frozen=True):
    """A figure of one side with its band."""

    value: int | float | None
    """The figure, in the unit at the end of its name; null where it is not known."""
    low: int | float | None = None
    """Lower end of its band; null where the figure has none: it is counted, or nobody knows how far off it is."""
    high: int | float | None = None
    """Upper end of its band; null where the figure has none."""
    reason: str = ""
    """Why the value is not known; empty where it is."""


class Total(Struct, frozen=True):
    """A figure of the whole model, before and after."""

    figure: str
    """Name of the figure, with its unit at the end, as the report of a check has it."""
    before: Amount
    """Of the model before."""
    after: Amount
    """Of the model after."""
    difference: int | float | None
    """after - before; null where either is not known."""
    percent: float | None
    """That in percent of before; null where either is not known, or before is 0."""


class OperatorFigures(Struct, frozen=True):
    """What one operator of one side costs on a target."""

    subgraph: int
    """Number of its subgraph; 0 is the main one."""
    index: int
    """Its place in the subgraph, from 0."""
    kind: str
    """What it computes, such as CONV_2D."""
    name: str
    """Name of its first output."""
    output_shapes: tuple[tuple[int, ...], ...]
    """Shapes of its outputs."""
    data_types: tuple[str, ...]
    """Types of its outputs."""
    processor: Unit | None
    """Where it runs; null where that is not known."""
    total_cycles: int | None
    """Cycles of the processor that it runs on; null where they are not known."""
    latency_ms: float | None
    """Their time in ms, which can be compared across processors; null where it is not known."""
    bound_by: Bound | None
    """What it waits for most; null off the NPU."""
    macs: int | None
    """Multiply-accumulates of one inference; null where they are not known."""
    weights_bytes: int | None
    """Its weights as the model has them; null where they are not known."""
    compressed_weights_bytes: int | None
    """The same as the NPU stores them; null where there are none."""
    kernel: str
    """What runs it on a Cortex-M; empty on the NPU."""
    reasons: tuple[str, ...]
    """Why it is not on the NPU."""
    note: str
    """Why a figure is not known; empty where there is nothing to say."""


class OperatorDifference(Struct, frozen=True):
    """One operator, before and after."""

    match: Match
    """How it was found in the other model."""
    before: OperatorFigures | None
    """In the model before; null where that does not have it."""
    after: OperatorFigures | None
    """In the model after; null where that does not have it."""
    is_moved: bool
    """Whether it runs on the NPU on one side and on the CPU on the other."""
    difference_ms: float | None
    """Time after - before in ms, 0 for what is not there; null where a time is not known."""


class Rests(Struct, frozen=True):
    """Who estimated the time of one side on one target, and what that rests on."""

    source: Source | None
    """Who estimated it; null where nothing was estimated."""
    calibration: Calibration | None
    """What that rests on; null where the compiler's own was asked for."""


class TargetDifference(Struct, frozen=True):
    """Both models on one target."""

    target: TargetSummary
    """The target of the side after."""
    target_changes: tuple[str, ...]
    """What else the target of that name is on the side before, in words."""
    before_rests_on: Rests
    """What the figures before rest on."""
    after_rests_on: Rests
    """What the figures after rest on."""
    verdict: Verdict
    """What became of the time."""
    figure: str
    """Which of the totals the verdict is about: latency_ms, or inference_cycles where no latency is known."""
    percent: float | None
    """Difference of that figure in percent; null where it is not known."""
    is_within_bands: bool | None
    """Whether the bands of both overlap; null without bands."""
    common_percent: float | None
    """How much of the slower one's time is in operators that take as long in both, in percent; null if not known."""
    explanation: str
    """How far to believe the difference, in words."""
    totals: tuple[Total, ...]
    """Figures of the whole models."""
    operators: tuple[OperatorDifference, ...]
    """Operators of both, matched."""

    @property
    def judged(self) -> Total | None:
        """The figure that the verdict is about."""
        return next((total for total in self.totals if total.figure == self.figure), None)


class CompareReport(Face, frozen=True):
    """The answer to one `mlia compare`."""

    schema_version: str
    """Version of this schema."""
    mlia_version: str
    """Version of mlia that made the report."""
    before: Side
    """What is compared."""
    after: Side
    """What it is compared with."""
    targets: tuple[TargetDifference, ...]
    """Both on each target that both have."""
    missing_targets: tuple[Skipped, ...]
    """Targets that only one side has, each with the side that lacks it."""
    budgets: tuple[Budget, ...]
    """The limit of the regression on each target; empty where none was set."""
    notes: tuple[str, ...]
    """What a reader must know of how they compare, in sentences."""
    refused_targets: tuple[Skipped, ...] = ()
    """Targets on which a side could not be checked, each with the reason."""

    @property
    def is_over_budget(self) -> bool:
        """Whether a limit that was set is missed, or cannot be judged."""
        return not all(budget.is_kept for budget in self.budgets)

"""CompareReport: two models, or two reports of checks, side by side. The only thing its renderers see."""

from enum import StrEnum

from msgspec import Struct

from mlia.estimates import Calibration
from mlia.faces import Face
from mlia.report import Budget, ModelSummary, TargetSummary
from mlia.results import Bound, Skipped, Source, Unit


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
    """One of the two that are compared.

    `given` is the path as it was given, or the model's name; `is_report` says that it is a report of a check, which
    the version `mlia_version` made, and not a model that was checked now. `notes` are those of the check.
    """

    given: str
    is_report: bool
    mlia_version: str
    model: ModelSummary
    notes: tuple[str, ...]


class Amount(Struct, frozen=True):
    """A figure of one side with its band. `value` is None where it is not known, and `reason` says why.

    `low` and `high` are None where the figure has no band: it is counted, or nobody knows how far off it is.
    """

    value: int | float | None
    low: int | float | None = None
    high: int | float | None = None
    reason: str = ""


class Total(Struct, frozen=True):
    """A figure of the whole model, before and after. `figure` names it, with its unit at the end.

    `difference` is after - before and `percent` is that in percent of before; None where either is not known, and
    `percent` also where before is 0.
    """

    figure: str
    before: Amount
    after: Amount
    difference: int | float | None
    percent: float | None


class OperatorFigures(Struct, frozen=True):
    """What one operator of one side costs on a target.

    `total_cycles` are of the processor that it runs on: the NPU's, or the Cortex-M's. `latency_ms` is their time, and
    can be compared across both. They are None where nothing is known, and `note` says why. `reasons` say why it is
    not on the NPU. `kernel` is what runs it on a Cortex-M, empty on the NPU.
    """

    subgraph: int
    index: int
    kind: str
    name: str
    output_shapes: tuple[tuple[int, ...], ...]
    data_types: tuple[str, ...]
    processor: Unit | None
    total_cycles: int | None
    latency_ms: float | None
    bound_by: Bound | None
    macs: int | None
    weights_bytes: int | None
    compressed_weights_bytes: int | None
    kernel: str
    reasons: tuple[str, ...]
    note: str


class OperatorDifference(Struct, frozen=True):
    """One operator, before and after; None on the side that does not have it.

    `is_moved`: it runs on the NPU on one side and on the CPU on the other. `difference_ms` is after - before, where
    what is not there takes 0; None where a time is not known.
    """

    match: Match
    before: OperatorFigures | None
    after: OperatorFigures | None
    is_moved: bool
    difference_ms: float | None


class Rests(Struct, frozen=True):
    """Who estimated the time of one side on one target, and what that rests on; None where nothing was estimated."""

    source: Source | None
    calibration: Calibration | None


class TargetDifference(Struct, frozen=True):
    """Both models on one target. `target` is that of the side after.

    `target_changes` are what else the target of that name is on the side before. `figure` is the one of `totals` that
    `verdict` judges: latency_ms, or inference_cycles of the NPU where neither side's latency is known; `percent` is its
    difference. `is_within_bands` says that the bands of both overlap; None without bands. `common_percent` is how much
    of the slower one's time is in operators that take as long in both. `explanation` says how far to believe the
    difference, in words.
    """

    target: TargetSummary
    target_changes: tuple[str, ...]
    before_rests_on: Rests
    after_rests_on: Rests
    verdict: Verdict
    figure: str
    percent: float | None
    is_within_bands: bool | None
    common_percent: float | None
    explanation: str
    totals: tuple[Total, ...]
    operators: tuple[OperatorDifference, ...]

    @property
    def judged(self) -> Total | None:
        """The figure that the verdict is about."""
        return next((total for total in self.totals if total.figure == self.figure), None)


class CompareReport(Face, frozen=True):
    """The answer to one `mlia compare`.

    `missing_targets` are those that only one side has, each with the side that lacks it; `refused_targets` those on
    which a side could not be checked, each with the reason. `budgets` holds the limit of the regression on each target,
    where one was set.
    """

    schema_version: str
    mlia_version: str
    before: Side
    after: Side
    targets: tuple[TargetDifference, ...]
    missing_targets: tuple[Skipped, ...]
    budgets: tuple[Budget, ...]
    notes: tuple[str, ...]
    refused_targets: tuple[Skipped, ...] = ()

    @property
    def is_over_budget(self) -> bool:
        """Whether a limit that was set is missed, or cannot be judged."""
        return not all(budget.is_kept for budget in self.budgets)

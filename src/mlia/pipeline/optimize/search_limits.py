"""Limits: what a recipe that is searched must keep, and whether a candidate keeps it."""

from collections.abc import Callable

from msgspec import Struct

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.pipeline.optimize.candidates import Candidate

DEFAULT_LOSS = 0.01
# Of the outputs, where nothing better tells what is lost; more where quantization alone has more. With 1.25 instead of
# 1.05, ResNet-8 lost 4 points of agreement on samples that the search never saw.
DEFAULT_ERROR, ALLOWANCE = 0.1, 1.05
ROUNDING = 1e-9
DEFAULT_TIME_BUDGET_S = 60.0


class Limits(Struct, frozen=True):
    """What a recipe must keep; None is not limited. Latency and flash hold on every target."""

    max_loss: float | None = None
    """Against plain quantization: 0.01 is one point of accuracy with labels, one point of top-1 agreement without, and
    one hundredth of the figure of the user's own judge."""
    min_sqnr_db: float | None = None
    """Signal-to-quantization-noise ratio of each output in dB, at least."""
    max_relative_error: float | None = None
    """||changed - original|| / ||original|| of each output, at most."""
    max_latency_ms: float | None = None
    """Time of the whole inference in ms, at most."""
    max_flash_kib: float | None = None
    """Size of the compiled file in KiB (1024 bytes), at most."""
    time_budget_s: float = DEFAULT_TIME_BUDGET_S
    """No recipe is begun after so many seconds."""


def parse_loss(text: str) -> float:
    """A loss as the command line gives it: "1%" or "0.01".

    Raises:
        TransformError: it is no share from 0 to 1.
    """
    try:
        loss = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        loss = -1.0
    if not 0 <= loss < 1:
        raise TransformError(f"'{text}' is not a loss like 1% or 0.01")
    return loss


def checked_limits(limits: Limits) -> Limits:
    """The limits, if all of them can be.

    Raises:
        TransformError: one is out of its range.
    """
    if limits.max_loss is not None and not 0 <= limits.max_loss < 1:
        raise TransformError(f"the limit max_loss is a share from 0 to 1; {limits.max_loss:g} is not")
    for name in ("max_relative_error", "max_latency_ms", "max_flash_kib", "time_budget_s"):
        value = getattr(limits, name)
        if value is not None and not 0 < value < float("inf"):
            raise TransformError(f"the limit {name} is above 0; {value:g} is not")
    if limits.min_sqnr_db is not None and not abs(limits.min_sqnr_db) < float("inf"):
        raise TransformError("the limit min_sqnr_db is a number of decibels")
    return limits


class Verdicts(Struct, frozen=True):
    """Judges candidates by limits, beside the model before.

    `score` asks the user's own judge; it returns None without one.
    """

    limits: Limits
    plain: Candidate
    score: Callable[[Graph], float | None]

    def objection(self, candidate: Candidate) -> str | None:
        """Which limit a candidate breaks, in a few words; None when it keeps all."""
        return self.too_far(candidate) or self.missed_budget(candidate)

    def overshoot(self, candidate: Candidate) -> float:
        """By what factor it misses the limits of latency and flash, on the target where most; 1 when it keeps them."""
        worst = 1.0
        for cost in candidate.costs:
            known_ms, flash_kib = cost.performance.known_ms, cost.performance.flash_bytes / 1024
            if self.limits.max_latency_ms is not None and known_ms is not None:
                worst = max(worst, known_ms / self.limits.max_latency_ms)
            if self.limits.max_flash_kib is not None:
                worst = max(worst, flash_kib / self.limits.max_flash_kib)
        return worst

    def missed_budget(self, candidate: Candidate) -> str | None:
        """Which limit of latency or flash it breaks."""
        limits = self.limits
        for cost in candidate.costs:
            known_ms, flash_kib = cost.performance.known_ms, cost.performance.flash_bytes / 1024
            if limits.max_latency_ms is not None and known_ms is not None and known_ms > limits.max_latency_ms:
                return f"{known_ms:.3f} ms is above {limits.max_latency_ms:g} ms"
            if limits.max_flash_kib is not None and flash_kib > limits.max_flash_kib:
                return f"{flash_kib:.1f} KiB of flash is above {limits.max_flash_kib:g} KiB"
        return None

    def too_far(self, candidate: Candidate) -> str | None:
        """Which limit of closeness it breaks."""
        limits, found = self.limits, candidate.worst
        if limits.min_sqnr_db is not None and found.sqnr_db is not None and found.sqnr_db < limits.min_sqnr_db:
            return f"SQNR {found.sqnr_db:.1f} dB is below {limits.min_sqnr_db:g} dB"
        largest = self.largest_error
        if largest is not None and found.relative_error > largest:
            return f"relative error {found.relative_error:.3f} is above {largest:.3f}"
        if self.largest_loss is not None and not self._loss(candidate) <= self.largest_loss + ROUNDING:
            return f"a loss of {100 * self._loss(candidate):.1f} % is above {100 * self.largest_loss:g} %"
        return None

    @property
    def largest_loss(self) -> float | None:
        """The limit of loss: the one given, or the usual one where no other limit of closeness is."""
        limits = self.limits
        if limits.max_loss is None and limits.min_sqnr_db is None and limits.max_relative_error is None:
            return DEFAULT_LOSS
        return limits.max_loss

    @property
    def largest_error(self) -> float | None:
        """The limit of the relative error. A loss that no labels or judge can tell is bounded by it as well.

        Agreement alone cannot: on samples that all are of one class, everything agrees.
        """
        limits = self.limits
        if limits.max_relative_error is not None or self.largest_loss is None or self.has_accuracy:
            return limits.max_relative_error
        return max(DEFAULT_ERROR, ALLOWANCE * self.plain.error)

    @property
    def has_accuracy(self) -> bool:
        """Whether labels or the user's own judge tell what is lost."""
        return self.score(self.plain.graph) is not None or self.plain.fidelity.quantized_accuracy is not None

    def _loss(self, candidate: Candidate) -> float:
        """What is lost against the model before: of the user's score, of accuracy, or of top-1 agreement."""
        before, after = self.score(self.plain.graph), self.score(candidate.graph)
        if before is not None and after is not None:
            return (before - after) / abs(before) if before else before - after
        old, new = self.plain.fidelity, candidate.fidelity
        if old.quantized_accuracy is not None and new.quantized_accuracy is not None:
            return old.quantized_accuracy - new.quantized_accuracy
        pairs = zip(old.outputs, new.outputs, strict=True)
        return max((left.top1_agreement or 0.0) - (right.top1_agreement or 0.0) for left, right in pairs)

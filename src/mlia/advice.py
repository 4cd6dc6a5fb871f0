"""What is advised, as data: the offence, its evidence, the remedy, and what the remedy brought when it was tried."""

from enum import StrEnum

from msgspec import Struct

from mlia.figures import Figures
from mlia.results import OperatorId, Skipped


class Severity(StrEnum):
    """WARNING: something does not run where or as it should. NOTE: it runs, and could run better."""

    WARNING = "warning"
    NOTE = "note"


class Safety(StrEnum):
    """What a remedy does to the numbers that a model computes.

    LOSSLESS changes none of them, VALIDATE may change them or the model's interface, so that accuracy or callers
    must be looked at, and MANUAL is for a person to do. A change of the target is LOSSLESS.
    """

    LOSSLESS = "lossless"
    VALIDATE = "needs validation"
    MANUAL = "manual"


class Attempt(Struct, frozen=True, tag_field="type", tag="attempt"):
    """A remedy tried on a copy of the model or the target, and what the same check says before and after.

    `is_gain` says whether that is worth having. `target` names the target of `after` when the remedy changed that.
    `kept_as` is the file that the copy was written to, or empty.
    """

    what: str
    safety: Safety
    before: Figures
    after: Figures
    is_gain: bool
    target: str = ""
    kept_as: str = ""


class Advice(Struct, frozen=True):
    """One thing to do about this model on this target.

    `attempts` has the best first; a remedy that was not tried is there with its reason. `saved_ms` and
    `saved_sram_bytes` are what the best one saves, negative when it costs more, None without one. `at_stake_ms` is
    the time of what the advice is about, an upper bound of what can be saved.
    """

    code: str
    name: str
    severity: Severity
    operators: tuple[OperatorId, ...]
    evidence: str
    remedy: str
    safety: Safety
    attempts: tuple[Attempt | Skipped, ...]
    saved_ms: float | None
    saved_sram_bytes: int | None
    at_stake_ms: float | None


class Advised(Struct, frozen=True):
    """What all rules said: advice, the most useful first; and the codes of rules that found nothing.

    `skipped` are rules that do not apply, with the reason; `rejected` are remedies that were tried and brought
    nothing, so that they are no advice.
    """

    advice: tuple[Advice, ...]
    passed: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    rejected: tuple[Skipped, ...]

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
    """A remedy tried on a copy of the model or the target, and what the same check says before and after."""

    what: str
    """What the remedy did, in words."""
    safety: Safety
    """What it does to the numbers that the model computes."""
    before: Figures
    """What the model costs without it."""
    after: Figures
    """What it costs with it."""
    is_gain: bool
    """Whether that is worth having."""
    target: str = ""
    """Name of the target of `after`, where the remedy changed that; empty where it did not."""
    kept_as: str = ""
    """File that the copy was written to; empty where it was not."""


class Advice(Struct, frozen=True):
    """One thing to do about this model on this target."""

    code: str
    """Code of the rule, such as PER002; `mlia explain CODE` prints its page."""
    name: str
    """Name of the rule."""
    severity: Severity
    """How grave it is."""
    operators: tuple[OperatorId, ...]
    """What it is about; empty for the model as a whole."""
    evidence: str
    """What was found, with its figures."""
    remedy: str
    """What to do."""
    safety: Safety
    """What doing so does to the numbers that the model computes."""
    attempts: tuple[Attempt | Skipped, ...]
    """Remedies that were tried, the best first; one that was not is there with the reason."""
    saved_ms: float | None
    """What the best attempt saves in ms, negative where it costs more; null without an attempt."""
    saved_sram_bytes: int | None
    """What it saves of SRAM, negative where it costs more; null without an attempt."""
    at_stake_ms: float | None
    """Time in ms of what the advice is about, an upper bound of what can be saved; null where it is not known."""


class Advised(Struct, frozen=True):
    """What all rules said."""

    advice: tuple[Advice, ...]
    """What was found, the most useful first."""
    passed: tuple[str, ...]
    """Codes of the rules that found nothing."""
    skipped: tuple[Skipped, ...]
    """Rules that do not apply, each with the reason."""
    rejected: tuple[Skipped, ...]
    """Remedies that were tried and brought nothing, so that they are no advice."""

"""VerifyReport: what executing a compiled model showed, tensor by tensor. The only thing its renderer sees."""

from enum import StrEnum

from msgspec import Struct

from mlia.estimates import Source
from mlia.faces import Face
from mlia.report import ModelSummary, TargetSummary
from mlia.results import Compiled, OperatorId, Skipped


class Outcome(StrEnum):
    """How a tensor compares with the reference: bit by bit the same, different for a reason that is known, or not.

    What is not judged differs, and so may something that it reads and that cannot be seen. What is not compared cannot
    be seen itself. What is not computed has no kernel in LiteRT, or depends on such an operator.
    """

    EXACT = "exact"
    DOCUMENTED = "documented"
    DIFFERENT = "different"
    NOT_JUDGED = "not judged"
    NOT_COMPARED = "not compared"
    NOT_COMPUTED = "not computed"


class TensorCheck(Struct, frozen=True):
    """One tensor, over all samples."""

    operator: OperatorId | None
    """The operator that makes it; null for outputs as a whole."""
    kind: str
    """What that operator computes."""
    name: str
    """Name of the tensor."""
    outcome: Outcome
    """How it compares with the reference."""
    elements: int
    """How many elements were compared, over all samples."""
    different_elements: int
    """How many of them differ."""
    largest_codes: int
    """The largest difference in quantization steps (LSB)."""
    reason: str
    """Why the difference is legitimate, or why nothing was compared; empty where there is nothing to say."""


class Danger(Struct, frozen=True):
    """Something in a command stream that memory or order forbids."""

    stream: int
    """Number of the command stream, from 0."""
    offset: int
    """Place of the command in the stream, in bytes."""
    kind: str
    """What kind of danger it is."""
    what: str
    """What is wrong, in words."""
    certain: bool = True
    """False where it only cannot be ruled out: the rule that forbids it is inferred, and the compiler's own allows
    it."""


class VerifyReport(Face, frozen=True):
    """The answer to one `mlia verify`."""

    schema_version: str
    """Version of this schema."""
    mlia_version: str
    """Version of mlia that made the report."""
    model: ModelSummary
    """The user's model, before it was quantized or compiled."""
    target: TargetSummary | None
    """What it was compiled for; null for a compiled model that no target was named for."""
    compiled: tuple[Compiled, ...]
    """What the command streams were compiled for, by their headers."""
    source: Source
    """Who executed the compiled model."""
    reference: Source
    """What it is compared with."""
    samples: str
    """On which inputs, in words."""
    npu_segments: int
    """How many command streams there are."""
    host_operators: int
    """How many operators of the compiled model run on the host."""
    outputs: tuple[TensorCheck, ...]
    """Verdict on each output; empty where there is no model to compare with."""
    operators: tuple[TensorCheck, ...]
    """Verdict on each operator's output; empty where there is no model to compare with."""
    dangers: tuple[Danger, ...]
    """What is dangerous in the command streams; empty where nothing is."""
    skipped: tuple[Skipped, ...]
    """What was not done, with the reason."""
    notes: tuple[str, ...]
    """What a reader must know of how this was found, in sentences."""

    @property
    def is_unexplained(self) -> bool:
        """Whether anything differs without a known reason, or is certainly dangerous."""
        checks = (*self.outputs, *self.operators)
        is_dangerous = any(danger.certain for danger in self.dangers)
        return is_dangerous or any(check.outcome == Outcome.DIFFERENT for check in checks)

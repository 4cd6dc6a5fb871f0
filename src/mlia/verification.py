"""VerifyReport: what executing a compiled model showed, tensor by tensor. The only thing its renderer sees."""

from enum import StrEnum

from msgspec import Struct

from mlia.faces import Face
from mlia.report import ModelSummary, TargetSummary
from mlia.results import Compiled, OperatorId, Skipped, Source


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
    """One tensor, over all samples. `operator` is the one that makes it, None for outputs as a whole.

    `largest_codes` is the largest difference in codes (LSB), of `different_elements` out of `elements`. `reason` says
    why the difference is legitimate, or why nothing was compared.
    """

    operator: OperatorId | None
    kind: str
    name: str
    outcome: Outcome
    elements: int
    different_elements: int
    largest_codes: int
    reason: str


class Danger(Struct, frozen=True):
    """Something in a command stream that memory or order forbids. `offset` is of the command, in bytes.

    What is not `certain` cannot be ruled out: the rule that forbids it is inferred, and the compiler's own allows it.
    """

    stream: int
    offset: int
    kind: str
    what: str
    certain: bool = True


class VerifyReport(Face, frozen=True):
    """The answer to one `mlia verify`. `outputs` and `operators` are empty where there is no model to compare with.

    `target` is None for a compiled model that no target was named for; `compiled` says what it was compiled for.
    """

    schema_version: str
    mlia_version: str
    model: ModelSummary
    target: TargetSummary | None
    compiled: tuple[Compiled, ...]
    source: Source
    reference: Source
    samples: str
    npu_segments: int
    host_operators: int
    outputs: tuple[TensorCheck, ...]
    operators: tuple[TensorCheck, ...]
    dangers: tuple[Danger, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @property
    def is_unexplained(self) -> bool:
        """Whether anything differs without a known reason, or is certainly dangerous."""
        checks = (*self.outputs, *self.operators)
        is_dangerous = any(danger.certain for danger in self.dangers)
        return is_dangerous or any(check.outcome == Outcome.DIFFERENT for check in checks)

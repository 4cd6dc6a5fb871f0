"""Accuracy: how far estimates are from published measurements. The only thing that its renderer sees."""

from msgspec import Struct

from mlia.targets.coefficients import Coefficients


class AccuracyRow(Struct, frozen=True):
    """One measurement beside Vela's estimate and the calibrated one, in cycles in which the NPU was active.

    `kind` is network, operator (a model of one) or layer (of a network). The calibrated estimate is from a fit that had
    not seen the network or, of single operators, the shape.
    """

    family: str
    macs: int
    system_config: str
    kind: str
    model: str
    what: str
    measured_cycles: int
    vela_cycles: int
    calibrated_cycles: int
    source: str

    @property
    def vela_percent(self) -> float:
        """How far Vela's estimate is off, in percent of what was measured."""
        return 100 * (self.vela_cycles / self.measured_cycles - 1)

    @property
    def calibrated_percent(self) -> float:
        """How far the calibrated estimate is off, in percent of what was measured."""
        return 100 * (self.calibrated_cycles / self.measured_cycles - 1)


class ErrorSummary(Struct, frozen=True):
    """Errors in percent: the mean of their sizes, their mean (bias), and the largest with its sign."""

    mean_absolute: float
    bias: float
    worst: float


class FamilyAccuracy(Struct, frozen=True):
    """How far the estimates for one family are off, for networks, operators or layers."""

    family: str
    kind: str
    measurements: int
    vela: ErrorSummary
    calibrated: ErrorSummary


class Unmeasured(Struct, frozen=True):
    """What there are no measurements of, on one family."""

    family: str
    what: tuple[str, ...]


class Accuracy(Struct, frozen=True):
    """The answer to `mlia accuracy`."""

    schema_version: str
    mlia_version: str
    families: tuple[FamilyAccuracy, ...]
    unmeasured: tuple[Unmeasured, ...]
    sources: tuple[str, ...]
    rows: tuple[AccuracyRow, ...]


class FittedRun(Struct, frozen=True):
    """One measured run of a user beside the estimates, in cycles of the NPU.

    `before_cycles` are by the coefficients as they were, `after_cycles` by the new ones, and `unseen_cycles` by a fit
    to all other models.
    """

    model: str
    measured_cycles: int
    vela_cycles: int
    before_cycles: int
    after_cycles: int
    unseen_cycles: int
    source: str


class FittedParameter(Struct, frozen=True):
    """One parameter of the timing model, before and after."""

    name: str
    before: float
    after: float


class Refinement(Struct, frozen=True):
    """The answer to `mlia calibrate`. Errors are mean absolute ones over the runs, in percent.

    `unseen_percent` is the error of each model by a fit to the others: what to expect of a model that was not measured.
    `is_kept` when the parameters stayed as they were, because no fit helped models that it had not seen.
    `coefficients` are what the profile gets. `hint` says what else may be wrong. `file` is where the profile was
    written; empty for nowhere.
    """

    schema_version: str
    mlia_version: str
    target: str
    runs: tuple[FittedRun, ...]
    models: int
    vela_percent: float
    before_percent: float
    after_percent: float
    unseen_percent: float
    is_kept: bool
    parameters: tuple[FittedParameter, ...]
    coefficients: Coefficients
    hint: str
    file: str

"""AccuracyReport: how far estimates are from published measurements. The only thing that its renderer sees."""

from msgspec import Struct

from mlia.faces import Face
from mlia.targets.coefficients import Coefficients


class AccuracyRow(Struct, frozen=True):
    """One measurement beside Vela's estimate and the calibrated one, in cycles in which the NPU was active.

    Cycles were read in steps of `grid_cycles` (0: exactly), so estimates are judged by the middle of the step.
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
    grid_cycles: int
    vela_cycles: int
    calibrated_cycles: int
    source: str

    @property
    def judged_cycles(self) -> float:
        """What estimates are compared with."""
        return self.measured_cycles - self.grid_cycles / 2

    @property
    def vela_percent(self) -> float:
        """How far Vela's estimate is off, in percent of what was measured."""
        return 100 * (self.vela_cycles / self.judged_cycles - 1)

    @property
    def calibrated_percent(self) -> float:
        """How far the calibrated estimate is off, in percent of what was measured."""
        return 100 * (self.calibrated_cycles / self.judged_cycles - 1)


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


class AccuracyReport(Face, frozen=True):
    """The answer to `mlia accuracy`; `left_out` says which measurements are in no row, and why."""

    schema_version: str
    mlia_version: str
    families: tuple[FamilyAccuracy, ...]
    unmeasured: tuple[Unmeasured, ...]
    left_out: tuple[str, ...]
    sources: tuple[str, ...]
    rows: tuple[AccuracyRow, ...]


class FittedRun(Struct, frozen=True):
    """One measured run of a user beside the estimates, in cycles of the NPU.

    `shipped_cycles` are by the parameters that ship for the family, `fitted_cycles` by those that the profile gets, and
    `unseen_cycles` by parameters that had not seen this model: of a fit to all others, or what ships.
    """

    model: str
    measured_cycles: int
    vela_cycles: int
    shipped_cycles: int
    unseen_cycles: int
    fitted_cycles: int
    source: str


class FittedParameter(Struct, frozen=True):
    """One parameter of the timing model, as it ships and as the profile gets it."""

    name: str
    shipped: float
    fitted: float


class CalibrateReport(Face, frozen=True):
    """The answer to `mlia calibrate`. Errors are mean absolute ones over the runs, in percent.

    `unseen_percent` is what to expect of a model that was not measured: the error of each model by a fit to the others,
    or, where no such fit was better than what ships (`is_kept`) or there are no others, the error of that.
    `coefficients` are what the profile gets. `hint` says what else may be wrong. `file` is where the profile was
    written; empty for nowhere.
    """

    schema_version: str
    mlia_version: str
    target: str
    runs: tuple[FittedRun, ...]
    models: int
    vela_percent: float
    shipped_percent: float
    unseen_percent: float
    fitted_percent: float
    is_kept: bool
    parameters: tuple[FittedParameter, ...]
    coefficients: Coefficients
    hint: str
    file: str

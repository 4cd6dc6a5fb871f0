"""AccuracyReport: how far estimates are from published measurements. The only thing that its renderer sees."""

from msgspec import Struct

from mlia.faces import Face
from mlia.targets.coefficients import Coefficients


class AccuracyRow(Struct, frozen=True):
    """One measurement beside both estimates, in cycles in which the NPU was active."""

    family: str
    """Family of the NPU, such as ethos-u55."""
    macs: int
    """Multiply-accumulates per cycle of the NPU."""
    system_config: str
    """Name of Vela's system configuration that was measured."""
    kind: str
    """What was measured: network, series (a network on memories that were varied), operator (a model of one) or layer
    (of a network)."""
    model: str
    """Name of the model."""
    what: str
    """Which part of it; empty for a whole network."""
    measured_cycles: int
    """Cycles that were measured."""
    grid_cycles: int
    """Step in which they were read, 0 for exactly; estimates are judged by the middle of the step."""
    vela_cycles: int
    """Vela's estimate."""
    calibrated_cycles: int
    """The calibrated estimate, by a fit that had not seen the network or, of single operators, the shape."""
    source: str
    """Who published the measurement."""
    band_low: float
    """What is measured should be at least so many times the calibrated estimate, as the report of that model says."""
    band_high: float
    """It should be at most so many times that."""

    @property
    def is_inside(self) -> bool:
        """Whether the measurement is within the band."""
        return self.band_low <= self.judged_cycles / self.calibrated_cycles <= self.band_high

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
    """Errors in percent of what was measured."""

    mean_absolute: float
    """Mean of their sizes."""
    bias: float
    """Their mean, with signs."""
    worst: float
    """The largest, with its sign."""


class FamilyAccuracy(Struct, frozen=True):
    """How far the estimates for one family are off."""

    family: str
    """Family of the NPU."""
    kind: str
    """Of what: networks, series, operators or layers, in the singular."""
    measurements: int
    """How many were measured."""
    vela: ErrorSummary
    """Errors of Vela's estimate."""
    calibrated: ErrorSummary
    """Errors of the calibrated estimate."""
    inside_percent: float
    """Measurements within the band that the report of that model says, in percent of all of them."""

    @property
    def plural(self) -> str:
        """What these are, in the plural."""
        return self.kind if self.kind.endswith("s") else f"{self.kind}s"


class Unmeasured(Struct, frozen=True):
    """What there are no measurements of, on one family."""

    family: str
    """Family of the NPU."""
    what: tuple[str, ...]
    """Kinds of work, in words."""


class AccuracyReport(Face, frozen=True):
    """The answer to `mlia accuracy`."""

    schema_version: str
    """Version of this schema."""
    mlia_version: str
    """Version of mlia that made the report."""
    families: tuple[FamilyAccuracy, ...]
    """Errors in sum, for each family and kind."""
    unmeasured: tuple[Unmeasured, ...]
    """What nothing was measured of."""
    left_out: tuple[str, ...]
    """Which measurements are in no row, and why."""
    sources: tuple[str, ...]
    """Who published the measurements."""
    rows: tuple[AccuracyRow, ...]
    """Every measurement beside the estimates."""


class FittedRun(Struct, frozen=True):
    """One measured run of a user beside the estimates, in cycles of the NPU."""

    model: str
    """Name of the model."""
    measured_cycles: int
    """Cycles that were measured."""
    vela_cycles: int
    """Vela's estimate."""
    shipped_cycles: int
    """By the parameters that ship for the family."""
    unseen_cycles: int
    """By parameters that had not seen this model: of a fit to all others, or what ships."""
    fitted_cycles: int
    """By the parameters that the profile gets."""
    source: str
    """The table or log that the run is from."""


class FittedParameter(Struct, frozen=True):
    """One parameter of the timing model."""

    name: str
    """Name of the parameter."""
    shipped: float
    """As it ships for the family."""
    fitted: float
    """As the profile gets it."""


class CalibrateReport(Face, frozen=True):
    """The answer to `mlia calibrate`. Errors are mean absolute ones over the runs."""

    schema_version: str
    """Version of this schema."""
    mlia_version: str
    """Version of mlia that made the report."""
    target: str
    """Name of the target."""
    runs: tuple[FittedRun, ...]
    """Every run beside the estimates."""
    models: int
    """How many different models were measured."""
    vela_percent: float
    """Error of Vela's estimate in percent."""
    shipped_percent: float
    """Error of the parameters that ship, in percent."""
    unseen_percent: float
    """What to expect of a model that was not measured, in percent: the error by parameters that had not seen it."""
    fitted_percent: float
    """Error of the parameters that the profile gets, in percent."""
    is_kept: bool
    """Whether what ships is kept, because no fit was better for models that it had not seen."""
    parameters: tuple[FittedParameter, ...]
    """Parameters before and after."""
    coefficients: Coefficients
    """What the profile gets."""
    hint: str
    """What else may be wrong; empty where nothing seems to be."""
    file: str
    """Where the profile was written; empty for nowhere."""

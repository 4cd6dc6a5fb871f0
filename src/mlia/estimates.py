"""Who estimates the time of the NPU, and what that rests on."""

from enum import StrEnum

from msgspec import Struct


class Estimator(StrEnum):
    """Whose estimate of the NPU's time is told: that fitted to measurements, or the compiler's own."""

    CALIBRATED = "calibrated"
    VELA = "vela"


class Evidence(Struct, frozen=True):
    """How good a calibrated estimate is, as far as measurements tell.

    What is measured should be band_low..band_high times the estimate. The errors are mean absolute ones on what
    `judged_on` says, as a rule networks that the fit had not seen; `n` measurements were fitted, or judge it.
    """

    fitted_on: tuple[str, ...]
    judged_on: str
    n: int
    error_percent: float
    vela_error_percent: float
    band_low: float
    band_high: float
    note: str


class Calibration(Evidence, frozen=True):
    """What the estimate of one model on one target rests on.

    `not_measured` is what this model or target has that no measurement had: with any of it, nobody knows whether the
    band holds.
    """

    not_measured: tuple[str, ...]

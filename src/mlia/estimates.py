"""Who estimates the time of the NPU, and what that rests on."""

from enum import StrEnum

from msgspec import Struct


class Estimator(StrEnum):
    """Whose estimate of the NPU's time is told: that fitted to measurements, or the compiler's own."""

    CALIBRATED = "calibrated"
    VELA = "vela"


class Calibration(Struct, frozen=True):
    """What a calibrated estimate rests on.

    What is measured should be band_low..band_high times the estimate; `n` measurements were fitted. The errors are
    mean absolute ones of networks that the fit had not seen. `not_measured` is what this model or target has that no
    measurement had: with any of it, nobody knows whether the band holds.
    """

    fitted_on: tuple[str, ...]
    n: int
    error_percent: float
    vela_error_percent: float
    band_low: float
    band_high: float
    not_measured: tuple[str, ...]
    note: str

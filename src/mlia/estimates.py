"""Where figures come from: who estimates the time of the NPU, and what that rests on."""

from enum import StrEnum

from msgspec import Struct


class Estimator(StrEnum):
    """Whose estimate of the NPU's time is told: that fitted to measurements, or the compiler's own."""

    CALIBRATED = "calibrated"
    VELA = "vela"


class Origin(StrEnum):
    """What a figure is: computed by a model of the hardware, executed in a simulator, or measured."""

    ESTIMATED = "estimated"
    SIMULATED = "simulated"
    MEASURED = "measured"


class Source(Struct, frozen=True):
    """Where figures come from."""

    origin: Origin
    """What the figures are."""
    by: str
    """Who made them."""
    version: str
    """Version of that, or the day from which it is."""


class Evidence(Struct, frozen=True):
    """How good a calibrated estimate is, as far as measurements tell."""

    fitted_on: tuple[str, ...]
    """Measurements that the parameters were fitted on."""
    judged_on: str
    """What the errors are of; as a rule networks that the fit had not seen."""
    n: int
    """How many measurements were fitted, or judge it."""
    error_percent: float
    """Mean size of the errors of the calibrated estimate, in percent of what was measured."""
    vela_error_percent: float
    """Mean size of the errors of the compiler's own estimate, in percent of what was measured."""
    band_low: float
    """What is measured should be at least so many times the estimate."""
    band_high: float
    """What is measured should be at most so many times the estimate."""
    note: str
    """What else to know; empty where there is nothing."""


class Calibration(Evidence, frozen=True):
    """What the estimate of one model on one target rests on; the band is of what is like that model."""

    not_measured: tuple[str, ...]
    """What this model or target has that no measurement had; with any of it nobody knows whether the band holds."""
    like: str = ""
    """What was measured that is like it; empty where nothing is, and the band is assumed."""
    why: str = ""
    """Why the estimate is far from the compiler's own; empty where they are near each other."""

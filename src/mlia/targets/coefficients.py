"""The coefficients with which the time of an Ethos-U is estimated: values, what they were fitted on and how well.

Those of each family ship with the project; a target profile can bring its own, refined on measurements of that board.
"""

import math

from msgspec import Struct
from msgspec.structs import asdict

from mlia.errors import TargetError
from mlia.estimates import Evidence


class Physics(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of the timing model; mlia/backends/ethos_u/timing.py says where each of them acts."""

    counts_macs: bool
    """Whether MACs are counted from shapes, for Vela's cycles of them hold more than the hardware spends."""
    sram_share: float
    """Share of the bandwidth of the SRAM that a step can use."""
    request_bytes: float
    """Bytes that one request moves for a feature map that lies as NHWC; every other request moves a whole burst."""
    requests: float
    """Requests that the units have under way at most, for inputs and for outputs."""
    weight_requests: float
    """Requests that the decoder of weights has under way at most."""
    copy_requests: float
    """Requests that the DMA has under way at most, when it copies weights into a buffer."""
    decoded_weights: float
    """Weights, zeros included, that the decoder gives in a cycle from each stream; 0 for no limit."""
    start_latencies: float
    """Latencies of the memory with the constants, where its commands are, that each launch waits for to begin."""
    fill: float
    """Share of one block's work that nothing overlaps."""
    kept_bytes: float
    """Bytes of a block's input that stay in the NPU for the next slice of output channels; 0 for what Vela counts."""
    memory_share: float = 1.0
    """As sram_share, of the memory behind the SRAM; above 1 where that is faster than the target says."""


class Band(Struct, frozen=True, forbid_unknown_fields=True):
    """Within which multiples of the estimate a measurement should be, of models that are like what was measured."""

    like: str
    """What these models are, in a few words."""
    low: float
    """What is measured should be at least so many times the estimate."""
    high: float
    """What is measured should be at most so many times the estimate."""
    networks: int
    """How many networks, or shapes of single operators, it rests on; each was left out of the fit in turn."""
    runs: int
    """How many runs of these."""
    error_percent: float
    """Mean size of the errors of these runs, in percent of what was measured."""


class Coefficients(Evidence, frozen=True, forbid_unknown_fields=True):
    """What estimates the time of one family, or of one board with an NPU of that family."""

    family: str
    """Name of the family."""
    without: tuple[str, ...]
    """Kinds of work of which nothing was measured."""
    measured_memories: tuple[str, ...]
    """Memories with which was measured."""
    physics: Physics
    """The parameters."""
    bands: tuple[Band, ...] = ()
    """By what a model is like; a board's own runs have none, for all of them have one band."""


# What each parameter can be, in a profile and for a fit.
BOUNDS = {
    "sram_share": (0.05, 1.0),
    "memory_share": (0.02, 4.0),
    "request_bytes": (1.0, 256.0),
    "requests": (1.0, 1024.0),
    "weight_requests": (1.0, 1024.0),
    "copy_requests": (1.0, 1024.0),
    "decoded_weights": (0.0, 1024.0),
    "start_latencies": (0.0, 100.0),
    "fill": (0.0, 1.0),
    "kept_bytes": (0.0, 1e6),
}


def check_coefficients(found: Coefficients, family: str) -> None:
    """Refuse figures that no fit gives: the estimate would compute with them.

    Raises:
        TargetError: of another family, or a figure beyond reason.
    """
    if found.family != family:
        raise TargetError(f"coefficients are for {found.family}, and the NPU is of the family {family}")
    for name, (low, high) in BOUNDS.items():
        value = asdict(found.physics)[name]
        if not low <= value <= high:
            raise TargetError(f"coefficients.physics.{name} is {value:g}; it can be {low:g} to {high:g}")
    for low, high in ((found.band_low, found.band_high), *((band.low, band.high) for band in found.bands)):
        if not 0 < low <= 1 <= high < math.inf:
            raise TargetError("coefficients: the band must have 1 in it, from band_low above 0 to band_high")
    if not 0 <= found.error_percent < math.inf or not 0 <= found.vela_error_percent < math.inf:
        raise TargetError("coefficients: an error in percent cannot be negative or without an end")
    if found.n < 1 or not found.fitted_on or not found.judged_on:
        raise TargetError("coefficients: they must say on how many measurements (n) they rest (fitted_on, judged_on)")

"""The coefficients with which the time of an Ethos-U is estimated: values, what they were fitted on and how well.

Those of each family ship with the project; a target profile can bring its own, refined on measurements of that board.
"""

import math

from msgspec import Struct
from msgspec.structs import asdict

from mlia.errors import TargetError
from mlia.estimates import Evidence


class Physics(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of the model; the text of mlia/backends/ethos_u/timing.py says where each of them acts.

    `counts_macs` when MACs are counted from shapes, for Vela's cycles of them hold more than the hardware spends.
    `sram_share` is the share of the bandwidth of the SRAM that a step can use, `memory_share` that of the memory behind
    it, which is above 1 where that memory is faster than the target says.
    Of the requests that a memory accepts at once (`requests` where it does not say how many), one for a feature map
    moves `request_bytes` and one for weights `weight_request_bytes`. The decoder of weights has all of them under way,
    the DMA that copies weights into a buffer `copy_requests` at most.
    `decoded_weights` are what the decoder gives in a cycle from each stream, zeros included; 0 for no limit.
    `start_latencies` are how many latencies a step takes to begin when its weights are in the memory behind the SRAM.
    `fill` is the share of one block's work that nothing overlaps. Of the input of a block, `kept_bytes` stay in the
    NPU for the next slice of output channels and the rest is read again; 0 for what Vela counts.
    """

    counts_macs: bool
    sram_share: float
    request_bytes: float
    requests: float
    weight_request_bytes: float
    copy_requests: float
    decoded_weights: float
    start_latencies: float
    fill: float
    kept_bytes: float
    memory_share: float = 1.0


class Coefficients(Evidence, frozen=True, forbid_unknown_fields=True):
    """Of one family, or of one board with an NPU of that family.

    `without` are kinds of work of which nothing was measured.
    """

    family: str
    without: tuple[str, ...]
    measured_memories: tuple[str, ...]
    physics: Physics


# What each parameter can be, in a profile and for a fit.
BOUNDS = {
    "sram_share": (0.05, 1.0),
    "memory_share": (0.02, 4.0),
    "request_bytes": (1.0, 256.0),
    "requests": (1.0, 1024.0),
    "weight_request_bytes": (4.0, 4096.0),
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
    if not 0 < found.band_low <= 1 <= found.band_high < math.inf:
        raise TargetError("coefficients: the band must have 1 in it, from band_low above 0 to band_high")
    if not 0 <= found.error_percent < math.inf or not 0 <= found.vela_error_percent < math.inf:
        raise TargetError("coefficients: an error in percent cannot be negative or without an end")
    if found.n < 1 or not found.fitted_on or not found.judged_on:
        raise TargetError("coefficients: they must say on how many measurements (n) they rest (fitted_on, judged_on)")

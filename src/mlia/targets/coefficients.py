"""The coefficients with which the time of an Ethos-U is estimated: values, what they were fitted on and how well.

Those of each family ship with the project; a target profile can bring its own, refined on measurements of that board.
"""

import math

from msgspec import Struct
from msgspec.structs import asdict

from mlia.errors import TargetError


class Physics(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of the model; the text of mlia/backends/ethos_u/timing.py says where each of them acts.

    `counts_macs` when MACs are counted from shapes, for Vela's cycles of them hold more than the hardware spends;
    `block_cycles` go to each block of the output.
    `sram_share` is the share of the bandwidth of the SRAM that a step can use, `memory_share` that of the memory behind
    it, which is above 1 where that memory is faster than the target says. `request_bytes` are moved by one of the
    requests for feature maps that a memory accepts at once, `requests` how many where the memory does not say;
    `decoder_bytes` and `copy_bytes` are under way at once for weights on their way to the decoder or a buffer.
    `fill` is the share of one block's work that nothing overlaps. Of the input of a block, `kept_bytes` stay in the
    NPU for the next slice of output channels and the rest is read again; 0 for what Vela counts.
    """

    counts_macs: bool
    block_cycles: float
    sram_share: float
    request_bytes: float
    requests: float
    decoder_bytes: float
    copy_bytes: float
    fill: float
    kept_bytes: float
    memory_share: float = 1.0


class Coefficients(Struct, frozen=True, forbid_unknown_fields=True):
    """Of one family. The true figure is expected between band_low and band_high times the estimate.

    `n` rows of measurements; `error_percent` is the mean absolute error of networks that the fit had not seen, and
    `vela_error_percent` that of Vela's own estimate; `without` are kinds of work of which nothing was measured.
    """

    family: str
    fitted_on: tuple[str, ...]
    n: int
    error_percent: float
    vela_error_percent: float
    band_low: float
    band_high: float
    note: str
    without: tuple[str, ...]
    measured_memories: tuple[str, ...]
    physics: Physics


# What a fit may find for each parameter that it changes, and what a profile may say.
BOUNDS = {
    "block_cycles": (0.0, 500.0),
    "sram_share": (0.05, 1.0),
    "request_bytes": (1.0, 256.0),
    "requests": (1.0, 1024.0),
    "decoder_bytes": (64.0, 1e6),
    "copy_bytes": (64.0, 1e6),
    "fill": (0.0, 1.0),
    "kept_bytes": (0.0, 1e6),
    "memory_share": (0.02, 4.0),
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
    if found.n < 1:
        raise TargetError("coefficients: n is the number of measurements, and must be at least 1")

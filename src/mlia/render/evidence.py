"""What a calibrated estimate rests on -> labeled lines of a report."""

from collections.abc import Sequence

from mlia.estimates import Calibration, Evidence
from mlia.report import MemorySummary


def band_text(rests: Evidence) -> str:
    """Within how much of the estimate a measurement should be: "±5 %" or "-24..+32 %"."""
    low, high = (round(100 * (share - 1)) for share in (rests.band_low, rests.band_high))
    return f"±{high} %" if low == -high else f"{low:+d}..{high:+d} %"


def memories_text(memories: Sequence[MemorySummary]) -> str:
    """The memories that times are of: on others, the same model may take 2 to 7 times as long."""
    told = [
        f"{memory.name.replace('_', ' ')} of {memory.bandwidth_gb_s:.3g} GB/s, latency {memory.read_latency_cycles}"
        f" ({', '.join(memory.holds)})"
        for memory in memories
    ]
    return f"{'; '.join(told)}: times are of these, and on others may be several times as long"


def evidence_text(rests: Evidence) -> str:
    """What was fitted, and how far off that was elsewhere."""
    vela = f"Vela by {rests.vela_error_percent:g} %"
    return f"on {', '.join(rests.fitted_on)}; off by {rests.error_percent:g} % on {rests.judged_on}, {vela}"


def like_text(rests: Calibration) -> str:
    """What the band rests on."""
    if not rests.like:
        return f"{band_text(rests)} is assumed, with Vela's own figure in it: nothing that was measured is like this"
    return f"{band_text(rests)}, from {rests.like}"


def calibration_lines(rests: Calibration) -> list[tuple[str, str]]:
    """Whom to believe, and how far, each line with its label."""
    lines = [("calibrated", evidence_text(rests)), ("band", like_text(rests))]
    if rests.why:
        lines.append(("not Vela's", rests.why))
    if rests.not_measured:
        lines.append(("no data for", f"{'; '.join(rests.not_measured)}: whether the band holds there, nobody knows"))
    return lines

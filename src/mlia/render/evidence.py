"""What a calibrated estimate rests on -> labeled lines of a report."""

from mlia.estimates import Calibration, Evidence


def band_text(rests: Evidence) -> str:
    """Within how much of the estimate a measurement should be: "±5 %" or "-24..+32 %"."""
    low, high = (round(100 * (share - 1)) for share in (rests.band_low, rests.band_high))
    return f"±{high} %" if low == -high else f"{low:+d}..{high:+d} %"


def evidence_text(rests: Evidence) -> str:
    """What was fitted, and how far off that was elsewhere."""
    vela = f"Vela by {rests.vela_error_percent:g} %"
    return f"on {', '.join(rests.fitted_on)}; off by {rests.error_percent:g} % on {rests.judged_on}, {vela}"


def calibration_lines(rests: Calibration) -> list[tuple[str, str]]:
    """Whom to believe, and how far, each line with its label."""
    lines = [("calibrated", evidence_text(rests))]
    if rests.not_measured:
        lines.append(("no data for", f"{'; '.join(rests.not_measured)}: whether the band holds there, nobody knows"))
    return lines

"""Why the calibrated estimate differs from the compiler's own: what the steps that make the difference share."""

from collections import defaultdict
from collections.abc import Sequence

from mlia.backends.ethos_u.coefficients import coefficients_for
from mlia.backends.ethos_u.coverage import is_broadcast
from mlia.backends.ethos_u.features import StepFeatures
from mlia.backends.ethos_u.timing import StepTime, estimate_with, start_cycles
from mlia.results import Bound
from mlia.targets.coefficients import Physics
from mlia.targets.target import Target

FAR = 0.2  # of the compiler's cycles: what is nearer needs no reason
ONE_MAP, LAUNCHES, SHORT, WAITS, BROADCAST = "one map", "launches", "short requests", "waits", "broadcast"


def why_not_vela(features: Sequence[StepFeatures], target: Target) -> str:
    """In one line, or empty where both are near each other."""
    physics = coefficients_for(target).physics
    times = estimate_with(features, target, physics)
    ours, theirs = sum(time.cycles for time in times), sum(step.total_cycles for step in features)
    if not ours or not theirs or abs(ours / theirs - 1) <= FAR:
        return ""
    is_more = ours > theirs
    parts: dict[str, float] = defaultdict(float)
    for step, time in zip(features, times, strict=True):
        for reason, cycles in _parts(step, time, target, physics).items():
            parts[reason] += cycles
    shares = {reason: cycles for reason, cycles in parts.items() if (cycles > 0) == is_more and cycles}
    if not shares:
        return ""
    reason = max(shares, key=lambda name: abs(shares[name]))
    return (
        f"{_text(reason, is_more, features, target, physics)} ({shares[reason]:+,.0f} of {ours - theirs:+,.0f} cycles)"
    )


def _parts(step: StepFeatures, time: StepTime, target: Target, physics: Physics) -> dict[str, float]:
    """By how many cycles a step takes more than the compiler says, by reason; its launches apart."""
    if step.kind == "none":
        return {}
    starts = min(start_cycles(step, target, physics), time.cycles)
    rest = time.cycles - starts - step.total_cycles
    if step.is_one_unit and step.kind != "elementwise" and rest < 0 and step.mac_cycles >= step.total_cycles / 2:
        reason = ONE_MAP
    elif is_broadcast(step) and rest < 0:
        reason = BROADCAST
    elif any(each.linear_input_bytes + each.linear_written for each in step.transfers if each.memory == "dram"):
        reason = SHORT
    elif time.bound_by in (Bound.DRAM, Bound.FLASH):
        reason = WAITS
    else:
        reason = time.bound_by.value
    return {reason: rest, LAUNCHES: starts}


def _text(reason: str, is_more: bool, features: Sequence[StepFeatures], target: Target, physics: Physics) -> str:
    if reason == ONE_MAP:
        return "Vela counts 4 cycles per weight in 1x1 maps; measured: 1"
    if reason == LAUNCHES:
        launches = [step for step in features if step.kind != "none" and step.launches]
        cycles = start_cycles(launches[0], target, physics) / launches[0].launches
        number = sum(step.launches for step in launches)
        return f"each of {number} launches waits some {cycles:,.0f} cycles for its commands; Vela hardly counts that"
    if reason == BROADCAST:
        return "Vela reads a small constant that is broadcast anew for each result, mlia once; measured was neither"
    if reason == SHORT and is_more:
        return (
            f"feature maps in DRAM as NHWC move {physics.request_bytes:g} bytes a request, measured; Vela counts bursts"
        )
    if reason == SHORT:
        return "Vela counts more time for feature maps in DRAM as NHWC than was measured"
    if reason == WAITS:
        return (
            "reads of the memory behind the SRAM wait for its latency longer than Vela counts"
            if is_more
            else "Vela counts more waiting for the memory behind the SRAM than was measured"
        )
    unit = {"macs": "MACs", "output unit": "the output unit", "sram": "the SRAM"}.get(reason, reason)
    return f"Vela counts {'fewer' if is_more else 'more'} cycles of {unit} than were measured"

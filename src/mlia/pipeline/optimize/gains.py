"""What a change of the model gained on a target, and why it gained no more."""

from collections import defaultdict

from mlia.figures import Figures
from mlia.results import Bound, Performance

SMALL = 1.05  # a gain below is said to be none worth having


def explain(performance: Performance, before: Figures, after: Figures) -> str:
    """Why the gain in cycles is what it is, from what the operators waited for before."""
    if not before.total_cycles or not before.npu_cycles or not after.total_cycles:
        return "nothing runs on the NPU, so there are no cycles to compare"
    gain = before.total_cycles / after.total_cycles
    busy = min(before.npu_cycles / before.total_cycles, 1.0)
    ceiling = before.total_cycles / before.npu_cycles
    where = _bounds(performance)
    told = (
        f"the NPU computed in {100 * busy:.0f} % of the cycles before ({where}); if it never waited for memory, it"
        f" would be about {ceiling:.2f}x as fast, the ceiling for compressed weights"
    )
    if gain < 1 / SMALL:
        return f"it became slower; {told}"
    if gain < SMALL:
        return f"no gain in time worth having; {told}"
    if after.npu_cycles and before.npu_cycles > SMALL * after.npu_cycles:
        return f"{told}; it also computes less, {before.npu_cycles / after.npu_cycles:.2f}x fewer cycles"
    return told


def _bounds(performance: Performance) -> str:
    """What the operators waited for, by their share of all cycles."""
    cycles: dict[Bound, int] = defaultdict(int)
    for operator in performance.operators:
        if operator.total_cycles and operator.bound_by is not None:
            cycles[operator.bound_by] += operator.total_cycles
    total = sum(cycles.values())
    shares = sorted(cycles.items(), key=lambda item: -item[1])
    return ", ".join(f"{100 * share / total:.0f} % bound by {bound}" for bound, share in shares[:2])

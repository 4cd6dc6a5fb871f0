"""The figures of a whole model on a target, before and after."""

from mlia.cpu_results import CpuPerformance, CpuTime, SystemTime
from mlia.difference import Amount, Total
from mlia.report import CheckReport, TargetReport
from mlia.results import NOT_ASKED, Compatibility, Performance, Skipped

# In the order in which they are shown.
FIGURES = (
    "latency_ms", "npu_latency_ms", "cpu_latency_ms", "handover_ms", "inference_cycles", "total_cycles",
    "vela_total_cycles", "npu_cycles", "npu_percent", "npu_mac_percent", "npu_segments", "cpu_operators",
    "unsupported_operators", "macs", "sram_bytes", "planned_dram_bytes", "flash_bytes", "arena_bytes", "weights_bytes",
    "compressed_weights_bytes", "file_bytes",
)  # fmt: skip
DIGITS = 9  # behind the point: what is left of a difference of floats is no figure
NOTHING_ON_NPU = "nothing runs on the NPU"
NO_INTERPRETER = "TensorFlow Lite Micro does not run it"
NO_MACS = "the model has no multiply-accumulates"
NOT_THERE = "this target has no such figure"


def totals(before: tuple[CheckReport, TargetReport], after: tuple[CheckReport, TargetReport]) -> tuple[Total, ...]:
    """All figures that at least one side has, or would have if they were known."""
    left, right = _amounts(*before), _amounts(*after)
    found = {*left, *right}
    gaps = [_gap(entry) for _, entry in (before, after)]
    return tuple(_total(name, left.get(name, gaps[0]), right.get(name, gaps[1])) for name in FIGURES if name in found)


def _gap(entry: TargetReport) -> Amount:
    """What stands for a figure that this side does not have."""
    performance = entry.results[0].performance
    return Amount(None, reason=_why_skipped(performance) if isinstance(performance, Skipped) else NOT_THERE)


def _why_skipped(skipped: Skipped) -> str:
    return f"the {skipped.what} was {NOT_ASKED}" if skipped.reason == NOT_ASKED else skipped.reason


def difference(before: float | None, after: float | None) -> float | None:
    """after - before, None where either is."""
    if before is None or after is None:
        return None
    changed = after - before
    return round(changed, DIGITS) if isinstance(changed, float) else changed


def percent_of(changed: float | None, before: float | None) -> float | None:
    """A difference in percent of what was before; None where that was nothing, unless it still is."""
    if changed is None or before is None:
        return None
    if not before:
        return None if changed else 0.0
    return 100 * changed / before


def _total(figure: str, before: Amount, after: Amount) -> Total:
    changed = difference(before.value, after.value)
    return Total(figure, before, after, changed, percent_of(changed, before.value))


def _amounts(report: CheckReport, entry: TargetReport) -> dict[str, Amount]:
    result = entry.results[0]
    found: dict[str, Amount] = {}
    if isinstance(result.compatibility, Compatibility):
        placed = result.compatibility
        found |= {
            "npu_percent": Amount(placed.npu_percent),
            "npu_mac_percent": Amount(placed.npu_mac_percent, reason=NO_MACS if placed.npu_mac_percent is None else ""),
            "npu_segments": Amount(placed.npu_segments),
            "cpu_operators": Amount(placed.cpu_operators),
        }
    if isinstance(result.performance, Performance):
        found |= _npu(result.performance)
    elif isinstance(result.performance, CpuPerformance):
        found |= _cpu(result.performance)
    else:
        found["latency_ms"] = Amount(None, reason=_why_skipped(result.performance))
    return found | {"file_bytes": Amount(report.model.size_bytes)}


def _npu(cost: Performance) -> dict[str, Amount]:
    rests = cost.calibration
    band = (rests.band_low, rests.band_high) if rests is not None else None
    # Without a band of the NPU's part, what is left of the band of the whole says little.
    found = _times(cost, rests is not None or not cost.total_cycles)
    for name in ("inference_cycles", "total_cycles"):
        value = getattr(cost, name)
        if band is None or value is None:
            found[name] = _or_nothing(value)
        else:
            found[name] = Amount(value, round(band[0] * value), round(band[1] * value))
    if cost.inference_cycles == cost.total_cycles:  # nothing runs once only
        found["inference_cycles"] = found["total_cycles"]
    found |= {name: _or_nothing(getattr(cost, name)) for name in ("vela_total_cycles", "npu_cycles")}
    found["macs"] = Amount(cost.macs)
    found["arena_bytes"] = Amount(cost.arena_bytes, reason=NO_INTERPRETER if cost.arena_bytes is None else "")
    found |= {"sram_bytes": Amount(cost.sram_bytes), "flash_bytes": Amount(cost.flash_bytes)}
    names = ("planned_dram_bytes", "weights_bytes", "compressed_weights_bytes")
    return found | {name: _or_nothing(getattr(cost.memory, name, None)) for name in names}


def _or_nothing(value: float | None) -> Amount:
    return Amount(None, reason=NOTHING_ON_NPU) if value is None else Amount(value)


def _times(cost: Performance, has_band: bool) -> dict[str, Amount]:
    system = cost.system
    if not isinstance(system, SystemTime):
        return {"latency_ms": Amount(None, reason=system.reason if system is not None else "it was not estimated")}
    return {
        "latency_ms": Amount(cost.latency_ms, *((cost.low_ms, cost.high_ms) if has_band else ())),
        "npu_latency_ms": Amount(cost.npu_latency_ms),
        "cpu_latency_ms": _time(system.cpu),
        "handover_ms": _time(system.handover),
    }


def _time(time: CpuTime) -> Amount:
    return Amount(time.latency_ms, time.low_ms, time.high_ms)


def _cpu(cost: CpuPerformance) -> dict[str, Amount]:
    if cost.unsupported_operators:
        unknown = Amount(None, reason="; ".join(_refusals(cost)))
        times = {"latency_ms": unknown, "total_cycles": unknown}
    else:
        times = {
            "latency_ms": Amount(cost.latency_ms, cost.low_ms, cost.high_ms),
            "total_cycles": Amount(cost.total_cycles, cost.low_cycles, cost.high_cycles),
        }
    return times | {
        "unsupported_operators": Amount(cost.unsupported_operators),
        "macs": Amount(cost.macs),
        "sram_bytes": Amount(cost.sram_bytes),
        "flash_bytes": Amount(cost.flash_bytes),
        "arena_bytes": Amount(cost.arena_bytes),
        "weights_bytes": Amount(cost.weights_bytes),
    }


def _refusals(cost: CpuPerformance) -> list[str]:
    return sorted({each.kernel.reason for each in cost.operators if not each.kernel.is_supported})

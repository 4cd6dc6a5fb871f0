"""What a Cortex-M does, as text: the whole model on it, or the part that an NPU leaves to it."""

from collections.abc import Sequence

from mlia.cpu_results import ArenaUse, CpuCompatibility, CpuCost, CpuPerformance, CpuTime, SystemTime
from mlia.render.text import (
    LABEL,
    NOTHING,
    Column,
    Page,
    count,
    display_names,
    identity,
    kibibytes,
    milliseconds,
    milliseconds_band,
    percent,
    plural,
    source_text,
)
from mlia.results import Performance, Skipped

SLOWEST_SHOWN = 12
ALIKE = 1.25  # times; what differs by less is about as fast, where it may be the other way round
_KERNELS = (
    Column("#"),
    Column("operator", align_right=False),
    Column("name", align_right=False, flexible=True),
    Column("library", align_right=False),
    Column("kernel", align_right=False, flexible=True),
)
_COSTS = (
    Column("#"),
    Column("operator", align_right=False),
    Column("name", align_right=False, flexible=True),
    Column("cycles"),
    Column("%", rank=1),
    Column("ms"),
    Column("low..high ms", rank=2),
    Column("kernel", align_right=False, rank=3),
    Column("library", align_right=False, rank=4),
    Column("MACs", rank=5),
)


def show_cpu_compatibility(page: Page, found: CpuCompatibility) -> None:
    """Which kernel runs each operator, and why; one reason is told once."""
    page.heading(f"Compatibility ({found.stack}, {source_text(found.source)})")
    everything = plural(len(found.operators), "operator")
    if found.unsupported_operators:
        page.paragraph(
            f"{found.unsupported_operators} of {everything} cannot run: TensorFlow Lite Micro has no kernel for that,"
            " and the model does not start."
        )
    else:
        page.paragraph(f"All of {everything} can run.")
    page.gap()
    names = display_names([cost.name for cost in found.operators])
    rows = [
        (identity(cost.subgraph, cost.index), cost.kind, name, _library(cost), cost.kernel.name or NOTHING)
        for cost, name in zip(found.operators, names, strict=True)
    ]
    page.table(_KERNELS, rows)
    show_reasons(page, found.operators)


def show_reasons(page: Page, costs: Sequence[CpuCost]) -> None:
    """Why operators have the kernels that they have, once for all that share a reason."""
    reasons: dict[str, list[str]] = {}
    for cost in costs:
        if cost.kernel.reason:
            reasons.setdefault(cost.kernel.reason, []).append(identity(cost.subgraph, cost.index))
    if reasons:
        page.gap()
    for reason, numbers in reasons.items():
        shown = ", ".join(numbers[:8]) + (", …" if len(numbers) > 8 else "")
        page.paragraph(f"- {shown}: {reason}", hang=4)


def show_cpu_performance(page: Page, found: CpuPerformance, all_operators: bool) -> None:
    """Time and memory of the whole model on a Cortex-M."""
    page.heading(f"Performance ({source_text(found.source)}; {found.stack})")
    if found.latency_ms is None:
        latency = f"not known: {plural(found.unsupported_operators, 'operator')} cannot run"
    else:
        latency = f"{_time(found)}, {count(found.total_cycles)} cycles at {found.clock_mhz:g} MHz"
    lines = [
        ("latency", latency),
        ("MACs", count(found.macs)),
        ("weights", f"{kibibytes(found.weights_bytes)} KiB"),
        ("flash", f"{kibibytes(found.flash_bytes)} KiB for the model's file, without code"),
        ("arena", f"{kibibytes(found.arena_bytes)} KiB: {arena_text(found.arena)}"),
    ]
    lines += [("based on", text) for text in found.fitted_on]
    lines += [("note", found.note)] if found.note else []
    for label, text in lines:
        page.paragraph(text, label, LABEL)
    page.gap()
    page.paragraph("Operators, the slowest first:")
    show_costs(page, found.operators, all_operators)


def show_costs(page: Page, costs: Sequence[CpuCost], all_operators: bool) -> None:
    """What operators cost, the slowest first."""
    named = list(zip(costs, display_names([cost.name for cost in costs]), strict=True))
    ranked = sorted(named, key=lambda item: -(item[0].total_cycles or 0))
    shown = ranked if all_operators else ranked[:SLOWEST_SHOWN]
    page.table(_COSTS, [_row(cost, name) for cost, name in shown])
    if len(shown) < len(ranked):
        page.paragraph(f"and {len(ranked) - len(shown)} more (--all-operators shows them)")


def system_lines(performance: Performance, host: str) -> list[tuple[str, str]]:
    """The time of the whole inference as labeled lines; none where it was not asked for."""
    system = performance.system
    if system is None:
        return []
    if isinstance(system, Skipped):
        return [("latency", f"not known: {system.reason}")]
    parts = (
        f"NPU {milliseconds(performance.npu_latency_ms)} + {host} {milliseconds(system.cpu.latency_ms)}"
        f" + hand-over {milliseconds(system.handover.latency_ms)}"
    )
    latency = _time(performance)
    if not system.segments:
        return [("latency", f"{latency}, all of it on the {host}")]
    lines = [("latency", f"{latency} = {parts}, {plural(system.segments, 'segment')}")]
    if system.speedup is not None and system.cpu_alone is not None:
        lines.append(("without NPU", _uplift(system, host)))
    return lines


def _uplift(system: SystemTime, host: str) -> str:
    assert system.cpu_alone is not None
    assert system.speedup is not None
    assert system.speedup_low is not None
    assert system.speedup_high is not None
    alone = f"{_time(system.cpu_alone)} on the {host} alone ({system.stack})"
    return f"{alone}; {speedup_text(system.speedup, system.speedup_low, system.speedup_high)}"


def speedup_text(speedup: float, low: float, high: float) -> str:
    """What the NPU brings: by what factor, the band of that, and whether it is sure which way is faster."""
    if speedup < 1:
        factor, word, band = 1 / speedup, "slower", f"({1 / high:.1f}..{1 / low:.1f})"
    else:
        factor, word, band = speedup, "faster", f"({low:.1f}..{high:.1f})"
    if low > 1 or high < 1:
        return f"the NPU makes it {factor:.1f} times {word} {band}"
    if factor < ALIKE:
        return f"the NPU makes it about as fast {band}"
    return f"the NPU probably makes it {factor:.1f} times {word}, but the estimates are too wide to be sure {band}"


def show_host_operators(page: Page, performance: Performance, host: str, all_operators: bool) -> None:
    """What the NPU leaves to its host, with the kernels, and where the figures come from."""
    if not performance.cpu_costs or performance.cpu_source is None:
        return
    page.gap()
    page.paragraph(f"On the {host} ({source_text(performance.cpu_source)}; {performance.cpu_stack}):")
    show_costs(page, performance.cpu_costs, all_operators)
    show_reasons(page, performance.cpu_costs)


def _row(cost: CpuCost, name: str) -> tuple[str, ...]:
    return (
        identity(cost.subgraph, cost.index),
        cost.kind,
        name,
        count(cost.total_cycles),
        percent(cost.cycles_percent),
        milliseconds(cost.latency_ms),
        milliseconds_band(cost.low_ms, cost.high_ms) or NOTHING,
        cost.kernel.name or NOTHING,
        _library(cost),
        count(cost.macs) if cost.macs else NOTHING,
    )


def _library(cost: CpuCost) -> str:
    return cost.kernel.library if cost.kernel.is_supported else "none"


def _time(time: CpuTime | CpuPerformance | Performance) -> str:
    return f"{milliseconds(time.latency_ms)} ms ({milliseconds_band(time.low_ms, time.high_ms)})"


def arena_text(arena: ArenaUse) -> str:
    """What is in the arena, and whether starting needs more than that."""
    start = f"; starting needs {kibibytes(arena.start_bytes)} KiB" if arena.start_bytes > arena.used_bytes else ""
    return (
        f"tensors and scratch {kibibytes(arena.planned_bytes)} KiB,"
        f" what stays {kibibytes(arena.persistent_bytes)} KiB{start}"
    )

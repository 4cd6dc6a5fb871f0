"""Several targets in one table: what a model costs on each, and what keeps it off their NPUs."""

from mlia.advice import Severity
from mlia.cpu_results import CpuPerformance, SystemTime
from mlia.render.check.advice import advice_by_target, show_alike
from mlia.render.check.terminal import show_compiled
from mlia.render.evidence import band_text
from mlia.render.text import NOTHING, Column, Page, count, fraction, kibibytes, milliseconds, percent, source_text
from mlia.report import CheckReport, TargetReport
from mlia.results import Compatibility, Performance, Result, Skipped

COLUMNS = (
    Column("target", align_right=False),
    Column("NPU ops %", rank=1),
    Column("NPU MACs %", rank=3),
    Column("segments", rank=5),
    Column("cycles"),
    Column("band"),
    Column("by Vela", rank=3),
    Column("ms"),
    Column("MAC use %", rank=4),
    Column("SRAM KiB"),
    Column("DRAM KiB", rank=2),
    Column("flash KiB", rank=2),
    Column("weights KiB", rank=6),
    Column("system config", rank=7, align_right=False),
    Column("memory mode", rank=7, align_right=False),
)


def show_side_by_side(page: Page, report: CheckReport) -> None:
    """Add the comparison to a page."""
    page.heading("Side by side")
    page.table(COLUMNS, [_row(entry, result) for entry in report.targets for result in entry.results])
    for entry in report.targets:
        if entry.refusal:
            page.gap()
            page.paragraph(f"{entry.target.name} is not checked: {entry.refusal}")
        for result in entry.results:
            for compiled in result.compiled:
                show_compiled(page, compiled, entry)
    warnings = [item for item in advice_by_target(report).items() if item[0].severity == Severity.WARNING]
    for advice, names in warnings:
        page.gap()
        show_alike(page, advice, names)
    for entry in report.targets:
        for result in entry.results:
            if reason := _unknown(result.performance):
                page.gap()
                page.paragraph(f"{entry.target.name}: {reason}")
    performances = [result.performance for entry in report.targets for result in entry.results]
    sources = sorted({source_text(found.source) for found in performances if isinstance(found, Performance)})
    page.gap()
    for source in sources:
        page.paragraph(f"Cycles on an Ethos-U are the NPU's, {source}; its weights are compressed.")
    for text, names in _unlike(report).items():
        page.paragraph(f"The band may not hold on {', '.join(names)}: there is no data for {text}.")
    for source in sorted({text for found in performances for text in _cpu_sources(found)}):
        page.paragraph(f"Time is of the whole system; the Cortex-M's part is {source}.")
    page.paragraph("Flash is the model's file, compiled where there is an NPU.")
    page.paragraph(
        "Placement and cost of each operator, and further advice: check one target at a time, or --format json."
    )


def _unlike(report: CheckReport) -> dict[str, list[str]]:
    """What nothing was measured of, and the targets on which the model has it."""
    found: dict[str, list[str]] = {}
    for entry in report.targets:
        for result in entry.results:
            rests = result.performance.calibration if isinstance(result.performance, Performance) else None
            if rests is not None and rests.not_measured:
                found.setdefault("; ".join(rests.not_measured), []).append(entry.target.name)
    return found


def _cpu_sources(found: object) -> tuple[str, ...]:
    if isinstance(found, CpuPerformance):
        return (f"{source_text(found.source)} ({found.stack})",)
    if isinstance(found, Performance) and isinstance(found.system, SystemTime):
        return (f"{source_text(found.system.cpu_source)} ({found.system.stack})",)
    return ()


def _row(entry: TargetReport, result: Result) -> tuple[str, ...]:
    placed = result.compatibility if isinstance(result.compatibility, Compatibility) else None
    cost = result.performance if isinstance(result.performance, Performance) else None
    memory = cost.memory if cost else None
    dram_bytes = memory.planned_dram_bytes if memory else 0
    if isinstance(result.performance, CpuPerformance):
        return _cpu_row(entry, result.performance)
    sizes = (cost.sram_bytes, dram_bytes, cost.flash_bytes) if cost else (0, 0, 0)
    return (
        entry.target.name,
        percent(placed.npu_percent if placed else None),
        percent(placed.npu_mac_percent if placed else None),
        count(placed.npu_segments if placed else None),
        count(cost.total_cycles if cost else None),
        band_text(cost.calibration) if cost and cost.calibration else NOTHING,
        count(cost.vela_total_cycles if cost else None),
        milliseconds(cost.latency_ms if cost else None),
        fraction(cost.mac_utilization if cost else None),
        *(kibibytes(size) if size else NOTHING for size in sizes),
        kibibytes(memory.compressed_weights_bytes if memory else None),
        entry.target.system_config or NOTHING,
        entry.target.memory_mode or NOTHING,
    )


def _unknown(performance: object) -> str:
    """Why a row has no time; empty when it has one."""
    if isinstance(performance, Performance) and isinstance(performance.system, Skipped):
        return f"the time is not known: {performance.system.reason}"
    if isinstance(performance, CpuPerformance) and performance.unsupported_operators:
        reasons = {cost.kernel.reason for cost in performance.operators if not cost.kernel.is_supported}
        return f"the model does not start: {'; '.join(sorted(reasons))}"
    return ""


def _cpu_row(entry: TargetReport, cost: CpuPerformance) -> tuple[str, ...]:
    figures = (
        count(cost.total_cycles),
        NOTHING,
        NOTHING,
        milliseconds(cost.latency_ms),
        NOTHING,
        kibibytes(cost.sram_bytes),
        NOTHING,
    )
    sizes = (kibibytes(cost.flash_bytes), kibibytes(cost.weights_bytes))
    return entry.target.name, NOTHING, NOTHING, NOTHING, *figures, *sizes, NOTHING, NOTHING

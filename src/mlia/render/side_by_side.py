"""Several targets in one table: what a model costs on each, and what keeps it off their NPUs."""

from mlia.render.terminal import show_compiled, show_finding
from mlia.render.text import NOTHING, Column, Page, count, fraction, kibibytes, milliseconds, percent, source_text
from mlia.report import Report, TargetReport
from mlia.results import Compatibility, Finding, Performance, Result

COLUMNS = (
    Column("target", align_right=False),
    Column("NPU ops %", rank=1),
    Column("NPU MACs %", rank=3),
    Column("segments", rank=5),
    Column("cycles"),
    Column("ms"),
    Column("MAC use %", rank=4),
    Column("SRAM KiB"),
    Column("DRAM KiB", rank=2),
    Column("flash KiB", rank=2),
    Column("weights KiB", rank=6),
    Column("system config", rank=7, align_right=False),
    Column("memory mode", rank=7, align_right=False),
)


def show_side_by_side(page: Page, report: Report) -> None:
    """Add the comparison to a page."""
    page.heading("Side by side")
    page.table(COLUMNS, [_row(entry, result) for entry in report.targets for result in entry.results])
    causes: dict[Finding, list[str]] = {}
    for entry in report.targets:
        for result in entry.results:
            for compiled in result.compiled:
                show_compiled(page, compiled, entry)
            if isinstance(result.compatibility, Compatibility):
                for finding in result.compatibility.findings:
                    causes.setdefault(finding, []).append(entry.target.name)
    for finding, names in causes.items():
        page.gap()
        page.paragraph(", ".join(names))
        show_finding(page, finding, "-")
    performances = [result.performance for entry in report.targets for result in entry.results]
    sources = sorted({source_text(found.source) for found in performances if isinstance(found, Performance)})
    page.gap()
    for source in sources:
        page.paragraph(f"Figures are {source}, of the NPU's part only; weights are compressed.")
    page.paragraph("Placement and cost of each operator: check one target at a time, or --format json.")


def _row(entry: TargetReport, result: Result) -> tuple[str, ...]:
    placed = result.compatibility if isinstance(result.compatibility, Compatibility) else None
    cost = result.performance if isinstance(result.performance, Performance) else None
    memory = cost.memory if cost else None
    sizes = (memory.sram_bytes, memory.dram_bytes, memory.flash_bytes) if memory else (0, 0, 0)
    return (
        entry.target.name,
        percent(placed.npu_percent if placed else None),
        percent(placed.npu_mac_percent if placed else None),
        count(placed.npu_segments if placed else None),
        count(cost.total_cycles if cost else None),
        milliseconds(cost.latency_ms if cost else None),
        fraction(cost.mac_utilization if cost else None),
        *(kibibytes(size) if size else NOTHING for size in sizes),
        kibibytes(memory.compressed_weights_bytes if memory else None),
        entry.target.system_config,
        entry.target.memory_mode,
    )

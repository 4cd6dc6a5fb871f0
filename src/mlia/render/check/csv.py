"""CheckReport -> CSV (RFC 4180), one row per target and operator, for spreadsheets and scripts."""

import csv
import io
from collections.abc import Iterator, Mapping

from mlia.cpu_results import CpuCompatibility, CpuCost, CpuPerformance
from mlia.render.check.advice import codes_by_operator
from mlia.render.text import printable
from mlia.report import CheckReport, OperatorSummary, TargetReport
from mlia.results import (
    NOT_ASKED,
    Compatibility,
    OperatorCost,
    OperatorId,
    Performance,
    Placement,
    Result,
    Skipped,
)

COLUMNS = (
    "target", "subgraph", "index", "kind", "name", "runs_on", "why", "segment", "macs", "total_cycles",
    "vela_total_cycles", "npu_cycles", "latency_ms", "cycles_percent", "bound_by", "mac_utilization",
    "weights_bytes", "compressed_weights_bytes", "sram_read_bytes", "sram_write_bytes", "dram_read_bytes",
    "dram_write_bytes", "flash_read_bytes", "flash_write_bytes", "cpu_library", "cpu_kernel", "low_cycles",
    "high_cycles", "low_ms", "high_ms", "note",
)  # fmt: skip
MEMORIES = ("sram", "dram", "flash")
_FORMULA = ("=", "+", "-", "@")  # with these a spreadsheet begins to compute
Cell = str | int | float | None
Row = dict[str, Cell]


def render_csv(report: CheckReport) -> str:
    """The report as CSV with a header row; lines end with CR LF, cells are empty where nothing is known.

    Cycles, and `cycles_percent` of them, are of the processor that runs the operator. Control characters in
    names are shown as "?", and a text that a spreadsheet would take for a formula begins with an apostrophe. A target
    that could not be checked has one row, whose note says why.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in operator_rows(report):
        writer.writerow([_cell(row.get(column)) for column in COLUMNS])
    return text.getvalue()


def operator_rows(report: CheckReport) -> Iterator[Row]:
    """A row for each target and operator: values by COLUMNS, as they are; what is not known is left out."""
    for entry in report.targets:
        for result in entry.results:
            yield from _rows(entry, result, report.model.graph)


def _rows(entry: TargetReport, result: Result, graph: tuple[OperatorSummary, ...]) -> Iterator[Row]:
    if entry.refusal:
        yield {"target": entry.target.name, "note": f"not checked: {entry.refusal}"}
        return
    placed, costs, cpu_costs = _by_operator(result)
    codes = codes_by_operator(entry.advised)
    parts = (result.compatibility, result.performance)
    reasons = [part.reason for part in parts if isinstance(part, Skipped) and part.reason != NOT_ASKED]
    skipped = "; ".join(f"skipped: {reason}" for reason in dict.fromkeys(reasons))
    known = {OperatorId(each.subgraph, each.index): each for each in graph}
    everything: dict[OperatorId, OperatorSummary | Placement | OperatorCost | CpuCost]
    everything = {**cpu_costs, **costs, **placed, **known}
    if not everything:
        yield {"target": entry.target.name, "note": skipped}
    for number in sorted(everything, key=lambda each: (each.subgraph, each.index)):
        each = everything[number]
        row: Row = {
            "target": entry.target.name, "subgraph": number.subgraph, "index": number.index, "kind": each.kind,
            "name": each.name, "why": codes.get(number, ""), "note": skipped,
        }  # fmt: skip
        for part in (_placed(placed.get(number)), _cost(costs.get(number)), _cpu_cost(cpu_costs.get(number))):
            row.update({column: value for column, value in part.items() if value not in (None, "")})
        row["why"] = codes.get(number) or row["why"]
        yield row


def _by_operator(
    result: Result,
) -> tuple[Mapping[OperatorId, Placement], Mapping[OperatorId, OperatorCost], Mapping[OperatorId, CpuCost]]:
    """Where each operator runs, what it costs on the NPU, and what on a Cortex-M."""
    placed, found = result.compatibility, result.performance
    placements = placed.operators if isinstance(placed, Compatibility) else ()
    costs = found.operators if isinstance(found, Performance) else ()
    cpu: tuple[CpuCost, ...] = ()
    if isinstance(found, Performance):
        cpu = found.cpu_costs
    elif isinstance(found, CpuPerformance):
        cpu = found.operators
    elif isinstance(placed, CpuCompatibility):
        cpu = placed.operators
    return (
        {OperatorId(each.subgraph, each.index): each for each in placements},
        {OperatorId(each.subgraph, each.index): each for each in costs},
        {OperatorId(each.subgraph, each.index): each for each in cpu},
    )


def _placed(placement: Placement | None) -> Row:
    if placement is None:
        return {}
    why = "; ".join(constraint.violation for constraint in placement.constraints)
    return {
        "runs_on": placement.processor,
        "why": why or ("folded" if placement.is_folded else ""),
        "segment": placement.segment,
        "macs": placement.macs,
    }


def _cost(cost: OperatorCost | None) -> Row:
    if cost is None:
        return {}
    row: Row = {
        "runs_on": cost.processor, "macs": cost.macs, "total_cycles": cost.total_cycles,
        "vela_total_cycles": cost.vela_total_cycles, "npu_cycles": cost.npu_cycles, "latency_ms": cost.latency_ms,
        "cycles_percent": cost.cycles_percent, "bound_by": cost.bound_by, "mac_utilization": cost.mac_utilization,
        "weights_bytes": cost.weights_bytes, "compressed_weights_bytes": cost.compressed_weights_bytes,
        "note": cost.note,
    }  # fmt: skip
    if cost.total_cycles is not None:
        moved = {each.memory: each for each in cost.traffic}
        for memory in MEMORIES:
            row[f"{memory}_read_bytes"] = moved[memory].read_bytes if memory in moved else 0
            row[f"{memory}_write_bytes"] = moved[memory].write_bytes if memory in moved else 0
    return row


def _cpu_cost(cost: CpuCost | None) -> Row:
    if cost is None:
        return {}
    row: Row = {
        "runs_on": "CPU" if cost.kernel.is_supported else "none", "macs": cost.macs,
        "cycles_percent": cost.cycles_percent, "weights_bytes": cost.weights_bytes,
        "cpu_library": cost.kernel.library, "cpu_kernel": cost.kernel.name, "note": cost.kernel.reason,
    }  # fmt: skip
    names = ("total_cycles", "low_cycles", "high_cycles", "latency_ms", "low_ms", "high_ms")
    return row | {name: getattr(cost, name) for name in names}


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, int):
        return str(value)
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

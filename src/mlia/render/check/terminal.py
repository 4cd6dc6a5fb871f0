"""CheckReport -> text for a terminal, from 80 columns up."""

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from mlia.cpu_results import CpuCompatibility, CpuPerformance, SystemTime
from mlia.render.check.advice import codes_by_operator, show_advice, show_fixed
from mlia.render.check.cpu import (
    arena_text,
    show_cpu_compatibility,
    show_cpu_performance,
    show_host_operators,
    system_lines,
)
from mlia.render.evidence import band_text, calibration_lines, memories_text
from mlia.render.text import (
    LABEL,
    NOTHING,
    Column,
    Page,
    count,
    display_names,
    fraction,
    identity,
    kibibytes,
    milliseconds,
    percent,
    plural,
    source_text,
)
from mlia.report import CheckReport, TargetReport, TargetSummary, TensorSummary
from mlia.results import (
    NOT_ASKED,
    Compatibility,
    Compiled,
    MemoryPlan,
    OperatorCost,
    OperatorId,
    Performance,
    Placement,
    Skipped,
    SubgraphCost,
    Unit,
)

SLOWEST_SHOWN = 12


class TerminalStyle(Struct, frozen=True):
    """How wide, whether in color, whether to show every operator's cost, its compiler steps, and all advice."""

    width: int = 80
    color: bool = False
    all_operators: bool = False
    steps: bool = False
    all_advice: bool = False


def render_terminal(report: CheckReport, style: TerminalStyle) -> str:
    """The report as text, ending with a newline."""
    page = Page(style.width, style.color)
    _show_model(page, report)
    if len(report.targets) > 1:
        from mlia.render.check.side_by_side import show_side_by_side

        show_side_by_side(page, report)
    if len(report.targets) == 1 or style.all_operators or style.steps:
        for entry in report.targets:
            _show_target(page, entry, style)
    if report.budgets:
        from mlia.render.check.budgets import show_budgets

        show_budgets(page, report.budgets)
    if report.fixed is not None:
        conversion = report.model.conversion
        show_fixed(page, report.fixed, conversion.calibration if conversion is not None else "")
    return page.text


def show_compiled(page: Page, compiled: Compiled, entry: TargetReport) -> None:
    """What an already compiled model was compiled for, and whether that is this target."""
    page.heading("Already compiled")
    shram = f", {compiled.shram_kib} KiB of internal SHRAM" if compiled.shram_kib else ""
    page.paragraph(
        f"by {compiled.compiler}, for {compiled.npu}-{compiled.macs_per_cycle}{shram} (architecture"
        f" {compiled.architecture}, driver format {compiled.driver_format})"
    )
    target = entry.target
    if (compiled.npu, compiled.macs_per_cycle) != ((target.npu or "").lower(), target.macs_per_cycle):
        page.paragraph(f"It cannot run on {target.name}: the driver refuses a stream that is for another NPU.")


def _show_model(page: Page, report: CheckReport) -> None:
    model = report.model
    page.title(f"{model.name}: {kibibytes(model.size_bytes)} KiB, {plural(model.operators, 'operator')}")
    if model.conversion is not None:
        from mlia.render.convert import show_conversion, untouched_sentences

        for sentence in untouched_sentences(report):
            page.paragraph(sentence)
        show_conversion(page, model.conversion)
    for label, tensors in (("input", model.inputs), ("output", model.outputs)):
        page.paragraph(", ".join(map(_tensor_text, tensors)) or "none", label, LABEL)
    for note in report.notes:
        page.paragraph(note, "note", LABEL)


def _tensor_text(tensor: TensorSummary) -> str:
    shape = "x".join("?" if size == -1 else str(size) for size in tensor.shape) or "scalar"
    told = f"{tensor.name or 'unnamed'} {shape} {tensor.data_type}"
    return told if tensor.scale is None else f"{told} (scale {tensor.scale:.6g}, zero point {tensor.zero_point})"


def _show_target(page: Page, entry: TargetReport, style: TerminalStyle) -> None:
    target = entry.target
    page.heading(f"Target {target.name}")
    if target.npu is None:
        page.paragraph(f"{target.host} at {target.host_clock_mhz:g} MHz, without an NPU")
    else:
        page.paragraph(
            f"{target.npu} with {plural(target.macs_per_cycle or 0, 'MAC')} per cycle at {target.clock_mhz:g} MHz,"
            f" {target.system_config}, {target.memory_mode}{_choices(target)}, host {target.host} at"
            f" {target.host_clock_mhz:g} MHz"
        )
        page.paragraph(memories_text(target.memories), "memory", LABEL)
    if entry.refusal:
        page.paragraph(f"Not checked: {entry.refusal}")
        return
    codes = codes_by_operator(entry.advised)
    for result in entry.results:
        for compiled in result.compiled:
            show_compiled(page, compiled, entry)
        if isinstance(result.compatibility, Skipped):
            _show_skipped(page, result.compatibility)
        elif isinstance(result.compatibility, CpuCompatibility):
            show_cpu_compatibility(page, result.compatibility)
        else:
            _show_compatibility(page, result.compatibility, codes)
        if isinstance(result.performance, Skipped):
            _show_skipped(page, result.performance)
        elif isinstance(result.performance, CpuPerformance):
            show_cpu_performance(page, result.performance, style.all_operators)
        else:
            _show_performance(page, result.performance, target.host, style)
    show_advice(page, entry.advised, style.all_advice)


def _choices(target: TargetSummary) -> str:
    """What the compiler was asked for beyond the usual."""
    strategy = f", strategy {target.strategy}" if target.strategy not in (None, "Performance") else ""
    limit = f", cache limit {kibibytes(target.cache_limit_bytes)} KiB" if target.cache_limit_bytes else ""
    return strategy + limit


def _show_skipped(page: Page, skipped: Skipped) -> None:
    if skipped.reason != NOT_ASKED:
        page.heading(skipped.what.capitalize())
        page.paragraph(f"skipped: {skipped.reason}")


def _show_compatibility(page: Page, found: Compatibility, codes: Mapping[OperatorId, str]) -> None:
    page.heading(f"Compatibility (by {found.source.by} {found.source.version})")
    page.paragraph(_placement_sentence(found))
    page.gap()
    columns = (
        Column("#"),
        Column("operator", align_right=False),
        Column("name", align_right=False, flexible=True),
        Column("runs on", align_right=False),
        Column("why", align_right=False),
        Column("MACs", rank=1),
        Column("segment", rank=2),
    )
    names = display_names([placement.name for placement in found.operators])
    rows = [_placement_row(placement, name, codes) for placement, name in zip(found.operators, names, strict=True)]
    page.table(columns, rows)


def _placement_sentence(found: Compatibility) -> str:
    needed = found.npu_operators + found.cpu_operators
    everything = plural(needed, "operator")
    removed, uncalled = (
        sum(each.processor == unit for each in found.operators) for unit in (Unit.REMOVED, Unit.NOT_CALLED)
    )
    rest = f" {plural(removed, 'operator')} more compute what nothing reads, and are removed." if removed else ""
    if uncalled:
        rest += f" {plural(uncalled, 'operator')} more are in subgraphs that nothing calls, and are not analyzed."
    if not found.npu_operators:
        return f"None of {everything} runs on the NPU.{rest}"
    macs = f" and {percent(found.npu_mac_percent)} % of the MACs" if found.npu_mac_percent is not None else ""
    return (
        f"{found.npu_operators} of {everything} ({percent(found.npu_percent)} %){macs} run on the"
        f" NPU, in {plural(found.npu_segments, 'segment')}.{rest}"
    )


def _placement_row(placement: Placement, name: str, codes: Mapping[OperatorId, str]) -> tuple[str, ...]:
    why = codes.get(OperatorId(placement.subgraph, placement.index), "")
    return (
        identity(placement.subgraph, placement.index),
        placement.kind,
        name,
        placement.processor,
        why or ("folded" if placement.is_folded else ""),
        count(placement.macs) if placement.macs else NOTHING,
        str(placement.segment or NOTHING),
    )


def _show_performance(page: Page, found: Performance, host: str, style: TerminalStyle) -> None:
    page.heading(f"Performance ({source_text(found.source)})")
    if found.total_cycles is None:
        page.paragraph("Nothing runs on the NPU, so there is no NPU time to show.")
    for label, text in [*system_lines(found, host), *(_totals(found) if found.total_cycles is not None else [])]:
        page.paragraph(text, label, LABEL)
    if found.total_cycles is not None:
        page.gap()
        page.paragraph("Operators, the slowest first:")
        _show_operators(page, found.operators, style)
    show_host_operators(page, found, host, style.all_operators)
    if isinstance(found.system, SystemTime) and found.system.note:
        page.gap()
        page.paragraph(f"{found.system.note[0].upper()}{found.system.note[1:]}.")


def _totals(found: Performance) -> list[tuple[str, str]]:
    """The figures of the whole network, each with its label."""
    at = f"{milliseconds(found.npu_latency_ms)} ms of the NPU at {found.clock_mhz:g} MHz"
    has_start = found.inference_cycles != found.total_cycles
    lines = [("per run", f"{count(found.inference_cycles)} cycles, {at}")] if has_start else []
    band = f" ({band_text(found.calibration)})" if found.calibration else ""
    lines += [
        ("total", f"{count(found.total_cycles)} cycles{band}{'' if has_start else f', {at}'}"),
        *_calibrated(found),
        ("NPU busy", f"{count(found.npu_cycles)} cycles"),
        ("MACs", f"{count(found.macs)}, {fraction(found.mac_utilization)} % of the peak rate"),
    ]
    if found.memory is not None:
        memory = found.memory
        used = (("SRAM", found.sram_bytes), ("DRAM", memory.planned_dram_bytes), ("flash", found.flash_bytes))
        compressed = f"{kibibytes(memory.compressed_weights_bytes)} KiB compressed"
        lines += [
            ("memory", ", ".join(f"{name} {kibibytes(size)} KiB" for name, size in used if size) + _copied(memory)),
            ("arena", _arena_text(found, memory)),
            ("weights", f"{kibibytes(memory.weights_bytes)} KiB -> {compressed}"),
        ]
    for moved in found.traffic:
        text = f"{kibibytes(moved.read_bytes)} KiB read, {kibibytes(moved.write_bytes)} KiB written"
        lines.append((_memory_text(moved.memory), text))
    lines += [("of these", _subgraph_text(subgraph)) for subgraph in found.further_subgraphs if subgraph.total_cycles]
    lines += [("left out", f"{skipped.what}: {skipped.reason}") for skipped in found.skipped]
    return lines


def _arena_text(found: Performance, memory: MemoryPlan) -> str:
    """What a program must set aside, and what of it is the compiler's plan."""
    where = f"in {_memory_text(memory.arena_memory)}"
    if found.arena is None:
        return f"{kibibytes(memory.planned_arena_bytes)} KiB planned by Vela, {where}"
    return f"{kibibytes(found.arena_bytes)} KiB {where}: {arena_text(found.arena)}"


def _calibrated(found: Performance) -> list[tuple[str, str]]:
    if found.calibration is None:
        return []
    return [*calibration_lines(found.calibration), ("Vela alone", f"{count(found.vela_total_cycles)} cycles")]


def _copied(memory: MemoryPlan) -> str:
    """What flash only stores is read elsewhere."""
    if memory.constants_memory == "flash" or not memory.constants_bytes:
        return ""
    return f", copied to {_memory_text(memory.constants_memory)} at the start"


def _memory_text(name: str) -> str:
    return name if name == "flash" else name.upper()


def _subgraph_text(subgraph: SubgraphCost) -> str:
    return f"{count(subgraph.total_cycles)} cycles in subgraph {subgraph.subgraph}, which runs {subgraph.runs}"


def _show_operators(page: Page, operators: Sequence[OperatorCost], style: TerminalStyle) -> None:
    named = list(zip(operators, display_names([cost.name for cost in operators]), strict=True))
    ranked = sorted(named, key=lambda item: -(item[0].total_cycles or 0))
    timed = [item for item in ranked if item[0].total_cycles]
    shown = ranked if style.all_operators else timed[:SLOWEST_SHOWN]
    columns = (
        Column("#"),
        Column("operator", align_right=False),
        Column("name", align_right=False, flexible=True),
        Column("cycles"),
        Column("%"),
        Column("bound by", align_right=False),
        Column("MAC use %", rank=1),
        Column("ms", rank=2),
        Column("NPU cycles", rank=4),
        Column("by Vela", rank=4),
        Column("MACs", rank=3),
        Column("weights KiB", rank=5),
        Column("compressed", rank=5),
        Column("DRAM+flash KiB", rank=6),
    )
    rows = []
    for cost, name in shown:
        rows.append(_cost_row(cost, name))
        rows += _step_rows(cost) if style.steps else []
    page.table(columns, rows)
    rest = timed[len(shown) :] if not style.all_operators else []
    if rest:
        share = percent(sum(cost.cycles_percent or 0 for cost, _ in rest))
        page.paragraph(f"and {len(rest)} more with {share} % of the cycles (--all-operators shows them)")


def _cost_row(cost: OperatorCost, name: str) -> tuple[str, ...]:
    not_sram = sum(moved.read_bytes + moved.write_bytes for moved in cost.traffic if moved.memory != "sram")
    return (
        identity(cost.subgraph, cost.index),
        cost.kind,
        name,
        count(cost.total_cycles),
        percent(cost.cycles_percent),
        _bound_text(cost),
        fraction(cost.mac_utilization) if cost.macs else NOTHING,
        milliseconds(cost.latency_ms),
        count(cost.npu_cycles),
        count(cost.vela_total_cycles),
        count(cost.macs) if cost.macs else NOTHING,
        kibibytes(cost.weights_bytes) if cost.weights_bytes else NOTHING,
        kibibytes(cost.compressed_weights_bytes) if cost.compressed_weights_bytes else NOTHING,
        kibibytes(not_sram) if not_sram else NOTHING,
    )


def _bound_text(cost: OperatorCost) -> str:
    """What bounds it; for an operator without cycles of its own, why it has none: "on CPU", folded, joined."""
    if cost.bound_by:
        return cost.bound_by.value
    if cost.processor == Unit.NOT_CALLED:
        return str(Unit.NOT_CALLED)
    return "on CPU" if cost.processor == Unit.CPU else re.split("[: ]", cost.note)[0]


def _step_rows(cost: OperatorCost) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for step in cost.steps:
        bound = step.bound_by.value if step.total_cycles else "joined"
        cells = ("", f"  {step.kind}", "", count(step.total_cycles), "", bound, "", "")
        rows.append((*cells, count(step.npu_cycles), count(step.vela_total_cycles), *("",) * 4))
    return rows

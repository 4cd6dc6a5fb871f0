"""CheckReport -> what the web page shows of it: sentences, figures and bars, each as text that is ready to be set."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mlia.cpu_results import CpuCompatibility, CpuCost, CpuPerformance, SystemTime
from mlia.render.check.advice import codes_by_operator
from mlia.render.check.cpu import speedup_text
from mlia.render.evidence import band_text, evidence_text, like_text, memories_text
from mlia.render.text import (
    NOTHING,
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
from mlia.render.web.pictures import Roofline, Timeline, roofline_of, timelines_of
from mlia.report import TargetReport
from mlia.results import ONCE, Bound, Compatibility, OperatorCost, Performance, Placement, Result, Skipped, Unit

MEMORY = (Bound.SRAM, Bound.DRAM, Bound.FLASH)
_UNITS = {Unit.CPU: "cpu", Unit.REMOVED: "removed", Unit.NOT_CALLED: "removed"}
TINY = 0.05  # percent of the time: an operator without it gets no bar of its own


class Card(Struct, frozen=True):
    """One headline figure: its name, the figure with its unit, and what to know about it."""

    label: str
    value: str
    unit: str
    note: str


class OperatorView(Struct, frozen=True):
    """One operator as it is drawn. `key` is its subgraph and index, "0.3".

    `unit` is npu, memory (the NPU, waiting), cpu, folded or removed (or not called). Of the longest bar it takes
    `width_percent`, and its units work in `busy_percent` of that. `why` has the codes of advice on why it is not on the
    NPU. `details` are labels and texts.
    """

    key: str
    number: str
    kind: str
    name: str
    unit: str
    time_ms: float
    time: str
    share: str
    width_percent: float
    busy_percent: float
    details: tuple[tuple[str, str], ...]
    why: str = ""

    @property
    def placed(self) -> str:
        """Where it runs, in a word."""
        return {"npu": "NPU", "memory": "NPU", "cpu": "CPU", "folded": "NPU, folded"}.get(self.unit, self.unit)


class TargetView(Struct, frozen=True):
    """One target. `missing` are what is not shown, each with its reason."""

    entry: TargetReport
    name: str
    description: str
    verdict: str
    is_good: bool
    is_timed: bool
    cards: tuple[Card, ...]
    operators: tuple[OperatorView, ...]
    roofline: Roofline | None
    timelines: tuple[Timeline, ...]
    rests_on: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]


def view_of(entry: TargetReport) -> TargetView:
    """What the page shows of one target."""
    (result,) = entry.results
    codes = codes_by_operator(entry.advised)
    why = {f"{operator.subgraph}.{operator.index}": text for operator, text in codes.items()}
    operators = tuple(replace(each, why=why.get(each.key, "")) for each in _operators(result))
    performance = result.performance if isinstance(result.performance, Performance) else None
    missing = (
        []
        if entry.refusal
        else [
            (each.what, each.reason) for each in (result.compatibility, result.performance) if isinstance(each, Skipped)
        ]
    )
    if performance is not None and isinstance(performance.system, Skipped):
        missing.append(("time of the whole inference", performance.system.reason))
    return TargetView(
        entry=entry,
        name=entry.target.name,
        description=_description(entry),
        verdict=f"Not checked: {entry.refusal}" if entry.refusal else _verdict(result, operators, entry.target.host),
        is_good=_is_good(result),
        is_timed=any(each.time_ms for each in operators),
        cards=tuple(_cards(result)),
        operators=operators,
        roofline=roofline_of(entry.target, performance) if performance else None,
        timelines=timelines_of(performance) if performance else (),
        rests_on=tuple(_rests_on(result)),
        missing=tuple(missing),
    )


def _description(entry: TargetReport) -> str:
    target = entry.target
    if target.npu is None:
        return f"{target.host} at {target.host_clock_mhz:g} MHz, without an NPU"
    return (
        f"{target.npu} with {plural(target.macs_per_cycle or 0, 'MAC')} per cycle at {target.clock_mhz:g} MHz,"
        f" {target.system_config}, {target.memory_mode}; host {target.host} at {target.host_clock_mhz:g} MHz;"
        f" {memories_text(target.memories)}"
    )


def _is_good(result: Result) -> bool:
    placed = result.compatibility
    if isinstance(placed, Compatibility):
        return bool(placed.npu_operators) and not placed.cpu_operators
    return isinstance(placed, CpuCompatibility) and not placed.unsupported_operators


def _verdict(result: Result, operators: Sequence[OperatorView], host: str) -> str:
    parts = [
        f"Already compiled by {each.compiler}, for {each.npu}-{each.macs_per_cycle}; nothing more can be told of it."
        for each in result.compiled
    ]
    parts.append(_placed(result, host))
    performance = result.performance
    if not isinstance(performance, Skipped) and performance.latency_ms is not None:
        parts.append(f"One inference takes {milliseconds(performance.latency_ms)} ms ({_band(performance)}).")
    slowest = max(operators, key=lambda each: each.time_ms, default=None)
    if slowest is not None and slowest.time_ms:
        parts.append(f"{slowest.name or slowest.kind} takes the most of it: {slowest.share} %.")
    return " ".join(part for part in parts if part)


def _placed(result: Result, host: str) -> str:
    placed = result.compatibility
    if isinstance(placed, Compatibility):
        needed = placed.npu_operators + placed.cpu_operators
        if not placed.npu_operators:
            return "Nothing of the model runs on the NPU."
        if not placed.cpu_operators:
            return f"All {plural(needed, 'operator')} run on the NPU."
        verb = "falls" if placed.cpu_operators == 1 else "fall"
        return f"{placed.cpu_operators} of {plural(needed, 'operator')} {verb} to the {host}."
    if isinstance(placed, CpuCompatibility):
        if placed.unsupported_operators:
            return f"The model does not start: {plural(placed.unsupported_operators, 'operator')} cannot run."
        return f"All {plural(placed.supported_operators, 'operator')} can run."
    return ""


def _cards(result: Result) -> list[Card]:
    cards: list[Card] = []
    performance = result.performance
    if isinstance(performance, CpuPerformance):
        cycles = f"at {performance.clock_mhz:g} MHz, {performance.stack}"
        return [
            Card("latency", milliseconds(performance.latency_ms), "ms", f"{_band(performance)} ms"),
            Card("cycles", count(performance.total_cycles), "", cycles),
            Card("arena", kibibytes(performance.arena_bytes), "KiB", "tensor arena of TensorFlow Lite Micro"),
            Card("flash", kibibytes(performance.flash_bytes), "KiB", "the model's file, without code"),
        ]
    if isinstance(result.compatibility, Compatibility) and not isinstance(performance, Performance):
        return [_npu_card(result.compatibility)]
    if not isinstance(performance, Performance):
        return cards
    system = performance.system if isinstance(performance.system, SystemTime) else None
    if performance.latency_ms is not None:
        cards.append(Card("latency", milliseconds(performance.latency_ms), "ms", f"{_band(performance)} ms"))
    if performance.total_cycles is not None:
        rests = performance.calibration
        note = f"{band_text(rests)}; Vela alone {count(performance.vela_total_cycles)}" if rests else "by Vela"
        cards.append(Card("NPU cycles", count(performance.total_cycles), "", note))
    placed = result.compatibility
    if isinstance(placed, Compatibility):
        cards.append(_npu_card(placed))
    if system is not None and system.speedup is not None:
        assert system.cpu_alone is not None
        assert system.speedup_low is not None
        assert system.speedup_high is not None
        note = speedup_text(system.speedup, system.speedup_low, system.speedup_high)
        alone = f"{note}; without it {milliseconds(system.cpu_alone.latency_ms)} ms"
        cards.append(Card("speed by the NPU", f"{system.speedup:.1f}", "times", alone))
    if performance.memory is not None:
        memory, arena_bytes = performance.memory, performance.arena_bytes
        arena = f"arena {kibibytes(arena_bytes)} KiB" if arena_bytes is not None else ""
        cards.append(Card("SRAM", kibibytes(performance.sram_bytes), "KiB", arena))
        sizes = (("flash", performance.flash_bytes), ("DRAM", memory.planned_dram_bytes))
        far = [(name, size) for name, size in sizes if size]
        weights = f"weights {kibibytes(memory.weights_bytes)} → {kibibytes(memory.compressed_weights_bytes)} KiB"
        cards += [Card(name, kibibytes(size), "KiB", weights) for name, size in far]
    return cards


def _band(performance: Performance | CpuPerformance) -> str:
    return f"{milliseconds(performance.low_ms)} to {milliseconds(performance.high_ms)}"


def _npu_card(placed: Compatibility) -> Card:
    macs = f"{percent(placed.npu_mac_percent)} % of the MACs" if placed.npu_mac_percent is not None else ""
    note = ", ".join(part for part in (macs, plural(placed.npu_segments, "segment")) if part)
    return Card("on the NPU", percent(placed.npu_percent), "%", f"of operators; {note}")


def _operators(result: Result) -> tuple[OperatorView, ...]:
    performance, placed = result.performance, result.compatibility
    if isinstance(performance, CpuPerformance):
        return _bars([_on_host(cost) for cost in performance.operators], performance.latency_ms)
    if isinstance(placed, CpuCompatibility):
        return _bars([replace(_on_host(cost), time_ms=0.0, time=NOTHING) for cost in placed.operators], None)
    placements = (
        {(each.subgraph, each.index): each for each in placed.operators} if isinstance(placed, Compatibility) else {}
    )
    if not isinstance(performance, Performance):
        return _bars([_placed_only(each) for each in placements.values()], None)
    host = {(cost.subgraph, cost.index): cost for cost in performance.cpu_costs}
    once = {each.subgraph for each in performance.further_subgraphs if each.runs == ONCE}
    drawn = []
    for cost in performance.operators:
        key = cost.subgraph, cost.index
        view = _on_host(host[key], placements.get(key)) if key in host else _on_npu(cost, placements.get(key))
        # What runs at the start is no part of an inference.
        drawn.append(replace(view, time_ms=0.0, time=f"{view.time} once") if cost.subgraph in once else view)
    return _bars(drawn, performance.known_ms)


def _bars(drawn: Sequence[OperatorView], whole: float | None) -> tuple[OperatorView, ...]:
    """With widths, shares of the time of a whole inference, and names without what all share."""
    names = display_names([each.name for each in drawn])
    longest = max((each.time_ms for each in drawn), default=0.0)
    return tuple(
        OperatorView(
            each.key, each.number, each.kind, name, each.unit, each.time_ms, each.time,
            percent(100 * each.time_ms / whole if whole and each.time_ms else None),
            round(100 * each.time_ms / longest, 2) if longest else 0.0,
            each.busy_percent, each.details,
        )
        for each, name in zip(drawn, names, strict=True)
    )  # fmt: skip


def _on_npu(cost: OperatorCost, placement: Placement | None) -> OperatorView:
    unit = _UNITS.get(cost.processor, "npu")
    if unit == "npu":
        unit = "memory" if cost.bound_by in MEMORY else "npu" if cost.total_cycles else "folded"
    details = [
        ("runs on", str(cost.processor)),
        ("cycles", count(cost.total_cycles)),
        ("by Vela", count(cost.vela_total_cycles)),
        ("units work in", count(cost.npu_cycles)),
        ("waits for", str(cost.bound_by) if cost.bound_by else NOTHING),
        ("MACs", count(cost.macs)),
        ("MAC utilization", f"{fraction(cost.mac_utilization)} %" if cost.mac_utilization is not None else NOTHING),
        ("weights", _sizes(cost.weights_bytes, cost.compressed_weights_bytes)),
        *(
            (moved.memory, f"{kibibytes(moved.read_bytes)} KiB read, {kibibytes(moved.write_bytes)} KiB written")
            for moved in cost.traffic
        ),
        ("note", cost.note),
        *_reasons(placement),
    ]
    busy = 100 * (cost.npu_cycles or 0) / cost.total_cycles if cost.total_cycles else 0.0
    return _view(cost, unit, cost.latency_ms, min(busy, 100.0), details)


def _on_host(cost: CpuCost, placement: Placement | None = None) -> OperatorView:
    cycles = f"{count(cost.total_cycles)} ({count(cost.low_cycles)} to {count(cost.high_cycles)})"
    details = [
        ("runs on", "CPU"),
        ("cycles", cycles if cost.total_cycles is not None else NOTHING),
        ("kernel", " ".join(part for part in (cost.kernel.library, cost.kernel.name) if part) or NOTHING),
        ("why that kernel", cost.kernel.reason),
        ("MACs", count(cost.macs)),
        ("weights", _sizes(cost.weights_bytes, None)),
        *_reasons(placement),
    ]
    return _view(cost, "cpu", cost.latency_ms, 100.0, details)


def _placed_only(placement: Placement) -> OperatorView:
    unit = _UNITS.get(placement.processor, "folded" if placement.is_folded else "npu")
    details = [("runs on", str(placement.processor)), ("MACs", count(placement.macs)), *_reasons(placement)]
    return _view(placement, unit, None, 100.0, details)


def _view(
    each: OperatorCost | CpuCost | Placement,
    unit: str,
    time_ms: float | None,
    busy_percent: float,
    details: Sequence[tuple[str, str]],
) -> OperatorView:
    told = tuple((label, text) for label, text in details if text and text != NOTHING)
    return OperatorView(
        key=f"{each.subgraph}.{each.index}",
        number=identity(each.subgraph, each.index),
        kind=each.kind,
        name=each.name,
        unit=unit,
        time_ms=time_ms or 0.0,
        time=milliseconds(time_ms),
        share="",
        width_percent=0.0,
        busy_percent=round(busy_percent, 1),
        details=told,
    )


def _reasons(placement: Placement | None) -> list[tuple[str, str]]:
    if placement is None:
        return []
    found = [("segment", str(placement.segment))] if placement.segment else []
    for constraint in placement.constraints:
        rule = f" ({constraint.rule})" if constraint.rule else ""
        found.append(("why not on the NPU", f"{constraint.violation}{rule}"))
    return found


def _sizes(weights_bytes: int, compressed_bytes: int | None) -> str:
    if not weights_bytes:
        return ""
    compressed = f" -> {kibibytes(compressed_bytes)} KiB compressed" if compressed_bytes is not None else ""
    return f"{kibibytes(weights_bytes)} KiB{compressed}"


def _rests_on(result: Result) -> list[tuple[str, str]]:
    """Where the figures come from, and how far to believe them."""
    lines = []
    performance, placed = result.performance, result.compatibility
    if isinstance(placed, Compatibility):
        lines.append(("placement", f"by {placed.source.by} {placed.source.version}"))
    if isinstance(performance, Performance):
        lines.append(("time on the NPU", source_text(performance.source)))
        rests = performance.calibration
        if rests is not None:
            lines.append(("calibrated", f"{evidence_text(rests)}; band {like_text(rests)}"))
            if rests.why:
                lines.append(("not Vela's", rests.why))
            lines.append(("to know", rests.note))
            if rests.not_measured:
                unlike = "; ".join(rests.not_measured)
                lines.append(("no data for", f"{unlike}: whether the band holds there, nobody knows"))
        if isinstance(performance.system, SystemTime):
            system = performance.system
            lines.append(("time on the host", f"{source_text(system.cpu_source)} ({system.stack})"))
            lines.append(("hand-over", source_text(system.handover_source)))
    elif isinstance(performance, CpuPerformance):
        lines.append(("time", f"{source_text(performance.source)} ({performance.stack})"))
        lines.append(("fitted on", "; ".join(performance.fitted_on)))
        lines.append(("to know", performance.note))
    return lines

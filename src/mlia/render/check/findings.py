"""What the formats for CI share: limits, advice and headline figures, each as one sentence."""

import math
from collections.abc import Sequence

from msgspec import Struct

from mlia.advice import Advice, Attempt, Severity
from mlia.cpu_results import CpuPerformance, SystemTime
from mlia.render.check.advice import difference
from mlia.render.evidence import band_text
from mlia.render.text import (
    NOTHING,
    count,
    identity,
    kibibytes,
    milliseconds,
    milliseconds_band,
    percent,
    plural,
    source_text,
)
from mlia.report import Blamed, Budget, CheckReport, TargetReport
from mlia.results import NOT_ASKED, Compatibility, OperatorId, Result, Skipped

OPERATORS_NAMED = 8
AT_LEAST = ("npu_percent",)
_FIGURES = {
    "latency_ms": ("latency", "ms"),
    "sram_kib": ("SRAM", "KiB"),
    "flash_kib": ("flash", "KiB"),
    "npu_percent": ("operators on the NPU", "%"),
    "regression_percent": ("latency above the baseline's", "%"),
}


class Grouped(Struct, frozen=True):
    """The same advice for one target or several. `advice` is the first target's."""

    advice: Advice
    targets: tuple[str, ...]


class Headline(Struct, frozen=True):
    """The figures of one target, as text without units.

    `unknown` says why there is no time, `refusal` why there is nothing at all, `no_data_for` for what nobody knows
    whether the band holds; each may be empty.
    """

    target: str
    latency_ms: str
    band_ms: str
    cycles: str
    cycles_band: str
    npu_percent: str
    sram_kib: str
    flash_kib: str
    sources: tuple[str, ...]
    unknown: str
    no_data_for: str = ""
    refusal: str = ""


def grouped_advice(report: CheckReport) -> list[Grouped]:
    """All advice, warnings first, the same for several targets once."""
    found: dict[tuple[object, ...], tuple[Advice, list[str]]] = {}
    for entry in report.targets:
        for advice in entry.advised.advice:
            key = (advice.code, advice.severity, advice.operators, advice.evidence, advice.remedy)
            found.setdefault(key, (advice, []))[1].append(entry.target.name)
    groups = [Grouped(advice, tuple(names)) for advice, names in found.values()]
    return sorted(groups, key=lambda group: group.advice.severity != Severity.WARNING)


def advice_text(advice: Advice) -> str:
    """The offence and its remedy."""
    return f"{advice.evidence[:1].upper()}{advice.evidence[1:]}. {advice.remedy}"


def tried_text(advice: Advice) -> str:
    """What the best remedy brought when it was tried, before -> after; empty when none was."""
    best = next((each for each in advice.attempts if isinstance(each, Attempt)), None)
    if best is None:
        return ""
    text = f"tried {best.what}: {difference(best.before, best.after)}"
    return text if best.is_gain else f"{text}, which is not enough"


def where_text(operators: Sequence[OperatorId]) -> str:
    """The numbers of operators: "operators 3, 4"; empty without any."""
    if not operators:
        return ""
    numbers = [identity(operator.subgraph, operator.index) for operator in operators]
    more = f" and {len(numbers) - OPERATORS_NAMED} more" if len(numbers) > OPERATORS_NAMED else ""
    return f"operator{'s' if len(numbers) > 1 else ''} {', '.join(numbers[:OPERATORS_NAMED])}{more}"


def figure_name(budget: Budget) -> str:
    """The limited figure in words."""
    return _FIGURES.get(budget.figure, (budget.figure, ""))[0]


def budget_values(budget: Budget) -> tuple[str, str]:
    """What there is and what is allowed, with units; a miss never reads as if both were the same."""
    unit = _FIGURES.get(budget.figure, ("", ""))[1]
    limit = _number(budget.limit, budget.figure)
    if budget.value is None:
        return "not known", f"{limit} {unit}".rstrip()
    value = _number(budget.value, budget.figure)
    if value == limit and budget.value != budget.limit:
        value, limit = f"{budget.value:.12g}", f"{budget.limit:.12g}"
    return f"{value} {unit}".rstrip(), f"{limit} {unit}".rstrip()


def budget_text(budget: Budget) -> str:
    """Whether a limit is kept: figure, value, limit, and the reason where the value is not known."""
    value, limit = budget_values(budget)
    bound = "at least" if budget.figure in AT_LEAST else "at most"
    reason = f" ({budget.reason})" if budget.reason else ""
    return f"{figure_name(budget)}: {value}{reason}, {bound} {limit} allowed"


def blamed_text(blamed: Blamed, figure: str) -> str:
    """An operator that has much of a figure: number, kind, name and how much."""
    unit = _FIGURES.get(figure, ("", ""))[1]
    of = f"{_number(blamed.value, figure)} {unit}".rstrip()
    return f"{operator_text(blamed.subgraph, blamed.index, blamed.kind, blamed.name)}: {of}"


def operator_text(subgraph: int, index: int, kind: str, name: str) -> str:
    """An operator by its number, kind and name."""
    return f"operator {identity(subgraph, index)} {kind} '{name}'"


def headline(entry: TargetReport, result: Result) -> Headline:
    """The figures of one target, whichever processor it has."""
    found = result.performance
    placed = result.compatibility
    npu = percent(placed.npu_percent) if isinstance(placed, Compatibility) else NOTHING
    name = entry.target.name
    if isinstance(found, Skipped):
        unknown = "" if entry.refusal else found.reason
        figures = NOTHING, "", NOTHING, "", npu, NOTHING, NOTHING
        return Headline(name, *figures, (), unknown, refusal=entry.refusal)
    if isinstance(found, CpuPerformance):
        return _cpu_headline(name, found)
    system = found.system if isinstance(found.system, SystemTime) else None
    sources = [f"the NPU's cycles {source_text(found.source)}"] if found.total_cycles is not None else []
    if system is not None and system.cpu.cycles:
        sources.append(f"the {entry.target.host}'s part {source_text(system.cpu_source)}")
    return Headline(
        target=name,
        latency_ms=milliseconds(found.latency_ms),
        band_ms=milliseconds_band(found.low_ms, found.high_ms),
        cycles=count(found.total_cycles),
        cycles_band=band_text(found.calibration) if found.calibration and found.total_cycles is not None else "",
        npu_percent=npu,
        sram_kib=kibibytes(found.sram_bytes),
        flash_kib=kibibytes(found.flash_bytes),
        sources=tuple(sources),
        unknown=found.system.reason if isinstance(found.system, Skipped) else "",
        no_data_for="; ".join(found.calibration.not_measured) if found.calibration else "",
    )


def headline_text(figures: Headline) -> str:
    """The same as one sentence."""
    if figures.refusal:
        return f"{figures.target}: not checked: {figures.refusal}"
    if figures.unknown:
        return f"{figures.target}: the time is not known: {figures.unknown}"
    band = f" ({figures.band_ms})" if figures.band_ms else ""
    parts = [f"{figures.latency_ms} ms{band}", f"{figures.cycles} cycles"]
    parts += [f"{figures.npu_percent} % of operators on the NPU"] if figures.npu_percent != NOTHING else []
    parts += [f"SRAM {figures.sram_kib} KiB, flash {figures.flash_kib} KiB"]
    parts += figures.sources
    return f"{figures.target}: {', '.join(parts)}"


def helpful_advice(advice: Sequence[Advice], blamed: Sequence[Blamed]) -> list[Advice]:
    """Advice that may help to keep a limit: about the operators to blame, or else what saves most."""
    guilty = {OperatorId(each.subgraph, each.index) for each in blamed}
    about = [each for each in advice if guilty.intersection(each.operators)]
    return about or [each for each in advice if (each.saved_ms or 0) > 0][:3]


def skipped_reasons(entry: TargetReport, result: Result) -> list[str]:
    """What was not done, with the reason; not what nobody asked for, nor each part of what was refused as a whole."""
    if entry.refusal:
        return []
    parts = (result.compatibility, result.performance)
    found = [f"{each.what}: {each.reason}" for each in parts if isinstance(each, Skipped) and each.reason != NOT_ASKED]
    return list(dict.fromkeys(found))


def _cpu_headline(name: str, found: CpuPerformance) -> Headline:
    reasons = sorted({cost.kernel.reason for cost in found.operators if not cost.kernel.is_supported})
    stopped = f"{plural(found.unsupported_operators, 'operator')} cannot run: {'; '.join(reasons)}"
    return Headline(
        target=name,
        latency_ms=milliseconds(found.latency_ms),
        band_ms=milliseconds_band(found.low_ms, found.high_ms),
        cycles=count(found.total_cycles),
        cycles_band="",
        npu_percent=NOTHING,
        sram_kib=kibibytes(found.sram_bytes),
        flash_kib=kibibytes(found.flash_bytes),
        sources=(source_text(found.source),),
        unknown=stopped if found.unsupported_operators else "",
    )


def _number(value: float, figure: str) -> str:
    """A figure as text; limits may be any number that a user can write."""
    if not math.isfinite(value):
        return str(value)
    if figure == "latency_ms":
        return milliseconds(value)
    return percent(value) if figure.endswith("_percent") else f"{value:,.1f}"

"""CheckReport -> GitHub-flavored Markdown, for a pull request's comment or a job's summary."""

import re
from collections.abc import Iterable, Sequence

from mlia.advice import Severity
from mlia.cpu_results import CpuCost, CpuPerformance
from mlia.render.check.findings import (
    AT_LEAST,
    Grouped,
    advice_text,
    blamed_text,
    budget_values,
    figure_name,
    grouped_advice,
    headline,
    tried_text,
    where_text,
)
from mlia.render.convert import untouched_sentences
from mlia.render.text import (
    NOTHING,
    count,
    display_names,
    fraction,
    identity,
    kibibytes,
    milliseconds,
    plural,
    printable,
    shorten,
)
from mlia.report import Blamed, Budget, CheckReport, TargetReport
from mlia.results import OperatorCost, Performance, Result

SLOWEST_SHOWN = 10
ADVICE_SHOWN = 5
BLAMED_SHOWN = 3
NAME_WIDTH = 60
LONGEST = 60_000  # characters: GitHub refuses comments of more than 65,536
_SPECIAL = re.compile(r"[&<>|`*\[\]\\~$!{}]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_LINKS = re.compile(r"(?<=:)//|(?<=[wW]{3})\.")
_MENTIONS = re.compile(r"[@#]")


def render_markdown(report: CheckReport) -> str:
    """The report as Markdown: headline figures, limits, advice, and the slowest operators of each target folded away.

    Names and texts are escaped: they neither end a cell nor call anybody. What would make a comment too long for
    GitHub, the tables of operators, is left out then.
    """
    head = [*_figures(report), *_limits(report), *_advice(report)]
    tables = [lines for entry in report.targets for result in entry.results if (lines := _slowest(entry, result))]
    foot = [*(f"> {prose(note)}\n" for note in report.notes), f"_by mlia {prose(report.mlia_version)}_"]
    size = sum(len(line) + 1 for line in [*head, *foot])
    shown: list[str] = []
    for number, lines in enumerate(tables):
        size += sum(len(line) + 1 for line in lines)
        if size > LONGEST:
            shown += [f"The operators of {plural(len(tables) - number, 'target')} are left out for length.", ""]
            break
        shown += lines
    return "\n".join([*head, *shown, *foot]) + "\n"


def prose(text: str) -> str:
    """Text on one line in which no character means anything to Markdown, and none mentions, links or is HTML."""
    escaped = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", printable(text))
    escaped = _LINKS.sub(lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), escaped)
    # A zero-width space: entities would not keep GitHub from notifying whoever has that name.
    return _MENTIONS.sub(
        lambda found: found[0] if _is_entity(escaped, found.start()) else f"{found[0]}&#8203;", escaped
    )


def code(name: str) -> str:
    """A name in the type of code, shortened in the middle."""
    return f"<code>{prose(shorten(printable(name), NAME_WIDTH)) or ' '}</code>" if name.strip() else "unnamed"


def _is_entity(text: str, position: int) -> bool:
    return position > 0 and text[position - 1] == "&"


def _table(headings: Sequence[str], aligned: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """A table and the empty line after it; `aligned` has an l or an r for each column."""
    rules = ["---" if side == "l" else "--:" for side in aligned]
    return [*(f"| {' | '.join(cells)} |" for cells in (headings, rules, *rows)), ""]


def _figures(report: CheckReport) -> list[str]:
    """One line a target, by whom that is estimated, and why a time is not known."""
    model = report.model
    lines = [f"### {code(model.name)}: {kibibytes(model.size_bytes)} KiB, {plural(model.operators, 'operator')}", ""]
    if sentences := untouched_sentences(report):
        lines += [prose(" ".join(sentences)), ""]
    figures = [headline(entry, result) for entry in report.targets for result in entry.results]
    rows = [
        (
            prose(each.target),
            f"{each.latency_ms} ({each.band_ms})" if each.band_ms else each.latency_ms,
            f"{each.cycles} ({each.cycles_band})" if each.cycles_band else each.cycles,
            prose(each.npu_percent),
            each.sram_kib,
            each.flash_kib,
        )
        for each in figures
    ]
    headings = ("target", "latency, ms", "cycles", "operators on the NPU, %", "SRAM, KiB", "flash, KiB")
    lines += _table(headings, "lrrrrr", rows)
    lines += [f"**{prose(each.target)} is not checked**: {prose(each.refusal)}\n" for each in figures if each.refusal]
    lines += [
        f"The time on {prose(each.target)} is not known: {prose(each.unknown)}\n" for each in figures if each.unknown
    ]
    lines += [
        f"Whether the band holds on {prose(each.target)}, nobody knows: no data for {prose(each.no_data_for)}\n"
        for each in figures
        if each.no_data_for
    ]
    by: dict[tuple[str, ...], list[str]] = {}
    for each in figures:
        by.setdefault(each.sources, []).append(each.target)
    for sources, targets in by.items():
        if sources:
            of = f" ({prose(', '.join(targets))})" if len(by) > 1 else ""
            lines.append(f"Figures{of}: {prose(', '.join(sources))}; in brackets the band of the estimate.\n")
    return lines


def _limits(report: CheckReport) -> list[str]:
    if not report.budgets:
        return []
    missed = sum(not budget.is_kept for budget in report.budgets)
    title = f"{missed} of {plural(len(report.budgets), 'limit')} missed" if missed else "All limits are kept"
    rows = [_limit_row(budget) for budget in report.budgets]
    return [f"#### {title}", "", *_table(("", "target", "figure", "value", "limit", "to blame"), "lllrrl", rows)]


def _limit_row(budget: Budget) -> tuple[str, ...]:
    value, limit = budget_values(budget)
    bound = "≥" if budget.figure in AT_LEAST else "≤"
    return (
        "✅" if budget.is_kept else "❌",
        prose(budget.target),
        prose(figure_name(budget)),
        prose(f"{value}: {budget.reason}" if budget.reason else value),
        prose(f"{bound} {limit}"),
        "<br>".join(_blamed(each, budget.figure) for each in budget.blamed[:BLAMED_SHOWN]),
    )


def _blamed(blamed: Blamed, figure: str) -> str:
    share = blamed_text(blamed, figure).rpartition(": ")[2]
    number = identity(blamed.subgraph, blamed.index)
    return f"{number} {prose(blamed.kind)} {code(blamed.name)}: {prose(share)}"


def _advice(report: CheckReport) -> list[str]:
    groups = grouped_advice(report)
    if not groups:
        return ["#### No advice", ""]
    lines = ["#### Advice", ""]
    for group in groups[:ADVICE_SHOWN]:
        lines += _advised(group, len(report.targets) > 1)
    if rest := groups[ADVICE_SHOWN:]:
        lines += ["", f"<details><summary>{len(rest)} more</summary>", ""]
        for group in rest:
            lines += _advised(group, len(report.targets) > 1)
        lines += ["", "</details>"]
    return [*lines, ""]


def _advised(group: Grouped, is_for_several: bool) -> list[str]:
    """One item of the list: what is wrong, what to do, and before -> after where it was tried."""
    advice = group.advice
    sign = "⚠️" if advice.severity == Severity.WARNING else "💡"
    where = f" ({where_text(advice.operators)})" if advice.operators else ""
    targets = f", for {prose(', '.join(group.targets))}" if is_for_several else ""
    lines = [f"- {sign} **{prose(advice.code)}** {prose(advice.name)}{where}{targets}: {prose(advice_text(advice))}"]
    if tried := tried_text(advice):
        on = f" on {prose(group.targets[0])}" if len(group.targets) > 1 else ""
        lines.append(f"  <br>{prose(tried.replace(' -> ', ' → '))}{on}")
    return [line.rstrip() for line in lines]  # two spaces at the end would break the line


def _slowest(entry: TargetReport, result: Result) -> list[str]:
    """The slowest operators of NPU and Cortex-M in one folded table; nothing where none has a time."""
    found = result.performance
    costs: list[OperatorCost | CpuCost] = []
    if isinstance(found, Performance):
        on_host = {(each.subgraph, each.index) for each in found.cpu_costs}
        costs = [each for each in found.operators if (each.subgraph, each.index) not in on_host]
        costs += found.cpu_costs
    elif isinstance(found, CpuPerformance):
        costs = list(found.operators)
    names = display_names([each.name for each in costs])
    timed = [(each, name) for each, name in zip(costs, names, strict=True) if _time_ms(each)]
    if not timed:
        return []
    ranked = sorted(timed, key=lambda item: (-_time_ms(item[0]), item[0].subgraph, item[0].index))[:SLOWEST_SHOWN]
    headings = ("#", "operator", "name", "runs on", "ms", "cycles", "bound by, or kernel", "MAC use, %")
    summary = f"The slowest of {plural(len(costs), 'operator')} on {prose(entry.target.name)}"
    rows = [_cost_row(cost, name) for cost, name in ranked]
    table = _table(headings, "rlllrrlr", rows)
    return [f"<details><summary>{summary}</summary>", "", *table, "</details>", ""]


def _time_ms(cost: OperatorCost | CpuCost) -> float:
    return cost.latency_ms or 0.0


def _cost_row(cost: OperatorCost | CpuCost, name: str) -> tuple[str, ...]:
    number = identity(cost.subgraph, cost.index)
    if isinstance(cost, OperatorCost):
        runs_on, bound = str(cost.processor), str(cost.bound_by or "")
        cycles, use = cost.total_cycles, fraction(cost.mac_utilization if cost.macs else None)
    else:
        runs_on, bound = "CPU", f"{cost.kernel.library}: {cost.kernel.name}"
        cycles, use = cost.total_cycles, NOTHING
    figures = (milliseconds(_time_ms(cost)), count(cycles), prose(bound), prose(use))
    return (number, prose(cost.kind), code(name), runs_on, *figures)

"""CompareReport -> Markdown, as a comment on a pull request shows it."""

from collections.abc import Sequence

from mlia.difference import CompareReport, TargetDifference
from mlia.render.compare.parts import (
    Group,
    budget_text,
    estimate_text,
    groups,
    headline,
    matches_text,
    names_of,
    not_measured,
    operator_rows,
    reason_lines,
    side_text,
    total_rows,
    unknown_lines,
    verdict_text,
)
from mlia.render.text import identity, printable

SHOWN = 25  # operators of a group: a comment on GitHub has 65,536 letters at most
_SPECIAL = frozenset("\\`*_[]<#|~&")
_OPERATORS = ("#", "now", "operator", "name", "runs on", "ms", "now", "change", "cycles", "now", "what differs")
_TO_THE_RIGHT = frozenset({0, 1, 5, 6, 7, 8, 9})


def render_markdown(found: CompareReport) -> str:
    """The difference as GitHub's Markdown, ending with a newline."""
    before, after = map(code, names_of(found))
    lines = [f"### {before} → {after}: {words(headline(found))}", ""]
    for label, side in (("before", found.before), ("after", found.after)):
        lines.append(f"- {label}: {code(side.given)}, {words(side_text(side))}")
        lines += [f"  - {words(note)}" for note in side.notes]
    lines.append(f"- operators: {matches_text(found.targets[0].operators)}")
    lines += [f"- {words(note)}" for note in found.notes]
    lines += [f"- left out: {code(missing.what)}, {words(missing.reason)}" for missing in found.missing_targets]
    lines += [f"- refused: {code(refused.what)}, {words(refused.reason)}" for refused in found.refused_targets]
    lines += _budgets(found)
    for entry in found.targets:
        lines += _target(entry)
    lines += ["", f"<sub>by mlia {words(found.mlia_version)}, estimated and not measured</sub>"]
    return "\n".join(lines) + "\n"


def words(text: str) -> str:
    """Text that Markdown takes as nothing but text, and that calls nobody."""
    escaped = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in printable(text))
    return escaped.replace("@", "@\N{ZERO WIDTH SPACE}")


def code(text: str) -> str:
    """A name that stands as it is, also in a table."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`" if text.strip() else "(unnamed)"


def _budgets(found: CompareReport) -> list[str]:
    if not found.budgets:
        return []
    lines = ["", "**Limit of the regression**", ""]
    for budget in found.budgets:
        lines.append(f"- {'✅' if budget.is_kept else '❌'} {code(budget.target)}: {words(budget_text(budget))}")
        for each in budget.blamed:
            number = identity(each.subgraph, each.index)
            lines.append(f"  - operator {number}, {code(each.kind)} {code(each.name)}: {each.value:+.1f} %")
    return lines


def _target(entry: TargetDifference) -> list[str]:
    lines = ["", f"#### {code(entry.target.name)}: {words(verdict_text(entry))}", ""]
    if entry.target_changes:
        lines += [*(f"- other target: {words(change)}" for change in entry.target_changes), ""]
    rows = [[words(cell).replace("  ", "&emsp;") for cell in row] for row in total_rows(entry)]
    lines += _table(("", "before", "after", "change", "%"), rows, {1, 2, 3, 4})
    lines += ["", f"Times {words(estimate_text(entry))}."]
    if unlike := not_measured(entry):
        lines.append(f"No data for {words(unlike)}: whether the band holds there, nobody knows.")
    lines += [f"Not known: {words(line)}." for line in unknown_lines(entry)]
    if entry.explanation:
        lines.append(f"{words(entry.explanation[0].upper() + entry.explanation[1:])}.")
    shown = [group for group in groups(entry) if group.title != "As before"]
    if shown:
        told = ", ".join(f"{len(group.operators)} {group.title[0].lower()}{group.title[1:]}" for group in shown)
        lines += ["", f"<details><summary>Operators: {told}</summary>", ""]
        for group in shown:
            lines += _group(entry, group)
        lines.append("</details>")
    return lines


def _group(entry: TargetDifference, group: Group) -> list[str]:
    rows = operator_rows(entry, group)
    cells = [[code(cell) if place in (2, 3) else words(cell) for place, cell in enumerate(row)] for row in rows[:SHOWN]]
    lines = [f"**{group.title}**", "", *_table(_OPERATORS, cells, _TO_THE_RIGHT)]
    if len(rows) > SHOWN:
        lines += ["", f"and {len(rows) - SHOWN} more"]
    if reasons := reason_lines(group):
        lines += ["", *(f"- {words(line)}" for line in reasons)]
    return [*lines, ""]


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], to_the_right: set[int] | frozenset[int]
) -> list[str]:
    rule = ["--:" if place in to_the_right else "---" for place in range(len(headings))]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]

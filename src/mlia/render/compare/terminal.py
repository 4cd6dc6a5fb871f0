"""CompareReport -> text for a terminal, from 80 columns up."""

from mlia.difference import CompareReport, TargetDifference
from mlia.render.compare.parts import (
    Group,
    budget_text,
    change_lines,
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
from mlia.render.text import LABEL, Column, Page, identity, plural, shorten

SHOWN = 12  # operators of a group
_TOTALS = (
    Column("", align_right=False),
    Column("before"),
    Column("after"),
    Column("change"),
    Column("%"),
)
_OPERATORS = (
    Column("#"),
    Column("now"),
    Column("operator", align_right=False),
    Column("name", align_right=False, flexible=True),
    Column("runs on", align_right=False, rank=2),
    Column("ms"),
    Column("now"),
    Column("change"),
    Column("cycles", rank=4),
    Column("now", rank=4),
    Column("what differs", rank=3, align_right=False),
)
# Of those that moved, where they run matters more than how the two times differ.
_MOVED = tuple(
    Column(
        column.heading,
        {"runs on": 0, "change": 1}.get(column.heading, column.rank),
        column.align_right,
        column.flexible,
    )
    for column in _OPERATORS
)


def render_difference(found: CompareReport, width: int, color: bool, all_operators: bool) -> str:
    """The difference as text, ending with a newline."""
    page = Page(width, color)
    names, verdict = " -> ".join(names_of(found)), headline(found)
    fits = len(names) + len(verdict) + 2 <= width
    page.title(f"{names}: {verdict}" if fits else shorten(names, width))
    if not fits:
        page.paragraph(verdict, "verdict", LABEL)
    for label, side in (("before", found.before), ("after", found.after)):
        page.paragraph(f"{side.given}: {side_text(side)}", label, LABEL)
        for note in side.notes:
            page.paragraph(note, "", LABEL)
    page.paragraph(matches_text(found.targets[0].operators), "operators", LABEL)
    for note in found.notes:
        page.paragraph(note, "note", LABEL)
    for missing in found.missing_targets:
        page.paragraph(f"{missing.what}: {missing.reason}", "left out", LABEL)
    for refused in found.refused_targets:
        page.paragraph(f"{refused.what}: {refused.reason}", "refused", LABEL)
    _show_budgets(page, found)
    for entry in found.targets:
        _show_target(page, entry, all_operators)
    return page.text


def _show_budgets(page: Page, found: CompareReport) -> None:
    if not found.budgets:
        return
    missed = sum(not budget.is_kept for budget in found.budgets)
    verdict = f"missed on {missed} of {plural(len(found.budgets), 'target')}" if missed else "kept"
    page.heading(f"Limit of the regression: {verdict}")
    for budget in found.budgets:
        page.paragraph(f"{budget.target}: {budget_text(budget)}", "-", 4)
        for blamed in budget.blamed:
            number = identity(blamed.subgraph, blamed.index)
            page.paragraph(f"operator {number}, {blamed.kind} '{blamed.name}': {blamed.value:+.1f} %", "  -", 6)


def _show_target(page: Page, entry: TargetDifference, all_operators: bool) -> None:
    verdict = verdict_text(entry)
    page.heading(f"Target {shorten(entry.target.name, width=page.width - len(verdict) - 9)}: {verdict}")
    for change in entry.target_changes:
        page.paragraph(change, "other target", LABEL + 2)
    page.table(_TOTALS, total_rows(entry))
    page.gap()
    page.paragraph(estimate_text(entry), "times", LABEL)
    if unlike := not_measured(entry):
        page.paragraph(f"{unlike}: whether the band holds there, nobody knows", "no data for", LABEL)
    for line in unknown_lines(entry):
        page.paragraph(line, "not known", LABEL)
    if entry.explanation:
        page.paragraph(f"{entry.explanation[0].upper()}{entry.explanation[1:]}.")
    for group in groups(entry):
        if group.title != "As before":
            _show_group(page, entry, group, SHOWN if not all_operators else len(group.operators))
        elif all_operators:
            _show_group(page, entry, group, len(group.operators))


def _show_group(page: Page, entry: TargetDifference, group: Group, shown: int) -> None:
    page.gap()
    page.paragraph(f"{group.title}:")
    rows = operator_rows(entry, group)
    page.table(_MOVED if any(each.is_moved for each in group.operators) else _OPERATORS, rows[:shown])
    if len(rows) > shown:
        page.paragraph(f"and {len(rows) - shown} more (--all-operators shows them)")
    for line in [*change_lines(group)[:shown], *reason_lines(group)]:
        page.paragraph(line, "-", 4)

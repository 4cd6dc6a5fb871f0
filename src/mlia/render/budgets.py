"""Limits -> lines of a report: kept or missed, and what is to blame."""

from mlia.render.text import Page, identity
from mlia.report import Budget

UNITS = {"latency_ms": "ms", "sram_kib": "KiB", "flash_kib": "KiB", "npu_percent": "%", "regression_percent": "%"}


def show_budgets(page: Page, budgets: tuple[Budget, ...]) -> None:
    """All limits, the targets named where there are several."""
    if not budgets:
        return
    page.heading("Limits")
    is_one = len({budget.target for budget in budgets}) == 1
    for budget in budgets:
        where = "" if is_one else f"{budget.target}: "
        page.paragraph(f"{where}{budget_text(budget)}", "kept" if budget.is_kept else "MISSED", 11)


def budget_text(budget: Budget) -> str:
    """One limit in words: "latency_ms 0.3 of 0.5", "npu_percent 75, and not 90; blame CONV_2D 'projection' (25)"."""
    unit = UNITS[budget.figure]
    if budget.value is None:
        return f"{budget.figure} is not known, and must be {_bound(budget)} {budget.limit:g} {unit}: {budget.reason}"
    if budget.is_kept:
        return f"{budget.figure} {budget.value:.4g} of {_bound(budget)} {budget.limit:g} {unit}"
    blamed = ", ".join(
        f"{identity(each.subgraph, each.index)} {each.kind} '{each.name}' ({each.value:.3g} {unit})"
        for each in budget.blamed
    )
    told = f"{budget.figure} {budget.value:.4g}, and must be {_bound(budget)} {budget.limit:g} {unit}"
    return f"{told}; most of it: {blamed}" if blamed else told


def _bound(budget: Budget) -> str:
    return "at least" if budget.figure == "npu_percent" else "at most"

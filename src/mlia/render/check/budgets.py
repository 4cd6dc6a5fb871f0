"""Limits -> lines of a report: kept or missed, and what is to blame."""

from mlia.render.check.findings import blamed_text, budget_text
from mlia.render.text import Page
from mlia.report import Budget


def show_budgets(page: Page, budgets: tuple[Budget, ...]) -> None:
    """All limits, the targets named where there are several."""
    if not budgets:
        return
    page.heading("Limits")
    is_one = len({budget.target for budget in budgets}) == 1
    for budget in budgets:
        where = "" if is_one else f"{budget.target}: "
        page.paragraph(f"{where}{limit_text(budget)}", "kept" if budget.is_kept else "MISSED", 11)


def limit_text(budget: Budget) -> str:
    """One limit in words, and the operators to blame for a miss."""
    blamed = "; ".join(blamed_text(each, budget.figure) for each in budget.blamed)
    return f"{budget_text(budget)}; blame {blamed}" if blamed else budget_text(budget)

"""CheckReport -> workflow commands of GitHub Actions, which annotate a run and its pull request."""

from mlia.advice import Severity
from mlia.render.check.findings import (
    Grouped,
    advice_text,
    blamed_text,
    budget_text,
    figure_name,
    grouped_advice,
    skipped_reasons,
    tried_text,
    where_text,
)
from mlia.render.text import printable
from mlia.report import Budget, CheckReport

_COMMANDS = {Severity.WARNING: "warning", Severity.NOTE: "notice"}


def render_github(report: CheckReport, file: str = "") -> str:
    """One `::error`, `::warning` or `::notice` command per finding, each on a line of its own.

    Errors are targets that could not be checked and limits that are missed; warnings and notices are advice by its
    severity and what the report notes. The most useful stands first, because GitHub shows ten of each kind for a step.
    `file` is the path of the model in the repository, without which an annotation has only the model's name. Empty when
    there is nothing to say.
    """
    path = file or report.model.name
    lines = [
        _command("error", path, f"mlia: {entry.target.name}", f"not checked: {entry.refusal}")
        for entry in report.targets
        if entry.refusal
    ]
    lines += [_missed(budget, path) for budget in report.budgets if not budget.is_kept]
    lines += [_advised(group, path) for group in grouped_advice(report)]
    for entry in report.targets:
        for result in entry.results:
            for reason in skipped_reasons(entry, result):
                lines.append(_command("notice", path, f"mlia: {entry.target.name}", reason))
    lines += [_command("notice", path, "mlia", note) for note in report.notes]
    return "".join(f"{line}\n" for line in lines)


def _missed(budget: Budget, path: str) -> str:
    lines = [f"{budget.target}: {budget_text(budget)}"]
    lines += [f"  {printable(blamed_text(each, budget.figure))}" for each in budget.blamed]
    return _command("error", path, f"mlia: {figure_name(budget)} misses its limit", *lines)


def _advised(group: Grouped, path: str) -> str:
    advice = group.advice
    where = where_text(advice.operators)
    title = f"{advice.code} {advice.name}{f' ({where})' if where else ''}"
    lines = [f"{', '.join(group.targets)}: {advice_text(advice)}"]
    lines += [tried_text(advice)] if tried_text(advice) else []
    return _command(_COMMANDS[advice.severity], path, title, *lines)


def _command(name: str, path: str, title: str, *lines: str) -> str:
    """One command. Lines of its message are kept apart; what else could end it early is escaped."""
    message = "\n".join(printable(line) for line in lines)
    return f"::{name} file={_property(printable(path))},title={_property(printable(title))}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

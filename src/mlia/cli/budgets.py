"""The options that set limits, and a budget.toml that sets them."""

import argparse
from typing import TYPE_CHECKING

from mlia.cli.streams import warn

if TYPE_CHECKING:
    from mlia.pipeline.budgets import BudgetFile
    from mlia.report import CheckReport

SILENT = ("csv", "model-explorer")  # forms in which a miss has no place
OPTIONS = {
    "max_latency_ms": ("MS", "of one inference, the host's part included"),
    "max_sram_kib": ("KIB", "SRAM that a program needs, the interpreter's part of the arena included"),
    "max_flash_kib": ("KIB", "what is stored in flash: the model's file, compiled for an NPU"),
    "min_npu_percent": ("PERCENT", "of the operators on the NPU"),
    "max_regression_percent": ("PERCENT", "how much longer it may take than the baseline"),
}


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add --budget, --baseline and an option for each limit."""
    group = parser.add_argument_group("limits; a miss is exit code 1, and names the operators to blame")
    group.add_argument("--budget", metavar="FILE", help="a TOML file with limits, also for single targets")
    for name, (metavar, text) in OPTIONS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=float, metavar=metavar, help=text)
    group.add_argument("--baseline", metavar="REPORT", help="a JSON report of `mlia check` to compare with")


def limits_of(arguments: argparse.Namespace) -> "tuple[BudgetFile, CheckReport | None] | None":
    """The limits that were set, options above the file, and the baseline; None without any.

    Raises:
        TargetError: a limit that cannot be, or a file that cannot be read.
        ReportError: the baseline cannot be read.
    """
    given = {name: getattr(arguments, name) for name in OPTIONS if getattr(arguments, name) is not None}
    if not given and arguments.budget is None:
        if arguments.baseline is not None:
            arguments.parser.error("--baseline goes with --max-regression-percent")
        return None
    from msgspec.structs import replace

    from mlia.pipeline.budgets import BudgetFile, check_budget, load_budget
    from mlia.pipeline.saved import load_report

    file = load_budget(arguments.budget) if arguments.budget is not None else BudgetFile()
    file = replace(file, **given)
    check_budget(file)
    if file.max_regression_percent is not None and arguments.baseline is None:
        arguments.parser.error("--max-regression-percent needs --baseline, the report of the model before")
    if file.max_regression_percent is None and arguments.baseline is not None:
        arguments.parser.error("--baseline goes with --max-regression-percent")
    return file, load_report(arguments.baseline) if arguments.baseline is not None else None


def refuse_unknowable(file: "BudgetFile", arguments: argparse.Namespace) -> None:
    """Refuse limits of what nobody asked for: they would be missed, whatever the model is."""
    allowed = (file, *file.targets.values())
    is_timed = any(each.max_latency_ms or each.max_sram_kib or each.max_flash_kib for each in allowed)
    if arguments.compatibility and not arguments.performance and (is_timed or file.max_regression_percent is not None):
        arguments.parser.error("limits of time and memory go with --performance")
    is_placed = any(each.min_npu_percent is not None for each in allowed)
    if arguments.performance and not arguments.compatibility and is_placed:
        arguments.parser.error("--min-npu-percent goes with --compatibility")


def judged(report: "CheckReport", file: "BudgetFile", baseline: "CheckReport | None") -> "CheckReport":
    """The report with each limit, kept or missed. Limits of targets that it is not about are named on stderr."""
    from mlia.pipeline.budgets import unasked, with_budgets

    for name in unasked(report, file):
        asked = ", ".join(entry.target.name for entry in report.targets)
        warn(f"warning: the budget has limits for {name}, and the report is about {asked}")
    return with_budgets(report, file, baseline)


def tell_misses(report: "CheckReport", form: str) -> None:
    """Name missed limits on stderr where the form has no place for them."""
    if form not in SILENT:
        return
    from mlia.render.check.budgets import limit_text

    for budget in report.budgets:
        if not budget.is_kept:
            warn(f"missed on {budget.target}: {limit_text(budget)}")

"""`mlia view`: a saved report again, in any form."""

import argparse
import sys
from typing import TYPE_CHECKING

from mlia.cli.budgets import add_limit_options, judged, limits_of
from mlia.cli.formats import add_format_option, write_report
from mlia.cli.streams import can_color, refuse_overwriting, terminal_width, write_output

if TYPE_CHECKING:
    from mlia.report import CheckReport

EPILOG = """examples:
  mlia view report.json
  mlia view report.json --format html -o report.html
  mlia view report.json --budget budget.toml --format junit -o limits.xml

A report is what --format json of check, compare, optimize, verify, accuracy or calibrate has written, or save() of any
report in Python. All forms are for check's; terminal and json for all, html for optimize's and compare's as well,
markdown for compare's.
exit codes: 0 fine; 1 a limit missed, where limits are set here; 2 could not run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("report", metavar="REPORT", help="a file that --format json has written")
    add_format_option(parser)
    add_limit_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read, render, write; returns the exit code."""
    refuse_overwriting(arguments.report, arguments.output, "the report")
    from mlia.pipeline.saved import view
    from mlia.render.forms import forms_of
    from mlia.report import CheckReport

    limits = limits_of(arguments)
    found = view(arguments.report)
    if isinstance(found, CheckReport):
        if limits is not None:
            found = judged(found, *limits)
        report = found
        write_report(report, arguments, lambda: _terminal(report, arguments))
        return int(limits is not None and any(not each.is_kept for each in found.budgets))
    if limits is not None:
        arguments.parser.error("limits are for reports of `mlia check`")
    if arguments.format not in ("terminal", *forms_of(found)):
        arguments.parser.error(f"{arguments.format} is for reports of `mlia check`")
    write_output(_other(found, arguments), arguments.output)
    return 0


def _terminal(report: "CheckReport", arguments: argparse.Namespace) -> str:
    from mlia.render.check.terminal import TerminalStyle, render_terminal

    color = can_color(sys.stdout) and not arguments.output
    return render_terminal(report, TerminalStyle(width=max(terminal_width(), 80), color=color))


def _other(found: object, arguments: argparse.Namespace) -> str:
    """A report of another verb than check, as that verb shows it."""
    from mlia.accuracy import AccuracyReport, CalibrateReport
    from mlia.difference import CompareReport
    from mlia.render.forms import in_form
    from mlia.report import ConvertReport, OptimizeReport
    from mlia.verification import VerifyReport

    width = max(terminal_width(), 80)
    if arguments.format != "terminal":
        return in_form(found, arguments.format)
    if isinstance(found, CompareReport):
        from mlia.render.compare.terminal import render_difference

        return render_difference(found, width, False, False)
    if isinstance(found, ConvertReport):
        from mlia.render.convert import render_conversion

        made = found.converted
        return render_conversion(found.conversion, made.name, made.size_bytes, width, False)
    if isinstance(found, OptimizeReport):
        from mlia.render.optimize import render_optimization

        return render_optimization(found, found.optimized.name, "", width, False)
    if isinstance(found, VerifyReport):
        from mlia.render.verify.terminal import render_verification

        return render_verification(found, width, False, False)
    if isinstance(found, CalibrateReport):
        from mlia.render.calibrate import render_refinement

        return render_refinement(found, width)
    assert isinstance(found, AccuracyReport), "every kind of report has a renderer"
    from mlia.render.accuracy import render_accuracy

    return render_accuracy(found, width, False)

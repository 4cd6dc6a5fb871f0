"""`mlia check`: one model, one or several targets, one report."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mlia.cli.budgets import add_limit_options, judged, limits_of, refuse_unknowable
from mlia.cli.formats import add_format_option, write_report
from mlia.cli.options import add_model_options, add_target_options, seconds
from mlia.cli.streams import can_color, progress_line, refuse_overwriting, tell_refusals, terminal_width
from mlia.errors import MliaError, TransformError

if TYPE_CHECKING:
    from mlia.report import CheckReport

NARROWEST = 80  # columns; what must stay of the tables needs them
EPILOG = """examples:
  mlia check model.tflite -t ethos-u55-256
  mlia check saved_model/ -t ethos-u55-256 --compatibility
  mlia check model.keras -t ethos-u55-256 --calibration samples.npz
  mlia check model.tflite -t ethos-u55-128 -t ethos-u65-512 -t ethos-u85-256
  mlia check model.tflite -t board.toml --format json -o report.json
  mlia check model.tflite -t ethos-u85-256 --format html -o report.html
  mlia check model.tflite -t ethos-u55-256 --fix better.tflite
  mlia check model.tflite -t ethos-u55-256 --select CMP,PER002 --no-try

A float model is quantized first, as it would be deployed; --no-quantize takes it as it is.
Neither --compatibility nor --performance means both. The report goes to stdout; all else to stderr.
Of several targets each reports for itself: one that cannot take the model says so in its place, and on stderr.
exit codes: 0 fine; 1 a finding at or above --fail-on, or a limit missed; 2 could not run, be it on one target only
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    add_model_options(parser)
    add_target_options(parser)
    parser.add_argument("--compatibility", action="store_true", help="where each operator runs, and why")
    parser.add_argument("--performance", action="store_true", help="cycles, latency, memory")
    parser.add_argument("--all-operators", action="store_true", help="the cost of every operator, not only the slowest")
    parser.add_argument("--steps", action="store_true", help="unfold operators into the compiler's steps")
    _add_advice_options(parser)
    add_format_option(parser)
    add_limit_options(parser)
    parser.add_argument("--width", type=_width, metavar="COLUMNS", help="default: the terminal's, or 80")
    parser.add_argument(
        "--fail-on",
        choices=("never", "warning", "note"),
        default="never",
        help="exit with 1 if there is advice of that severity or a graver one",
    )


def _add_advice_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("advice")
    options.add_argument("--select", metavar="CODE", action="append", default=[], help="only rules of these codes")
    options.add_argument("--ignore", metavar="CODE", action="append", default=[], help="no rules of these codes")
    options.add_argument("--no-try", action="store_true", help="do not try remedies on copies")
    options.add_argument(
        "--try-budget", type=seconds, metavar="SECONDS", help="begin no trial after this time (default: 20)"
    )
    options.add_argument("--keep-tried", metavar="FOLDER", help="write the copies: .tflite models, .toml profiles")
    options.add_argument("--fix", metavar="FILE", help="write the model with proven, lossless remedies applied")
    options.add_argument("--all-advice", action="store_true", help="all advice, and what each rule said")


def run(arguments: argparse.Namespace) -> int:
    """Check, render, write; returns the exit code."""
    _refuse_useless_options(arguments)
    refuse_overwriting(arguments.model, arguments.output)
    refuse_overwriting(arguments.model, arguments.fix)
    try:
        _start_early(arguments)
        return _check(arguments)
    finally:
        for name in ("mlia.backends.vela.process", "mlia.transforms.child"):
            if name in sys.modules:
                sys.modules[name].abandon()


def _refuse_useless_options(arguments: argparse.Namespace) -> None:
    """An option that would do nothing is a misunderstanding."""
    if arguments.steps or arguments.all_operators:
        if arguments.format != "terminal":
            arguments.parser.error("--steps and --all-operators are for the terminal; JSON has both always")
        if arguments.compatibility and not arguments.performance:
            arguments.parser.error("--steps and --all-operators go with --performance")
    if arguments.steps or arguments.estimator == "vela":
        from mlia.targets.profiles import load_targets
        from mlia.targets.target import CpuTarget

        if all(isinstance(target, CpuTarget) for target in load_targets(arguments.targets)):
            option = "--steps are" if arguments.steps else "--estimator vela is"
            arguments.parser.error(f"{option} the compiler's, and a Cortex-M alone has no compiler")
    if arguments.no_try and (arguments.try_budget or arguments.keep_tried):
        arguments.parser.error("--no-try tries nothing: leave out --try-budget and --keep-tried")
    if len(arguments.targets) > 1 and (arguments.try_budget or arguments.all_advice):
        option = "--try-budget" if arguments.try_budget else "--all-advice"
        arguments.parser.error(f"{option} is for one target; for several nothing is tried")
    if arguments.fix and arguments.output and os.path.realpath(arguments.fix) == os.path.realpath(arguments.output):
        arguments.parser.error("--fix and --output name the same file")
    for option in ("fix", "keep_tried"):
        if getattr(arguments, option) == "":
            arguments.parser.error(f"--{option.replace('_', '-')} needs a name")
    if arguments.all_advice and arguments.format != "terminal":
        arguments.parser.error("--all-advice is for the terminal; JSON has all advice always")
    if arguments.width and arguments.format != "terminal":
        arguments.parser.error("--width is for the terminal")
    if arguments.calibration and arguments.no_quantize:
        arguments.parser.error("--calibration goes with quantizing; leave out --no-quantize")


def _check(arguments: argparse.Namespace) -> int:
    from mlia.pipeline.check.check import check
    from mlia.pipeline.options import DEFAULT_BUDGET_S, Options, Scope
    from mlia.report import worst_severity
    from mlia.results import Skipped

    limits = limits_of(arguments)
    if limits is not None:
        refuse_unknowable(limits[0], arguments)
    both = arguments.compatibility == arguments.performance
    with progress_line() as progress:
        report = check(
            arguments.model,
            arguments.targets,
            quantize=not arguments.no_quantize,
            calibration=arguments.calibration,
            try_remedies=not arguments.no_try,
            scope=Scope(
                compatibility=both or arguments.compatibility,
                performance=both or arguments.performance,
                select=_codes(arguments.select),
                ignore=_codes(arguments.ignore),
                try_budget_s=arguments.try_budget or DEFAULT_BUDGET_S,
                keep_tried=arguments.keep_tried,
                fix=arguments.fix,
            ),
            options=Options(
                input_shapes=dict(arguments.input_shapes),
                estimator=arguments.estimator,
                timeout_s=arguments.timeout,
                progress=progress,
            ),
        )
    if limits is not None:
        report = judged(report, *limits)
    if isinstance(report.fixed, Skipped):  # exit code 2 has no report, or nobody could tell what it is worth
        raise TransformError(f"{arguments.fix} is not written: {report.fixed.reason}")
    shown = report
    write_report(report, arguments, lambda: _terminal(shown, arguments), arguments.model)
    if tell_refusals((entry.target.name, entry.refusal) for entry in report.targets):
        return 2
    failing = {"never": (), "warning": ("warning",), "note": ("warning", "note")}[arguments.fail_on]
    return 1 if worst_severity(report) in failing or any(not each.is_kept for each in report.budgets) else 0


def _terminal(report: "CheckReport", arguments: argparse.Namespace) -> str:
    from mlia.render.check.terminal import TerminalStyle, render_terminal

    style = TerminalStyle(
        width=arguments.width or max(terminal_width(), NARROWEST),
        color=can_color(sys.stdout) and not arguments.output,
        all_operators=arguments.all_operators,
        steps=arguments.steps,
        all_advice=arguments.all_advice,
    )
    return render_terminal(report, style)


def _codes(given: Sequence[str]) -> tuple[str, ...]:
    """Codes and beginnings of codes, which may be repeated options or lists with commas."""
    return tuple(code.strip() for text in given for code in text.split(","))


def _start_early(arguments: argparse.Namespace) -> None:
    """Let the compiler load, and work, while this process still imports and reads: a quarter of the time.

    What is wrong with the model or the target is for check() to say.
    """
    if len(arguments.targets) > 1 or not os.path.isfile(arguments.model):  # a pipe can be read only once
        return
    from mlia.backends.vela import process as vela_process

    vela_process.warm_up()
    from mlia.targets.profiles import load_target
    from mlia.targets.target import CpuTarget

    with suppress(MliaError, OSError, ValueError):
        target = load_target(arguments.targets[0])
        if isinstance(target, CpuTarget):
            vela_process.abandon()
            return
        with open(arguments.model, "rb") as file:
            if file.read(8)[4:] in (b"TFL3", b"TOSA"):
                file.seek(0)
                vela_process.begin(file, target)
            elif not arguments.no_quantize:
                from mlia.transforms import child

                child.warm_up()


def _width(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not NARROWEST <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of columns from {NARROWEST} to 1000")
    return int(text)

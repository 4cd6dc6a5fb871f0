"""`mlia compare`: what changed from one model to another, and what that costs or saves."""

import argparse
import math
import sys

from mlia.cli.options import TARGET, add_form_options, add_input_shape_option, seconds
from mlia.cli.streams import can_color, progress_line, refuse_overwriting, tell_refusals, terminal_width, write_output
from mlia.render.forms import FORMS, in_form

NARROWEST = 80  # columns; what must stay of the tables needs them
EPILOG = """examples:
  mlia compare old.tflite new.tflite -t ethos-u55-256
  mlia compare baseline.json new.tflite -t ethos-u55-256 --max-regression-percent 2
  mlia compare baseline.json new.json --format markdown -o comment.md
  mlia compare old.tflite new.tflite -t ethos-u85-256 --format html -o compared.html

BEFORE and AFTER are models, or reports of `mlia check --format json`. Operators are matched by name, kind and shape.
exit codes: 0 fine; 1 slower by more than --max-regression-percent, or nobody can tell; 2 could not run, be it on one
target only, which is then named on stderr while the others are compared
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("before", metavar="BEFORE", help="a model that `mlia check` takes, or its JSON report")
    parser.add_argument("after", metavar="AFTER", help="the same, for what it is compared with")
    parser.add_argument(
        *TARGET,
        dest="targets",
        metavar="TARGET",
        action="append",
        help="name of a target or path of a TOML profile, needed for models; of two reports only these; repeat it",
    )
    parser.add_argument(
        "--calibration", metavar="DATA", help="samples to quantize with: .npz, .npy, or a folder of .npy"
    )
    parser.add_argument("--no-quantize", action="store_true", help="take a float model as it is")
    add_input_shape_option(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS", help="for the compiler, per target (default: 600)"
    )
    parser.add_argument(
        "--estimator", choices=("calibrated", "vela"), help="whose cycles (default: the report's, or calibrated)"
    )
    parser.add_argument(
        "--max-regression-percent",
        type=_percent,
        metavar="P",
        help="exit with 1 if the model after takes more than P percent longer on a target, or if that is not known",
    )
    parser.add_argument("--all-operators", action="store_true", help="every operator, also those that are as before")
    add_form_options(parser, FORMS["compare"], "-o", "--output", text="write the comparison to a file")


def run(arguments: argparse.Namespace) -> int:
    """Compare, render, write; returns the exit code."""
    for given in (arguments.before, arguments.after):
        refuse_overwriting(given, arguments.output, "what is compared")
    if arguments.all_operators and arguments.format != "terminal":
        arguments.parser.error("--all-operators is for the terminal; JSON has all operators always")
    if arguments.calibration and arguments.no_quantize:
        arguments.parser.error("--calibration goes with quantizing; leave out --no-quantize")
    from mlia.pipeline.compare.compare import compare
    from mlia.pipeline.options import Options

    with progress_line() as progress:
        found = compare(
            arguments.before,
            arguments.after,
            arguments.targets,
            max_regression_percent=arguments.max_regression_percent,
            quantize=not arguments.no_quantize,
            calibration=arguments.calibration,
            options=Options(
                input_shapes=dict(arguments.input_shapes),
                estimator=arguments.estimator,
                timeout_s=arguments.timeout,
                progress=progress,
            ),
        )
    if arguments.format != "terminal":
        text = in_form(found, arguments.format)
    else:
        from mlia.render.compare.terminal import render_difference

        color = can_color(sys.stdout) and not arguments.output
        text = render_difference(found, max(terminal_width(), NARROWEST), color, arguments.all_operators)
    write_output(text, arguments.output)
    if tell_refusals((each.what, each.reason) for each in found.refused_targets):
        return 2
    return 1 if found.is_over_budget else 0


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a percentage from 0 up")
    return value

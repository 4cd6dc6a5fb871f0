"""`mlia accuracy`: how far the estimates are from published measurements."""

import argparse

from mlia.cli.options import add_form_options
from mlia.cli.streams import terminal_width, write_output
from mlia.render.forms import FORMS, in_form

EPILOG = """examples:
  mlia accuracy
  mlia accuracy --rows
  mlia accuracy --format json -o accuracy.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument("--rows", action="store_true", help="every measurement, not only the sums")
    add_form_options(parser, FORMS["accuracy"], "-o", "--output")


def run(arguments: argparse.Namespace) -> int:
    """Print the ledger; returns the exit code."""
    if arguments.rows and arguments.format == "json":
        arguments.parser.error("--rows is for the terminal; JSON has all rows always")
    from mlia.pipeline.accuracy import accuracy

    found = accuracy()
    if arguments.format != "terminal":
        text = in_form(found, arguments.format)
    else:
        from mlia.render.accuracy import render_accuracy

        text = render_accuracy(found, max(terminal_width(), 80), arguments.rows)
    write_output(text, arguments.output)
    return 0

"""`mlia schema`: the JSON Schema that --format json of a verb follows."""

import argparse

from mlia.cli.streams import write_output
from mlia.render.forms import FORMS

EPILOG = """example:
  mlia schema -o check.schema.json
  mlia schema optimize -o optimize.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    parser.add_argument("of", choices=FORMS, nargs="?", default="check", help="default: check")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it to a file")


def run(arguments: argparse.Namespace) -> int:
    """Print the schema; returns the exit code."""
    from mlia.render.json import render_schema

    write_output(render_schema(arguments.of), arguments.output)
    return 0

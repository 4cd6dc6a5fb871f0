"""`mlia explain`: the page of one rule."""

import argparse

from mlia.cli.streams import terminal_width, write_output

EPILOG = """examples:
  mlia explain CMP060
  mlia explain already-compiled
"""
WIDEST = 100  # columns; longer lines are hard to read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    parser.add_argument("code", metavar="CODE", help="code or name of a rule (`mlia rule list`)")


def run(arguments: argparse.Namespace) -> int:
    """Print the page; returns the exit code."""
    from mlia.render.rules import render_page
    from mlia.rules.catalog import find_rule

    rule = find_rule(arguments.code)
    width = min(max(terminal_width(), 40), WIDEST)
    write_output(render_page(rule.code, rule.name, str(rule.severity), rule.page(), width), None)
    return 0

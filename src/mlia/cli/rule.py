"""`mlia rule list`: what a check looks for."""

import argparse

from mlia.cli.streams import terminal_width, write_output

EPILOG = """examples:
  mlia rule list
  mlia rule list --select CMP
  mlia explain CMP060
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    parser.add_argument("action", choices=("list",), help="list all rules")
    parser.add_argument("--select", metavar="CODE", action="append", default=[], help="only codes that begin like this")


def run(arguments: argparse.Namespace) -> int:
    """Print the list; returns the exit code."""
    from mlia.render.rules import render_rule_list
    from mlia.rules.catalog import chosen, load_rule

    rows = [
        (rule.code, rule.name, str(rule.severity), rule.summary())
        for rule in map(load_rule, chosen(arguments.select, ()))
    ]
    write_output(render_rule_list(rows, max(terminal_width(), 80)), None)
    return 0

"""`mlia target`: which targets there are, and what one assumes."""

import argparse

from mlia.cli.streams import write_output

EPILOG = """examples:
  mlia target list
  mlia target show ethos-u55-256
  mlia target show board.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    parser.add_argument("action", choices=("list", "show"), help="list all built-in targets, or show one target")
    parser.add_argument("name", nargs="?", metavar="TARGET", help="for show: a name or the path of a TOML profile")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the list or the target; returns the exit code."""
    from mlia.render.targets import render_target, render_target_list
    from mlia.targets.profiles import load_target, target_names

    if arguments.action == "list":
        if arguments.name:
            arguments.parser.error("list takes no target")
        write_output(render_target_list([load_target(name) for name in target_names()]), None)
        return 0
    if not arguments.name:
        arguments.parser.error("show needs the name of a target")
    from mlia.backends.ethos_u.coefficients import coefficients_for
    from mlia.targets.cores import describe_core
    from mlia.targets.target import Target

    target = load_target(arguments.name)
    coefficients = coefficients_for(target) if isinstance(target, Target) else None
    write_output(render_target(target, describe_core(target.host.core), coefficients), None)
    return 0

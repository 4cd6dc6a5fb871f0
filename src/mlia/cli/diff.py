"""`mlia diff`: another name of `mlia compare`."""

import argparse

from mlia.cli import compare
from mlia.cli.compare import run

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    compare.add_arguments(parser)
    parser.epilog = compare.EPILOG.replace("mlia compare", "mlia diff")

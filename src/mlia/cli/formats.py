"""The forms in which a report of `mlia check` can be had, by the words of --format."""

import argparse
from importlib import import_module

# Each is render_<word>(report) -> text, of the module mlia.render.<word>.
FORMATS = ("json", "html")


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """Add --format."""
    parser.add_argument("--format", choices=("terminal", *FORMATS), default="terminal", help="default: terminal")


def rendered(report: object, form: str) -> str:
    """The report in one of FORMATS: that of a check; json is for any, html for an optimization as well."""
    word = form.replace("-", "_")
    return str(getattr(import_module(f"mlia.render.{word}"), f"render_{word}")(report))

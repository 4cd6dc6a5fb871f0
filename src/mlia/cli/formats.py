"""The report of a check, written in the form that was asked for."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlia.cli.budgets import tell_misses
from mlia.cli.options import add_form_options
from mlia.cli.streams import write_output
from mlia.render.forms import FORMS, in_form

if TYPE_CHECKING:
    from mlia.report import CheckReport

OVERLAYS = "model-explorer"


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """Add --format and --output."""
    text = "write it to a file; overlays of model-explorer to a folder"
    add_form_options(parser, FORMS["check"], "-o", "--output", text=text)


def write_report(
    report: "CheckReport", arguments: argparse.Namespace, terminal: Callable[[], str], file: str = ""
) -> None:
    """Write a check's report in the form that was asked for; `terminal` makes the text for people."""
    if arguments.format == OVERLAYS and arguments.output:
        _write_overlays(report, arguments.output)
    else:
        is_text = arguments.format == "terminal"
        write_output(terminal() if is_text else in_form(report, arguments.format, file), arguments.output)
    tell_misses(report, arguments.format)


def _write_overlays(report: "CheckReport", folder: str) -> None:
    """A file for each overlay of each target, "<target>.<overlay>.json".

    Raises:
        OutputError: the folder is a file, or cannot be written.
    """
    import os

    from mlia.errors import OutputError
    from mlia.render.check.model_explorer import model_explorer_overlays

    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write overlays to {folder}: {error.strerror}") from None
    for name, text in model_explorer_overlays(report).items():
        write_output(text, os.path.join(folder, f"{name}.json"))

"""The forms in which a report of `mlia check` can be had, by the words of --format."""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from mlia.cli.budgets import tell_misses
from mlia.cli.options import add_form_options
from mlia.cli.streams import write_output

if TYPE_CHECKING:
    from mlia.report import CheckReport

# Each is render_<word>(report) -> text, of a module of mlia.render; those of NAMING take the model's path too.
FORMATS = {
    "json": "json", "html": "html", "csv": "check.csv", "markdown": "check.markdown", "github": "check.github",
    "junit": "check.junit", "sarif": "check.sarif", "model-explorer": "check.model_explorer",
}  # fmt: skip
NAMING = ("github", "sarif")
OVERLAYS = "model-explorer"


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """Add --format and --output."""
    text = "write it to a file; overlays of model-explorer to a folder"
    add_form_options(parser, tuple(FORMATS), "-o", "--output", text=text)


def rendered(report: object, form: str, file: str = "") -> str:
    """The report in one of FORMATS: that of a check; json is for any, html for an optimization as well.

    `file` is where the model is, for forms that point at it.
    """
    render = getattr(import_module(f"mlia.render.{FORMATS[form]}"), f"render_{form.replace('-', '_')}")
    return str(render(report, file) if form in NAMING and file else render(report))


def write_report(
    report: "CheckReport", arguments: argparse.Namespace, terminal: Callable[[], str], file: str = ""
) -> None:
    """Write a check's report in the form that was asked for; `terminal` makes the text for people."""
    if arguments.format == OVERLAYS and arguments.output:
        _write_overlays(report, arguments.output)
    else:
        is_text = arguments.format == "terminal"
        write_output(terminal() if is_text else rendered(report, arguments.format, file), arguments.output)
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

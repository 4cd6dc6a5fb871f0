"""The forms of reports, by the words of --format: what each verb's report has, and what a file's name says."""

from importlib import import_module
from typing import Any

# Each is render_<word>(report) -> text, of a module of mlia.render; those of NAMING take the model's path too.
MODULES = {
    "json": "json", "html": "html", "csv": "check.csv", "markdown": "check.markdown", "github": "check.github",
    "junit": "check.junit", "sarif": "check.sarif", "model-explorer": "check.model_explorer",
}  # fmt: skip
NAMING = ("github", "sarif")
# By the verb whose report it is.
FORMS = {
    "check": tuple(MODULES),
    "compare": ("json", "markdown", "html"),
    "optimize": ("json", "html"),
    "convert": ("json",),
    "verify": ("json",),
    "accuracy": ("json",),
    "calibrate": ("json",),
}
SUFFIXES = {
    ".json": "json", ".html": "html", ".csv": "csv", ".md": "markdown", ".xml": "junit", ".sarif": "sarif",
    ".htm": "html",
}  # fmt: skip


def forms_of(report: object) -> tuple[str, ...]:
    """The forms that a report has."""
    from mlia.render.kinds import verb_of

    return FORMS[verb_of(report)]


def in_form(report: Any, form: str, file: str = "") -> str:
    """The report in one of its forms; `file` is where the model is, for forms that point at it."""
    from mlia.render.kinds import verb_of

    module = "compare.markdown" if (verb_of(report), form) == ("compare", "markdown") else MODULES[form]
    render = getattr(import_module(f"mlia.render.{module}"), f"render_{form.replace('-', '_')}")
    return str(render(report, file) if form in NAMING and file else render(report))

"""A JSON report of `mlia check` from a file -> Report, and nothing that only looks like one."""

from pathlib import Path

from mlia.errors import ModelError, ReportError
from mlia.pipeline.saved import WRITE, decode_saved, load_saved
from mlia.report import Report


def load_report(path: str) -> Report:
    """The report that a file holds.

    Raises:
        ReportError: it is no report of a check that this version reads.
    """
    found = load_saved(path)
    return _checked(Path(path), found)


def read_report(path: str | Path) -> Report | None:
    """The report that a file holds, or None where it is no JSON, and so may be a model.

    What the file is tells its content, never its name.

    Raises:
        ReportError: it is JSON, but no report of a check that this version reads.
        ModelError: it cannot be read at all.
    """
    path = Path(path)
    try:
        if path.is_dir() or path.is_char_device() or path.is_block_device():
            return None  # a SavedModel, or for the reader of models to refuse
        with path.open("rb") as file:
            start = file.read(64)
            if not start.lstrip().startswith(b"{"):
                if path.is_fifo():  # what was read is gone
                    raise ModelError(f"cannot read the model {path}: only a report can come out of a pipe here")
                return None
            content = start + file.read()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    return _checked(path, decode_saved(path, content))


def _checked(path: Path, report: object) -> Report:
    if not isinstance(report, Report):
        raise ReportError(f"{path} is the report of another verb; {WRITE}")
    if report.model.operators and not report.model.graph:
        raise ReportError(f"the report {path} does not list the operators, as old ones did not; check the model again")
    return report

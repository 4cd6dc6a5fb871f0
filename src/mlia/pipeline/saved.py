"""What `--format json` has written -> the report that it was."""

from os import PathLike
from pathlib import Path

import msgspec

from mlia.errors import ModelError, ReportError
from mlia.faces import Face
from mlia.input import REPORT_BYTES, read_file
from mlia.render.kinds import KINDS
from mlia.report import SCHEMA_VERSION, CheckReport

WRITE = "--format json of a verb writes one"


def view(path: str | Path) -> Face:
    """A saved report of any verb, as the value that it was.

    Args:
        path: a file that a report's save() or `--format json` has written.

    Raises:
        ReportError: it cannot be read, is no report, or is one of another version.
    """
    if not isinstance(path, str | PathLike):
        raise ReportError(f"a report is read from a path, and not from a value of type {type(path).__name__}")
    try:
        return _decoded(path, read_file(path, REPORT_BYTES))
    except OSError as error:
        raise ReportError(f"cannot read the report {path}: {error.strerror or error}") from None


def _decoded(path: str | Path, content: bytes) -> Face:
    """The same from what was read; `path` is named in what goes wrong.

    Raises:
        ReportError: it is no report, or one of another version.
    """
    try:
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except RecursionError:
        raise ReportError(f"cannot read the report {path}: it is nested too deeply") from None
    except msgspec.ValidationError:
        raise ReportError(f"{path} is no report; {WRITE}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ReportError(f"cannot read the report {path}: {error}") from None
    kind = next((each.type for each in KINDS.values() if each.known_by in fields), None)
    if kind is None or "schema_version" not in fields:
        raise ReportError(f"{path} is no report; {WRITE}")
    version, ours = bytes(fields["schema_version"]).decode(errors="replace").strip('"')[:20], SCHEMA_VERSION
    if version.partition(".")[0] != ours.partition(".")[0]:
        reads = f"and this mlia reads {ours.partition('.')[0]}.x; make it anew"
        raise ReportError(f"cannot read the report {path}: its schema is version {version}, {reads}")
    try:
        found = msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise ReportError(f"cannot read the report {path}: it is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ReportError(f"{path} is a damaged report: {error}") from None
    if isinstance(found, CheckReport) and (reason := _why_damaged(found)):
        raise ReportError(f"{path} is a damaged report: {reason}")
    return found


def load_report(path: str) -> CheckReport:
    """The report that a file holds.

    Raises:
        ReportError: it is no report of a check that this version reads.
    """
    return _checked(path, view(path))


def read_report(path: str | PathLike[str]) -> CheckReport | None:
    """The report that a file holds, or None where it is no JSON, and so may be a model.

    What the file is tells its content, never its name.

    Raises:
        ReportError: it is JSON, but no report of a check that this version reads.
        ModelError: it cannot be read at all.
    """
    path = Path(path)
    try:
        if path.is_fifo():
            content = read_file(path, REPORT_BYTES)
            if not content[:64].lstrip().startswith(b"{"):  # what was read is gone
                raise ModelError(f"cannot read the model {path}: only a report can come out of a pipe here")
            return _checked(path, _decoded(path, content))
        if path.exists() and not path.is_file():
            return None  # a SavedModel, or for the reader of models to refuse
        with path.open("rb") as file:
            if not file.read(64).lstrip().startswith(b"{"):
                return None
        content = read_file(path, REPORT_BYTES)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    return _checked(path, _decoded(path, content))


def _checked(path: str | Path, report: object) -> CheckReport:
    if not isinstance(report, CheckReport):
        raise ReportError(f"{path} is the report of another verb; {WRITE}")
    if report.model.operators and not report.model.graph:
        raise ReportError(f"the report {path} does not list the operators, as old ones did not; check the model again")
    return report


def _why_damaged(report: CheckReport) -> str:
    """What of a report cannot be, though every field is of its kind; empty where all can."""
    if not report.targets or any(len(entry.results) != 1 for entry in report.targets):
        return "it does not have one result for each of its targets"
    if len({entry.target.name for entry in report.targets}) < len(report.targets):
        return "two targets have the same name"
    operators = {(each.subgraph, each.index) for each in report.model.graph}
    reads = {(each.subgraph, source) for each in report.model.graph for source in each.reads_from}
    if len(operators) < len(report.model.graph) or not reads <= operators or min(operators, default=(0, 0)) < (0, 0):
        return "its operators are not numbered as operators are"
    for entry in report.targets:
        rates = [entry.target.clock_mhz, *(each.bandwidth_gb_s for each in entry.target.memories)]
        costs = getattr(entry.results[0].performance, "operators", ())
        figures = [value for each in costs for value in (each.macs, getattr(each, "latency_ms", None))]
        if min(rates) <= 0 or min((value for value in figures if value is not None), default=0) < 0:
            return "a figure is negative, or nothing where there must be something"
    return ""

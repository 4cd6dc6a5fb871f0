"""A JSON report of `mlia check` from a file -> Report, and nothing that only looks like one."""

from pathlib import Path

import msgspec

from mlia.errors import ModelError
from mlia.report import SCHEMA_VERSION, Report

WRITE = "`mlia check --format json` writes one"


class _Versioned(msgspec.Struct):
    schema_version: str


def read_report(path: str | Path) -> Report | None:
    """The report that a file holds, or None where it is no JSON, and so may be a model.

    What the file is tells its content, never its name.

    Raises:
        ModelError: it is JSON, but no report of a check that this version reads.
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
    return _decoded(path, content)


def _decoded(path: Path, content: bytes) -> Report:
    ours = SCHEMA_VERSION.partition(".")[0]
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version.partition(".")[0] != ours:
            raise ModelError(
                f"cannot read the report {path}: its schema is version {version}, and this mlia reads {ours}.x; check"
                " the model again"
            )
        report = msgspec.json.decode(content, type=Report)
    except RecursionError:
        raise ModelError(f"cannot read the report {path}: it is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise ModelError(f"{path} is no report of a check ({error}); {WRITE}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read the report {path}: {error}") from None
    if not report.targets or not all(entry.results for entry in report.targets):
        raise ModelError(f"the report {path} says nothing of any target; {WRITE}")
    if report.model.operators and not report.model.graph:
        raise ModelError(f"the report {path} does not list the operators, as old ones did not; check the model again")
    return report

"""What `--format json` has written -> the report that it was."""

from pathlib import Path

import msgspec
from msgspec import Struct

from mlia.accuracy import Accuracy, Refinement
from mlia.errors import ReportError
from mlia.report import SCHEMA_VERSION, Optimization, Report
from mlia.verification import Verification

# A field that only one kind of report has tells which it is.
KINDS: dict[str, type[Struct]] = {
    "targets": Report,
    "comparisons": Optimization,
    "reference": Verification,
    "families": Accuracy,
    "coefficients": Refinement,
}


def load_saved(path: str) -> Struct:
    """A report of any verb, by its JSON.

    Raises:
        ReportError: it cannot be read, is no report, or is one of another version.
    """
    try:
        content = Path(path).read_bytes()
        fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except OSError as error:
        raise ReportError(f"cannot read the report {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise ReportError(f"{path} is no report: it is not the JSON that --format json writes") from None
    kind = next((kind for name, kind in KINDS.items() if name in fields), None)
    if kind is None or "schema_version" not in fields:
        raise ReportError(f"{path} is no report: it is not the JSON that --format json writes")
    version = bytes(fields["schema_version"]).decode(errors="replace").strip('"')
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise ReportError(
            f"{path} is a report of schema {version[:20]}, and this mlia reads {SCHEMA_VERSION}: make it anew"
        )
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ReportError(f"{path} is a damaged report: {error}") from None


def load_report(path: str) -> Report:
    """The report of a check.

    Raises:
        ReportError: as load_saved(), or it is of another verb.
    """
    found = load_saved(path)
    if not isinstance(found, Report):
        raise ReportError(f"{path} is the report of another verb, and that of `mlia check` is needed")
    return found

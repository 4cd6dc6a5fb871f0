"""What `--format json` has written -> the report that it was."""

from pathlib import Path

import msgspec
from msgspec import Struct

from mlia.accuracy import Accuracy, Refinement
from mlia.difference import Difference
from mlia.errors import ReportError
from mlia.report import SCHEMA_VERSION, Optimization, Report
from mlia.verification import Verification

WRITE = "--format json of a verb writes one"
# A field that the kinds before it do not have tells which it is.
KINDS: dict[str, type[Struct]] = {
    "missing_targets": Difference,
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
        return decode_saved(path, Path(path).read_bytes())
    except OSError as error:
        raise ReportError(f"cannot read the report {path}: {error.strerror}") from None


def decode_saved(path: str | Path, content: bytes) -> Struct:
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
    kind = next((kind for name, kind in KINDS.items() if name in fields), None)
    if kind is None or "schema_version" not in fields:
        raise ReportError(f"{path} is no report; {WRITE}")
    version, ours = bytes(fields["schema_version"]).decode(errors="replace").strip('"')[:20], SCHEMA_VERSION
    if version.partition(".")[0] != ours.partition(".")[0]:
        reads = f"and this mlia reads {ours.partition('.')[0]}.x; make it anew"
        raise ReportError(f"cannot read the report {path}: its schema is version {version}, {reads}")
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise ReportError(f"cannot read the report {path}: it is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ReportError(f"{path} is a damaged report: {error}") from None

"""One table of the reports: by the verb that makes it, its type and the field that it is known by when it is read."""

from msgspec import Struct

from mlia.accuracy import AccuracyReport, CalibrateReport
from mlia.difference import CompareReport
from mlia.faces import Face
from mlia.report import CheckReport, ConvertReport, OptimizeReport
from mlia.verification import VerifyReport


class Kind(Struct, frozen=True):
    """A kind of report. `known_by` is a field that the kinds before it do not have."""

    type: type[Face]
    known_by: str


KINDS = {
    "compare": Kind(CompareReport, "missing_targets"),
    "check": Kind(CheckReport, "targets"),
    "optimize": Kind(OptimizeReport, "comparisons"),
    "convert": Kind(ConvertReport, "converted"),
    "verify": Kind(VerifyReport, "reference"),
    "accuracy": Kind(AccuracyReport, "families"),
    "calibrate": Kind(CalibrateReport, "coefficients"),
}


def verb_of(report: object) -> str:
    """The verb that makes such a report."""
    return next(verb for verb, kind in KINDS.items() if isinstance(report, kind.type))

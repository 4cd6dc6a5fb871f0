"""accuracy(): the published measurements that ship with the project, beside the estimates."""

from collections import Counter
from collections.abc import Sequence

from msgspec import convert

import mlia
from mlia.accuracy import AccuracyReport, AccuracyRow, ErrorSummary, FamilyAccuracy, Unmeasured
from mlia.backends.ethos_u.coefficients import load_coefficients
from mlia.backends.ethos_u.measurements import ledger, measurements
from mlia.report import SCHEMA_VERSION
from mlia.targets.target import LEGAL_MACS


def accuracy() -> AccuracyReport:
    """How far Vela's estimate and the calibrated one are from each measurement, and in sum for each family."""
    rows = tuple(convert(row, AccuracyRow, from_attributes=True) for row in ledger())
    groups = dict.fromkeys((row.family, row.kind) for row in sorted(rows, key=lambda row: row.family))
    families = []
    for family, kind in groups:
        of_these = [row for row in rows if (row.family, row.kind) == (family, kind)]
        vela = summarized([row.vela_percent for row in of_these])
        ours = summarized([row.calibrated_percent for row in of_these])
        inside = 100 * sum(row.is_inside for row in of_these) / len(of_these)
        families.append(FamilyAccuracy(family, kind, len(of_these), vela, ours, inside))
    return AccuracyReport(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        families=tuple(families),
        unmeasured=tuple(Unmeasured(family, load_coefficients(family).without) for family in LEGAL_MACS),
        left_out=_left_out(),
        sources=tuple(dict.fromkeys(row.source for row in rows)),
        rows=rows,
    )


def _left_out() -> tuple[str, ...]:
    families = Counter(each.family for each in measurements() if each.memory != "measured")
    return tuple(
        f"{number} runs on {family} with memories that answer at once, which no board has and no compiler was told of"
        for family, number in families.items()
    )


def summarized(errors: Sequence[float]) -> ErrorSummary:
    """Errors in percent, at least one, in three figures."""
    sizes = [abs(error) for error in errors]
    return ErrorSummary(sum(sizes) / len(sizes), sum(errors) / len(errors), max(errors, key=abs))

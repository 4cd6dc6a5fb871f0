"""compare(): two models, or reports of checks, in, a CompareReport out."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

import mlia
from mlia.difference import CompareReport, Side
from mlia.errors import MliaError, ModelError, TargetError
from mlia.estimates import Estimator
from mlia.graph.load import ModelSource
from mlia.pipeline.check.check import check
from mlia.pipeline.compare.match import match_operators
from mlia.pipeline.compare.regressions import budgets
from mlia.pipeline.compare.verdict import compare_target
from mlia.pipeline.options import DEFAULT, Options
from mlia.pipeline.saved import read_report
from mlia.report import SCHEMA_VERSION, CheckReport, TargetReport
from mlia.results import Performance, Skipped
from mlia.targets.profiles import TargetSource, load_targets
from mlia.targets.target import AnyTarget

if TYPE_CHECKING:
    from mlia.transforms.calibration import SampleSource


def compare(
    before: ModelSource | CheckReport,
    after: ModelSource | CheckReport,
    target: TargetSource | Sequence[TargetSource] | None = None,
    *,
    max_regression_percent: float | None = None,
    quantize: bool = True,
    calibration: "SampleSource | None" = None,
    options: Options = DEFAULT,
) -> CompareReport:
    """Tell what changed from one model to another: which operators, and what they and the whole cost on each target.

    Args:
        before: path of a model in any format that mlia reads, or of the JSON of a check; or a Graph or CheckReport.
        after: the same, for what it is compared with.
        target: name of a built-in target, path of a TOML profile, or a Target or CpuTarget; or several of them. Needed
            for models; of two reports, only these targets.
        max_regression_percent: how much more time the model after may take; `is_over_budget` tells whether it does.
        quantize: quantize float models first; False analyzes them as they are.
        calibration: samples to quantize with, as check() takes them.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Raises:
        ModelError: a model cannot be read, or both are the same file.
        ReportError: a report cannot be read.
        TargetError: no such target, none for a model, or none that both sides have.
        TransformError: a model cannot be quantized, or the calibration data do not fit it.
        BackendError: the compiler refused a model, crashed, or took too long, on every target; what it refuses on one
            of several is among `refused_targets`. Or no such estimator.
        MliaError: a limit that is none.
    """
    if max_regression_percent is not None and not 0 <= max_regression_percent < math.inf:
        raise MliaError(f"the limit of the regression is 0 % or more; {max_regression_percent:g} is not")
    _refuse_the_same(before, after)
    given = [read_report(each) or each if isinstance(each, str | os.PathLike) else each for each in (before, after)]
    saved = [each for each in given if isinstance(each, CheckReport)]
    if len(saved) == 2 and (not quantize or calibration is not None or options.input_shapes or options.estimator):
        raise ModelError("both are reports: options of quantizing and estimating are for models")
    targets = load_targets(target) if target is not None else []
    _check_names(targets, saved)
    options = replace(options, estimator=options.estimator or _estimator_of(saved))
    if isinstance(calibration, Iterator):  # both models are to see the same samples
        kept = tuple(calibration)
        calibration = lambda: iter(kept)  # noqa: E731

    def made(each: ModelSource | CheckReport) -> CheckReport:
        if isinstance(each, CheckReport):
            return each
        return check(each, targets, quantize=quantize, calibration=calibration, try_remedies=False, options=options)

    reports = made(given[0]), made(given[1])
    left, right = (
        _side(named, report, each is report)
        for named, report, each in zip((before, after), reports, given, strict=True)
    )
    return _difference((left, reports[0]), (right, reports[1]), targets, max_regression_percent)


def _refuse_the_same(before: object, after: object) -> None:
    if isinstance(before, str | os.PathLike) and isinstance(after, str | os.PathLike):
        try:
            is_same = os.path.samefile(before, after)
        except (OSError, ValueError):
            return  # for those who read them to say
        if is_same:
            raise ModelError(f"{before} and {after} are the same file; there is nothing to compare")


def _check_names(targets: Sequence[AnyTarget], saved: Sequence[CheckReport]) -> None:
    """Refuse targets that are needed and missing, or that no report knows, before anything is compiled."""
    if not targets and len(saved) < 2:
        raise TargetError("a model is compared on a target: name one with -t")
    names = [target.name for target in targets]
    for each in (names, *(_names(report) for report in saved)):
        if twice := [name for number, name in enumerate(each) if name in each[:number]]:
            raise TargetError(f"two targets are called {twice[0]}; which is which cannot be told")
    known = [name for report in saved for name in _names(report)]
    unknown = [name for name in names if saved and name not in known]
    # Beside a model, a target that the report lacks is told; none at all leaves nothing to compare.
    if unknown and (len(saved) == 2 or len(unknown) == len(names)):
        raise TargetError(f"no report is about {', '.join(unknown)}, but about {', '.join(dict.fromkeys(known))}")


def _names(report: CheckReport) -> list[str]:
    return [entry.target.name for entry in report.targets]


def _estimator_of(saved: Sequence[CheckReport]) -> str:
    """Who estimated the time in a report, so that a model beside it is estimated alike."""
    for report in saved:
        for entry in report.targets:
            performance = entry.results[0].performance
            if isinstance(performance, Performance):
                return Estimator.VELA if performance.calibration is None else Estimator.CALIBRATED
    return Estimator.CALIBRATED


def _side(named: ModelSource | CheckReport, report: CheckReport, is_report: bool) -> Side:
    given = str(named) if isinstance(named, str | os.PathLike) else report.model.name
    printable = given.encode(errors="replace").decode()  # a file name need not be text
    return Side(printable, is_report, report.mlia_version, report.model, report.notes)


def _difference(
    before: tuple[Side, CheckReport], after: tuple[Side, CheckReport], asked: Sequence[AnyTarget], limit: float | None
) -> CompareReport:
    left, right = (_entries(report, asked) for _, report in (before, after))
    refused = tuple(
        Skipped(name, f"{side.given}: {entry.refusal}")
        for side, entries in ((before[0], left), (after[0], right))
        for name, entry in entries.items()
        if entry.refusal
    )
    names = {each.what for each in refused}
    if refused and left.keys() & right.keys() <= names:
        raise TargetError(f"nothing to compare: {'; '.join(f'{each.what}, {each.reason}' for each in refused)}")
    if not left.keys() & right.keys():
        raise TargetError(f"nothing to compare: before is {', '.join(left)}, and after is {', '.join(right)}")
    sides = before[0], after[0]
    matched = match_operators(before[0].model.graph, after[0].model.graph)
    targets = tuple(
        compare_target(matched, (before[1], entry), (after[1], right[name]))
        for name, entry in left.items()
        if name in right and name not in names
    )
    missing = (
        *(Skipped(name, f"{after[0].given} says nothing of it") for name in left if name not in {*right, *names}),
        *(Skipped(name, f"{before[0].given} says nothing of it") for name in right if name not in {*left, *names}),
    )
    return CompareReport(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        before=before[0],
        after=after[0],
        targets=targets,
        missing_targets=missing,
        budgets=budgets(limit, targets, (*missing, *refused)) if limit is not None else (),
        notes=_notes(*sides),
        refused_targets=refused,
    )


def _entries(report: CheckReport, asked: Sequence[AnyTarget]) -> dict[str, TargetReport]:
    """What a report says of each target, by name; only of those that were asked for."""
    names = [target.name for target in asked] or _names(report)
    found = {entry.target.name: entry for entry in report.targets}
    return {name: found[name] for name in names if name in found}


def _notes(before: Side, after: Side) -> tuple[str, ...]:
    notes = []
    if before.model.sha256 == after.model.sha256:
        notes.append("both are the same model, byte by byte")
    if before.mlia_version != after.mlia_version:
        notes.append(
            f"the report before is by mlia {before.mlia_version}, that after by {after.mlia_version}: what differs may"
            " be the estimates"
        )
    quantized = [
        side.model.conversion is not None and bool(side.model.conversion.quantized) for side in (before, after)
    ]
    if quantized[0] != quantized[1]:
        which = "before" if quantized[0] else "after"
        notes.append(f"only the model {which} is in float, and was quantized to be compared")
    return tuple(notes)

"""Limits that a user sets -> whether a report keeps them, and which operators are to blame where it does not."""

import math
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from mlia.cpu_results import CpuCompatibility, CpuCost, CpuPerformance, SystemTime
from mlia.errors import TargetError
from mlia.input import TEXT_BYTES, read_file
from mlia.liveness import is_live, peak_time
from mlia.report import Blamed, Budget, CheckReport, OperatorSummary, TargetReport
from mlia.results import ONCE, Compatibility, OperatorCost, Performance, Result, Skipped, Unit

BLAMED = 3  # operators that are named for a miss
KIB = 1024


class Allowed(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model may take on a target; None for any. Latency is of the whole system."""

    max_latency_ms: float | None = None
    max_sram_kib: float | None = None
    max_flash_kib: float | None = None
    min_npu_percent: float | None = None


class BudgetFile(Allowed, frozen=True, forbid_unknown_fields=True):
    """A budget.toml: limits for every target, and others for some of them, by name.

    `max_regression_percent` is how much longer it may take than a baseline, on each target.
    """

    max_regression_percent: float | None = None
    targets: dict[str, Allowed] = {}


def load_budget(path: str) -> BudgetFile:
    """Read a budget.toml.

    Raises:
        TargetError: it cannot be read, or has what no limit can be.
    """
    try:
        found = msgspec.toml.decode(read_file(path, TEXT_BYTES).decode(), type=BudgetFile)
    except OSError as error:
        raise TargetError(f"cannot read the budget {path}: {error.strerror}") from None
    except RecursionError:
        raise TargetError(f"the budget {path} is not one: it is nested too deeply") from None
    except UnicodeDecodeError:
        raise TargetError(f"the budget {path} is not one: it is not text in UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise TargetError(f"the budget {path} is not one: {str(error).rstrip('.')}") from None
    check_budget(found)
    if found == BudgetFile():
        raise TargetError(f"the budget {path} sets no limit")
    return found


def check_budget(file: BudgetFile) -> None:
    """Refuse limits that nothing can be held against.

    Raises:
        TargetError: a limit that is no number, negative, or a share above all.
    """
    for allowed in (file, *file.targets.values()):
        _check_allowed(allowed)


def _check_allowed(allowed: Allowed) -> None:
    for name in allowed.__struct_fields__:
        value = getattr(allowed, name)
        if isinstance(value, float | int) and not 0 <= value < math.inf:
            raise TargetError(f"{name} is {value:g}; give a number from 0 up")
    if allowed.min_npu_percent is not None and allowed.min_npu_percent > 100:
        raise TargetError(f"min_npu_percent is {allowed.min_npu_percent:g}; there are 100 percent")


def with_budgets(report: CheckReport, file: BudgetFile, baseline: CheckReport | None = None) -> CheckReport:
    """The report with each limit, kept or missed, for each of its targets.

    Raises:
        TargetError: the file has limits for a regression, and there is no baseline.
    """
    names = [entry.target.name for entry in report.targets]
    budgets = tuple(
        budget for entry in report.targets for budget in _budgets(entry, report.model.graph, _for_target(file, entry))
    )
    if file.max_regression_percent is not None:
        if baseline is None:
            raise TargetError("a limit of the regression needs a baseline, the report of the model before")
        from mlia.pipeline.compare.compare import compare

        asked = replace(baseline, targets=tuple(each for each in baseline.targets if each.target.name in names))
        refused = {entry.target.name: entry.refusal for entry in (*asked.targets, *report.targets) if entry.refusal}
        if any(entry.target.name not in refused for entry in asked.targets):
            budgets += compare(asked, report, max_regression_percent=file.max_regression_percent).budgets
        else:
            unlike = "the baseline is about none of the targets"
            limit = file.max_regression_percent
            budgets += tuple(
                Budget(name, "regression_percent", limit, None, False, refused.get(name, unlike), ()) for name in names
            )
    judged = {(each.target, each.figure) for each in budgets}
    kept = tuple(each for each in report.budgets if (each.target, each.figure) not in judged)
    return replace(report, budgets=(*kept, *budgets))


def unasked(report: CheckReport, file: BudgetFile) -> list[str]:
    """The targets that the file has limits for and the report is not about."""
    names = {entry.target.name for entry in report.targets}
    return [name for name in file.targets if name not in names]


def _for_target(file: BudgetFile, entry: TargetReport) -> Allowed:
    """The limits for all, or for this target where it has its own."""
    own = asdict(file.targets.get(entry.target.name, Allowed()))
    return Allowed(**{name: getattr(file, name) if value is None else value for name, value in own.items()})


def _budgets(entry: TargetReport, graph: Sequence[OperatorSummary], allowed: Allowed) -> list[Budget]:
    (result,) = entry.results
    found = []
    for figure, limit, judge in (
        ("latency_ms", allowed.max_latency_ms, _latency),
        ("sram_kib", allowed.max_sram_kib, _sram),
        ("flash_kib", allowed.max_flash_kib, _flash),
        ("npu_percent", allowed.min_npu_percent, _placed),
    ):
        if limit is None:
            continue
        value, reason, blamed = judge(result, graph)
        is_kept = value is not None and (value >= limit if figure == "npu_percent" else value <= limit)
        most = () if is_kept else tuple(sorted(blamed, key=lambda each: -each.value)[:BLAMED])
        found.append(Budget(entry.target.name, figure, limit, value, is_kept, reason, most))
    return found


_Judged = tuple[float | None, str, Sequence[Blamed]]


def _latency(result: Result, graph: Sequence[OperatorSummary]) -> _Judged:
    performance = result.performance
    if isinstance(performance, CpuPerformance):
        if performance.unsupported_operators:
            return None, "the model does not start", ()
        return performance.latency_ms, "", _by_time(performance.operators)
    if not isinstance(performance, Performance):
        return None, getattr(performance, "reason", "it was not estimated"), ()
    if not isinstance(performance.system, SystemTime):
        return None, getattr(performance.system, "reason", "it was not estimated"), ()
    once = {each.subgraph for each in performance.further_subgraphs if each.runs == ONCE}
    return performance.latency_ms, "", _by_time([each for each in performance.operators if each.subgraph not in once])


def _by_time(costs: Sequence[OperatorCost | CpuCost]) -> list[Blamed]:
    return [
        Blamed(cost.subgraph, cost.index, cost.kind, cost.name, cost.latency_ms) for cost in costs if cost.latency_ms
    ]


def _sram(result: Result, graph: Sequence[OperatorSummary]) -> _Judged:
    """The tensors at the peak, each with the operator that makes it."""
    performance = result.performance
    if isinstance(performance, Skipped):
        return None, performance.reason, ()
    plan = performance.memory if isinstance(performance, Performance) else None
    lives = [each for each in plan.tensors if each.memory == "sram" and not each.subgraph] if plan is not None else []
    makers = {made.name: each for each in graph if not each.subgraph for made in each.outputs}
    peak = peak_time(lives) if lives else 0
    return (
        performance.sram_bytes / KIB,
        "",
        [
            Blamed(maker.subgraph, maker.index, maker.kind, maker.name, each.size_bytes / KIB)
            for each in lives
            if is_live(each, peak) and (maker := makers.get(each.name)) is not None
        ],
    )


def _flash(result: Result, graph: Sequence[OperatorSummary]) -> _Judged:
    performance = result.performance
    if isinstance(performance, Skipped):
        return None, performance.reason, ()
    return performance.flash_bytes / KIB, "", _by_weights(performance.operators)


def _by_weights(costs: Sequence[OperatorCost | CpuCost]) -> list[Blamed]:
    found = []
    for cost in costs:
        packed = cost.compressed_weights_bytes if isinstance(cost, OperatorCost) else None
        if size := packed or cost.weights_bytes:
            found.append(Blamed(cost.subgraph, cost.index, cost.kind, cost.name, size / KIB))
    return found


def _placed(result: Result, graph: Sequence[OperatorSummary]) -> _Judged:
    """Each operator that is left to the CPU, with the share that it would bring."""
    placed = result.compatibility
    if isinstance(placed, CpuCompatibility):
        return 0.0, "the target has no NPU", ()
    if not isinstance(placed, Compatibility):
        return None, placed.reason, ()
    each_percent = 100 / max(placed.npu_operators + placed.cpu_operators, 1)
    return (
        placed.npu_percent,
        "",
        [
            Blamed(each.subgraph, each.index, each.kind, each.name, each_percent)
            for each in placed.operators
            if each.processor == Unit.CPU
        ],
    )

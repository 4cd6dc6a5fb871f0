"""calibrate(): measured runs and a target in, a target with coefficients of its own out."""

import os
from collections.abc import Collection, Sequence
from functools import partial
from hashlib import sha256
from statistics import median
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import asdict, replace

import mlia
from mlia.accuracy import CalibrateReport, FittedParameter, FittedRun
from mlia.backends.ethos_u.coefficients import load_coefficients, memories_of
from mlia.backends.ethos_u.coverage import kinds_of
from mlia.backends.ethos_u.features import StepFeatures
from mlia.backends.refusals import ALREADY_COMPILED
from mlia.backends.vela.backend import Vela
from mlia.backends.vela.costs import called_once
from mlia.errors import MeasurementError, TargetError
from mlia.graph.load import name_of
from mlia.input import TEXT_BYTES, read_file
from mlia.output import write_file
from mlia.pipeline.calibrate.measured_runs import MeasuredRun, read_runs
from mlia.pipeline.load import load
from mlia.pipeline.options import DEFAULT, Options
from mlia.report import SCHEMA_VERSION
from mlia.results import Unit
from mlia.rules.phrases import counted
from mlia.targets.coefficients import BOUNDS, Coefficients, Physics, check_coefficients
from mlia.targets.profiles import TargetSource, one_target
from mlia.targets.target import Target
from mlia.targets.writing import with_coefficients, write_profile

if TYPE_CHECKING:
    from mlia.backends.ethos_u.fitting import Run

# What differs from board to board is how fast memories answer, and how well the NPU hides that.
FREE = ("sram_share", "memory_share", "request_bytes", "fill", "weight_requests", "start_latencies")
LEAST = 0.01  # a fit goes by logarithms, and some parameters may be 0
# Few runs can tell few parameters: of these choices that is taken which does best for models that it had not seen.
CHOICES = (("memory_share",), ("sram_share",), ("memory_share", "sram_share"), FREE)
VALLEYS = {"memory_share": (1.0, 0.6, 0.3, 0.1), "sram_share": (1.0, 0.5)}  # a latency may hide how slow a memory is
DOUBT = 0.02  # to change a parameter e-fold costs as much as an error of 2 % in one run
WORTH = 0.9  # of the error as it was: what a fit must come below, for the best of four choices is better by chance too
FAR, ALIKE = 0.1, 0.05  # of all estimates from what was measured, and of one from another
BEYOND = 10  # times the estimate: no memory is so slow, and what was measured is something else


class CalibratedTarget(Struct, frozen=True):
    """A target with coefficients that were fitted to its own runs, and what that brought."""

    target: Target
    report: CalibrateReport

    def __str__(self) -> str:
        """The verdict of the report."""
        return str(self.report)

    def _repr_html_(self) -> str:
        """The verdict of the report, as a notebook shows it."""
        return self.report._repr_html_()

    def save(self, path: str, profile: str | None = None) -> CalibrateReport:
        """Write the profile, and tell where; `profile` is one to take everything else from, as it is written.

        Raises:
            TargetError: that profile is written in a way that does not allow it.
            OutputError: it cannot be written.
        """
        found = self.target.coefficients
        if profile is None or found is None:
            text = write_profile(self.target)
        else:
            text = with_coefficients(read_file(profile, TEXT_BYTES).decode(), found)
        write_file(path, text.encode())
        return replace(self.report, file=path)


class _Program(Struct, frozen=True):
    """A model as it was compiled for the target. `group` is the same for the same content."""

    group: str
    kinds: tuple[str, ...]
    features: tuple[StepFeatures, ...]
    vela_cycles: int
    cpu_operators: int


class _Fits(Struct, frozen=True):
    """NPU cycles of each run by the compiler, by what ships and by the fits; and the parameters.

    `unseen` are by parameters that had not seen the model: by what ships, where no fit was better.
    """

    vela: list[float]
    shipped: list[float]
    unseen: list[float]
    after: list[float]
    start: Physics
    physics: Physics

    @property
    def is_kept(self) -> bool:
        return self.physics == self.start


def calibrate(
    measured: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    target: TargetSource,
    *,
    options: Options = DEFAULT,
) -> CalibratedTarget:
    """Refine how long a target's NPU is thought to take, by runs that were measured on it.

    The fit starts from what ships for the family, whatever the target had: the same runs give the same coefficients,
    and further runs are given together with those before.

    Args:
        measured: tables of runs (CSV with the columns model and cycles, ms or log), or "MODEL=LOG".
        target: name of a built-in Ethos-U target, path of a TOML profile, or a Target.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Raises:
        MeasurementError: the runs cannot be read, or cannot be what was measured.
        ModelError: a model cannot be read.
        TargetError: no such target, or one without an NPU.
        BackendError: the compiler refused a model, crashed, or took too long.
    """
    options.refuse("calibrate", "input_shapes", "estimator")
    progress = options.progress
    place = one_target(target)
    if not isinstance(place, Target):
        raise TargetError(f"{place.name} has no NPU, and only the time of an NPU can be calibrated")
    tables = [measured] if isinstance(measured, str | os.PathLike) else measured
    if not isinstance(tables, Sequence) or not all(isinstance(each, str | os.PathLike) for each in tables):
        kind = type(measured).__name__
        raise MeasurementError(f"measured runs are paths of tables or MODEL=LOG, and not a value of type {kind}")
    given = [run for each in tables for run in read_runs(os.fspath(each))]
    programs: dict[str, _Program] = {}
    for run in given:
        if run.model not in programs:
            progress(f"compiling {name_of(run.model)} for {place.name}")
            programs[run.model] = _compiled(run.model, place, options.timeout_s)
    compiled = [programs[run.model] for run in given]
    from mlia.backends.ethos_u.fitting import Run, estimates  # imports SciPy

    start = load_coefficients(place.npu.family).physics
    runs = [
        Run(place, program.features, _cycles(run, program, place), program.group)
        for run, program in zip(given, compiled, strict=True)
    ]
    shipped = estimates(runs, start)
    for run, measure, found in zip(given, runs, shipped, strict=True):
        _check_likely(run, measure.cycles, found)
    progress(f"fitting to {counted(len(runs), 'run')}")
    fits = _fits(runs, [float(program.vela_cycles) for program in compiled], shipped, start)
    coefficients = _coefficients(place, runs, fits, {kind for program in compiled for kind in program.kinds})
    check_coefficients(coefficients, place.npu.family)
    refined = replace(place, coefficients=coefficients)
    return CalibratedTarget(refined, _report(refined, coefficients, given, runs, fits))


def _compiled(model: str, target: Target, timeout_s: float) -> _Program:
    graph = load(model, {})
    if graph.is_compiled:
        raise MeasurementError(f"{model}: {ALREADY_COMPILED}")
    if graph.computes_in_float:
        raise MeasurementError(
            f"{model} computes in float, and weights decide how long it takes: give what ran, in int8"
        )
    whole, programs = Vela(timeout_s).compiled(graph, target)
    once = called_once(programs)
    if called := [each.subgraph for each in programs[1:] if each.subgraph.index not in once]:
        raise MeasurementError(f"{model}: how often its subgraph '{called[0].name}' is called is not known")
    repeated = [program for program in programs if program.subgraph.index not in once]
    features = tuple(step for program in repeated for step in program.features)
    if not any(step.kind != "none" for step in features):
        raise MeasurementError(f"{model}: nothing of it runs on the NPU of {target.name}")
    start = sum(step.total_cycles for program in programs if program not in repeated for step in program.features)
    return _Program(
        group=sha256(graph.content).hexdigest(),
        kinds=kinds_of(graph, features),
        features=features,
        vela_cycles=whole.report["total_cycles"] - start,
        cpu_operators=sum(unit == Unit.CPU for program in repeated for unit in program.units.values()),
    )


def _cycles(run: MeasuredRun, program: _Program, target: Target) -> float:
    if run.cycles is not None:
        return run.cycles
    if program.cpu_operators:
        raise MeasurementError(
            f"{run.source}: {run.model} has operators on the {target.host.name}, and the time of both tells nothing of"
            " the NPU alone; give its cycles"
        )
    assert run.ms is not None, "a run has one of both"
    return run.ms * target.npu.clock_mhz * 1000


def _check_likely(run: MeasuredRun, cycles: float, estimated: float) -> None:
    if not 1 / BEYOND < cycles / estimated < BEYOND:
        raise MeasurementError(
            f"{run.source}: {cycles:,.6g} cycles of the NPU for {run.model}, where {estimated:,.0f} are estimated:"
            " is that another unit, model or target?"
        )


def _fits(runs: "Sequence[Run]", vela: list[float], shipped: list[float], start: Physics) -> _Fits:
    """The parameters as they ship and fitted; they stay where no fit is better for models that it had not seen."""
    from mlia.backends.ethos_u.fitting import estimates, fit, mean_error_percent, unseen

    def fitted(names: Sequence[str], chosen: "Sequence[Run]") -> Physics:
        free = {name: (max(BOUNDS[name][0], LEAST), BOUNDS[name][1]) for name in names if getattr(start, name) > 0}
        return fit(chosen, start, free, DOUBT, VALLEYS) if chosen else start

    if len({run.group for run in runs}) == 1:  # there is no model that it had not seen
        physics = fitted(FREE, runs)
        return _Fits(vela, shipped, shipped, estimates(runs, physics), start, physics)
    tried = [(unseen(runs, partial(fitted, names)), names) for names in CHOICES]
    others, names = min(tried, key=lambda each: mean_error_percent(each[0], runs))  # the first of equals: the simplest
    if mean_error_percent(others, runs) > WORTH * mean_error_percent(shipped, runs):
        return _Fits(vela, shipped, shipped, shipped, start, start)
    physics = fitted(names, runs)
    return _Fits(vela, shipped, others, estimates(runs, physics), start, physics)


def _coefficients(target: Target, runs: "Sequence[Run]", fits: _Fits, kinds: Collection[str]) -> Coefficients:
    from mlia.backends.ethos_u.fitting import band, mean_error_percent

    shipped, models = load_coefficients(target.npu.family), len({run.group for run in runs})
    runs_here = f"{counted(len(runs), 'run')} of {counted(models, 'model')} on {target.name}"
    judged_on = "models left out of the fit" if models > 1 else "that model before the fit"
    low, high = band(fits.unseen, runs)
    return Coefficients(
        fitted_on=shipped.fitted_on if fits.is_kept else (runs_here,),
        judged_on=runs_here if fits.is_kept else judged_on,
        n=len(runs),
        error_percent=round(mean_error_percent(fits.unseen, runs), 1),
        vela_error_percent=round(mean_error_percent(fits.vela, runs), 1),
        band_low=low,
        band_high=high,
        note="no fit to the runs of this board was better for models that it had not seen than what ships"
        if fits.is_kept
        else f"starting from what was fitted on {', '.join(shipped.fitted_on)}",
        family=target.npu.family,
        without=tuple(kind for kind in shipped.without if kind not in kinds),
        measured_memories=memories_of(target),
        physics=fits.physics,
    )


def _report(
    target: Target, found: Coefficients, given: Sequence[MeasuredRun], runs: "Sequence[Run]", fits: _Fits
) -> CalibrateReport:
    from mlia.backends.ethos_u.fitting import mean_error_percent

    columns = zip(given, runs, fits.vela, fits.shipped, fits.unseen, fits.after, strict=True)
    old, new = asdict(fits.start), asdict(fits.physics)
    return CalibrateReport(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        target=target.name,
        runs=tuple(
            FittedRun(
                model=name_of(run.model),
                measured_cycles=round(measured.cycles),
                vela_cycles=round(vela),
                shipped_cycles=round(shipped),
                unseen_cycles=round(unseen),
                fitted_cycles=round(after),
                source=run.source,
            )
            for run, measured, vela, shipped, unseen, after in columns
        ),
        models=len({run.group for run in runs}),
        vela_percent=mean_error_percent(fits.vela, runs),
        shipped_percent=mean_error_percent(fits.shipped, runs),
        unseen_percent=mean_error_percent(fits.unseen, runs),
        fitted_percent=mean_error_percent(fits.after, runs),
        is_kept=fits.is_kept,
        parameters=tuple(FittedParameter(name, old[name], new[name]) for name in FREE if old[name] > 0),
        coefficients=found,
        hint=_hint([after / run.cycles for after, run in zip(fits.after, runs, strict=True)]),
        file="",
    )


def _hint(ratios: Sequence[float]) -> str:
    """What is wrong with a profile where all runs are off alike, which no memory does; empty where they are not."""
    middle = median(ratios)
    if len(ratios) < 2 or abs(middle - 1) < FAR or any(abs(ratio / middle - 1) > ALIKE for ratio in ratios):
        return ""
    return (
        f"all runs took about {1 / middle:.2f} times what is estimated: are clock and MACs those of the profile,"
        " and are the cycles those in which the NPU was active?"
    )

"""check(): a model and targets in, a CheckReport out."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

import mlia
from mlia.advice import Advised
from mlia.backends.refusals import ALREADY_COMPILED
from mlia.backends.vela.backend import Vela, vela
from mlia.errors import BackendError, NotQuantizedError, OutputError, TargetError, TransformError
from mlia.estimates import Estimator
from mlia.graph.graph import Graph, Provenance
from mlia.graph.load import ModelSource, name_of
from mlia.output import check_writable, write_file
from mlia.pipeline.check.advise import (
    NOT_TRIED,
    ONE_AT_A_TIME,
    TOSA,
    Advising,
    advise,
    import_rules,
)
from mlia.pipeline.check.untouched import as_it_is
from mlia.pipeline.load import load, notes_on, summarize_model, summarize_target
from mlia.pipeline.options import DEFAULT, EVERYTHING, Options, Scope
from mlia.pipeline.parallel import attempt_in_parallel
from mlia.report import SCHEMA_VERSION, CheckReport, Conversion, Fixed, TargetReport
from mlia.results import NOT_ASKED, Result, Skipped
from mlia.targets.profiles import TargetSource, load_targets
from mlia.targets.target import AnyTarget, CpuTarget, Target
from mlia.transforms.memo import Memo

VELA = Vela()

if TYPE_CHECKING:
    from mlia.pipeline.check.fix import FixedModel
    from mlia.transforms.calibration import SampleSource


def check(
    model: ModelSource,
    target: TargetSource | Sequence[TargetSource],
    *,
    quantize: bool = True,
    calibration: "SampleSource | None" = None,
    try_remedies: bool = True,
    scope: Scope = EVERYTHING,
    options: Options = DEFAULT,
) -> CheckReport:
    """Ask which operators of a model run on the NPU, what each costs, and what to change.

    Args:
        model: path of a model in any format that mlia reads, the bytes of a .tflite, a Keras model, or a Graph.
        target: name of a built-in target, path of a TOML profile, or a Target or CpuTarget; or several of them.
        quantize: quantize a float model first, as it would be deployed; False analyzes it as it is.
        calibration: samples to quantize with: path of an .npz, .npy or folder of .npy, arrays, or a function that
            yields them; without it, seeded noise is used.
        try_remedies: check copies of the model, or of the target, with remedies applied; for one target only.
        scope: what to report, which rules to ask, how long to try, and what to write.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Raises:
        RuleError: a beginning that no rule's code has.
        ModelError: the model cannot be read.
        TargetError: no such target, or an impossible one.
        TransformError: the model cannot be quantized, or the calibration data do not fit it.
        BackendError: the compiler refused the model, crashed, or took too long, on every target; what refuses it on
            one of several is in the report, as that target's `refusal`. Or no such estimator.
        OutputError: what is to be kept, or the fixed model, cannot be written.
    """
    progress, keep_tried, fix = options.progress, scope.keep_tried, scope.fix
    backend = vela(options.estimator or Estimator.CALIBRATED, options.timeout_s)
    targets = load_targets(target)
    names = [each.name for each in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TargetError(f"two targets are called {twice[0]}: give each once, and profiles names of their own")
    alone = targets[0] if len(targets) == 1 and isinstance(targets[0], Target) else None
    if alone is None and (fix is not None or keep_tried is not None):
        raise TargetError("remedies are tried and applied for one target at a time, and that must be an Ethos-U")
    if fix is not None:
        check_writable(Path(fix))
    shelf = TriedFolder(Path(keep_tried)) if keep_tried is not None else None
    why_not = "" if try_remedies and len(targets) == 1 else ONE_AT_A_TIME if try_remedies else NOT_TRIED
    advising = Advising(tuple(scope.select), tuple(scope.ignore), why_not, scope.try_budget_s)
    import_rules(advising)  # while the compiler works, if it has begun already
    original = load(model, options.input_shapes)
    graph, conversion = _prepare(original, quantize, calibration, fix is None, progress)
    wants = scope.compatibility, scope.performance
    work = _Work(name_of(model), original, graph, wants, advising, backend, progress)
    return CheckReport(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        model=summarize_model(work.name, graph, conversion),
        targets=work.reports(targets, shelf),
        notes=notes_on(graph),
        fixed=work.fixed(alone, Path(fix)) if fix is not None and alone is not None else None,
    )


class _Work:
    """One model to check on targets. The same content on the same target is checked once."""

    def __init__(
        self,
        name: str,
        original: Graph,
        graph: Graph,
        wants: tuple[bool, bool],
        advising: Advising,
        backend: Vela,
        progress: Callable[[str], None],
    ) -> None:
        self.name = name
        self._original = original
        self._graph = graph
        self._wants = wants
        self._advising = advising
        self._backend = backend
        self._progress = progress
        self._results: Memo[tuple[str, AnyTarget], Result] = Memo()

    def reports(self, targets: Sequence[AnyTarget], shelf: "TriedFolder | None") -> tuple[TargetReport, ...]:
        """What is said on each target; one that refuses the model takes nothing from the others."""
        if len(targets) == 1:
            return (self.report(targets[0], shelf),)
        made = attempt_in_parallel(lambda entry: self.report(entry, shelf), targets, (BackendError,))
        reports = tuple(
            each if isinstance(each, TargetReport) else _refused(target, str(each), self._as_it_is(target))
            for target, each in zip(targets, made, strict=True)
        )
        if all(each.refusal for each in reports):
            whole = "; ".join(f"{each.target.name}: {each.refusal}" for each in reports)
            raise BackendError(whole if len({each.refusal for each in reports}) > 1 else reports[0].refusal)
        return reports

    def report(self, target: AnyTarget, shelf: "TriedFolder | None") -> TargetReport:
        """What the backend says of the model on a target, and what is advised."""
        verb = "estimating" if isinstance(target, CpuTarget) else "compiling"
        self._progress(f"{verb} {self.name} for {target.name}")
        result = self._result(self._graph, target, self._backend)
        keep = shelf.keep if shelf is not None else None
        advised = advise(self._graph, target, result, self._wants, self._advising, self._again, keep, self._progress)
        shown = (_only(result, *self._wants),)
        return TargetReport(summarize_target(target), shown, advised, as_it_is=self._as_it_is(target))

    def _as_it_is(self, target: AnyTarget) -> str:
        """What the user's file does there, where the report is about a copy that was quantized."""
        return as_it_is(self._original, target) if self._graph is not self._original else ""

    def fixed(self, target: Target, file: Path) -> Fixed | Skipped:
        """The model with lossless remedies, written to a file; or why there is none."""
        from mlia.pipeline.check.fix import apply_fixes  # imports numpy

        result = self._result(self._graph, target, self._backend)
        if result.compiled or self._graph.is_tosa:
            return Skipped("fix", ALREADY_COMPILED if result.compiled else TOSA)
        try:
            mended = apply_fixes(self._graph, target, result, self._advising, self._again, self._progress)
        except (TransformError, BackendError) as error:
            return Skipped("fix", str(error))
        write_file(file, mended.graph.file)
        return _fixed(mended, file)

    def _again(self, graph: Graph, target: Target) -> Result:
        """The same check for a copy, which may take as long as there is for trying."""
        timeout_s = min(self._backend.timeout_s, self._advising.budget_s)
        return self._result(graph, target, replace(self._backend, timeout_s=timeout_s))

    def _result(self, graph: Graph, target: AnyTarget, backend: Vela) -> Result:
        key = sha256(graph.content).hexdigest(), target
        return self._results.get(key, lambda: checked(graph, target, backend))


def _refused(target: AnyTarget, reason: str, untouched: str) -> TargetReport:
    """What is left to say of a target that does not take the model."""
    name = "cortex-m" if isinstance(target, CpuTarget) else Vela.name
    result = Result(name, Skipped("compatibility", reason), Skipped("performance", reason))
    return TargetReport(summarize_target(target), (result,), Advised((), (), (), ()), reason, untouched)


def _fixed(mended: "FixedModel", file: str | Path) -> Fixed:
    return Fixed(
        model=summarize_model(Path(file).name, replace(mended.graph, provenance=Provenance()), None),
        applied=mended.applied,
        left=mended.left,
        before=mended.before,
        after=mended.after,
        proof=mended.proof,
        file=str(file),
    )


class TriedFolder:
    """A folder in which copies that remedies made are kept; it is made when there is one.

    Raises:
        OutputError: it cannot be made, or has files already.
    """

    def __init__(self, folder: Path) -> None:
        try:
            if folder.exists() and any(folder.iterdir()):
                raise OutputError(f"cannot keep what is tried in {folder}: the folder is not empty")
        except OSError as error:
            raise OutputError(f"cannot keep what is tried in {folder}: {error.strerror}") from None
        above = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise OutputError(f"cannot keep what is tried in {folder}: {above} is no folder that can be written")
        self._folder = folder
        self._numbers: Counter[str] = Counter()

    def keep(self, code: str, graph: Graph | None, target: Target | None) -> str:
        """Write what a remedy of that code made, and say under which name.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot keep what is tried in {self._folder}: {error.strerror}") from None
        self._numbers[code] += 1
        stem = self._folder / f"{code}-{self._numbers[code]}"
        written = []
        if graph is not None:
            written.append(stem.with_suffix(".tflite"))
            write_file(written[-1], graph.file)
        if target is not None:
            from mlia.targets.writing import write_profile

            written.append(stem.with_suffix(".toml"))
            write_file(written[-1], write_profile(target).encode())
        return " ".join(map(str, written))


def checked(graph: Graph, target: AnyTarget, backend: Vela = VELA) -> Result:
    """What the backend of a target says of a model, with the host's part; `backend` is that of an Ethos-U.

    Raises:
        BackendError: the compiler refused the model, crashed, or took too long.
    """
    if isinstance(target, CpuTarget):
        from mlia.backends.cortex_m.backend import CortexM

        return CortexM().run(graph, target)
    from mlia.backends.cortex_m.operators import cpu_costs
    from mlia.backends.system import with_host

    # Before the compiler is asked: it may have begun already, in a process of its own.
    costs = cpu_costs(graph, target.host)
    return with_host(backend.run(graph, target), graph, target, costs)


def _prepare(
    graph: Graph,
    quantize: bool,
    calibration: "SampleSource | None",
    is_nominal_enough: bool,
    progress: Callable[[str], None],
) -> tuple[Graph, Conversion | None]:
    """The graph to analyze, and what was done to get it.

    A TFLite file that is not in float is taken as it is, and a model that no quantizer takes, with the reason.
    """
    if quantize and graph.computes_in_float:
        from mlia.transforms.prepare import QuantizeOptions, as_read, quantized

        try:
            options = QuantizeOptions(calibration, is_nominal_enough=is_nominal_enough)
            return quantized(graph, options, progress)
        except NotQuantizedError as error:
            return graph, as_read(graph, f"kept in float: {error.reason}")
    if calibration is not None and quantize:
        raise TransformError("the model is quantized already; calibration data have no use for it")
    origin = graph.provenance
    is_converted = origin != Provenance()
    return graph, Conversion(origin.format, origin.route, origin.added) if is_converted else None


def _only(result: Result, compatibility: bool, performance: bool) -> Result:
    if not compatibility:
        result = replace(result, compatibility=Skipped("compatibility", NOT_ASKED))
    if not performance:
        result = replace(result, performance=Skipped("performance", NOT_ASKED))
    return result

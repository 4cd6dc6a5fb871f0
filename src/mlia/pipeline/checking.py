"""check(): a model and targets in, a Report out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

import mlia
from mlia.backends.vela import Vela
from mlia.backends.vela_process import DEFAULT_TIMEOUT_S
from mlia.errors import TransformError
from mlia.graph.graph import Graph, InputShapes, Provenance
from mlia.pipeline.parallel import map_in_parallel
from mlia.pipeline.summaries import load, name_of, notes_on, summarize_model, summarize_target
from mlia.report import SCHEMA_VERSION, Conversion, Report, TargetReport
from mlia.results import NOT_ASKED, Result, Skipped
from mlia.targets.profiles import load_targets
from mlia.targets.target import AnyTarget, CpuTarget, Target


def check(
    model: str | Path | Graph,
    target: str | AnyTarget | Sequence[str | AnyTarget],
    *,
    compatibility: bool = True,
    performance: bool = True,
    quantize: bool = True,
    calibration: str | Path | None = None,
    input_shapes: InputShapes | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Ask which operators of a model run on the NPU, and what each costs.

    Args:
        model: path of a model in any format that mlia reads, or a Graph that was read before.
        target: name of a built-in target, path of a TOML profile, or a Target or CpuTarget; or several of them.
        compatibility: report where the operators run.
        performance: report cycles, latency and memory.
        quantize: quantize a float model first, as it would be deployed; False analyzes it as it is.
        calibration: .npz or folder of .npy with samples to quantize with; without it, seeded noise is used.
        input_shapes: sizes of inputs by name, where the model leaves them open; "" for the only input.
        timeout_s: how long the compiler may take, per target.
        progress: is told what is being done, in a few words.

    Raises:
        ModelError: the model cannot be read.
        TargetError: no such target, or an impossible one.
        TransformError: the model cannot be quantized, or the calibration data do not fit it.
        BackendError: the compiler refused the model, crashed, or took too long.
    """
    targets = load_targets(target)
    graph = load(model, input_shapes or {})
    graph, conversion = _prepare(graph, quantize, calibration, progress)
    name = name_of(model)

    def run(entry: AnyTarget) -> TargetReport:
        if isinstance(entry, CpuTarget):
            from mlia.backends.cortex_m.backend import CortexM

            progress(f"estimating {name} on {entry.name}")
            result = CortexM().run(graph, entry)
        else:
            progress(f"compiling {name} for {entry.name}")
            result = _on_npu_and_host(graph, entry, timeout_s) if performance else Vela(timeout_s).run(graph, entry)
        return TargetReport(summarize_target(entry), (_only(result, compatibility, performance),))

    return Report(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        model=summarize_model(name, graph, conversion),
        targets=map_in_parallel(run, targets),
        notes=notes_on(graph),
    )


def _on_npu_and_host(graph: Graph, target: Target, timeout_s: float) -> Result:
    from mlia.backends.cortex_m.operators import cpu_costs
    from mlia.backends.system import with_host

    # Before the compiler is asked: it may have begun already, in a process of its own.
    costs = cpu_costs(graph, target.host)
    return with_host(Vela(timeout_s).run(graph, target), graph, target, costs)


def _prepare(
    graph: Graph, quantize: bool, calibration: str | Path | None, progress: Callable[[str], None]
) -> tuple[Graph, Conversion | None]:
    """The graph to analyze, and what was done to get it; a TFLite file that is not in float is taken as it is."""
    if quantize and graph.computes_in_float:
        from mlia.transforms.prepare import QuantizeOptions, quantized

        return quantized(graph, QuantizeOptions(Path(calibration) if calibration else None), progress)
    if calibration and quantize:
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

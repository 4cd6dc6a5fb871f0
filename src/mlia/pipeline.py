"""check(): a model and targets in, a Report out. convert(): a float model in, an integer one out."""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

import mlia
from mlia.backends.vela import Vela
from mlia.backends.vela_process import DEFAULT_TIMEOUT_S
from mlia.errors import TransformError
from mlia.graph.graph import Graph, InputShapes, Provenance, Subgraph
from mlia.graph.load import load_model
from mlia.output import write_file
from mlia.report import (
    SCHEMA_VERSION,
    Conversion,
    MemorySummary,
    ModelSummary,
    Report,
    TargetReport,
    TargetSummary,
    TensorSummary,
)
from mlia.results import NOT_ASKED, Result, Skipped
from mlia.targets.profiles import load_target
from mlia.targets.target import Memory, Target


def check(
    model: str | Path | Graph,
    target: str | Target | Sequence[str | Target],
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
        target: name of a built-in target, path of a TOML profile, or a Target; or several of them.
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
    asked = [target] if isinstance(target, str | Target) else list(target)
    targets = [entry if isinstance(entry, Target) else load_target(entry) for entry in asked]
    graph = _load(model, input_shapes or {})
    graph, conversion = _prepare(graph, quantize, calibration, progress)
    backend = Vela(timeout_s)
    name = _name(model)

    def run(entry: Target) -> TargetReport:
        progress(f"compiling {name} for {entry.name}")
        result = _only(backend.run(graph, entry), compatibility, performance)
        return TargetReport(_summarize_target(entry), (result,))

    return Report(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        model=_summarize_model(name, graph, conversion),
        targets=_map_in_parallel(run, targets),
        notes=_notes(graph),
    )


class Converted(Struct, frozen=True):
    """A converted model and the record of its conversion."""

    graph: Graph
    conversion: Conversion

    def save(self, path: str | Path) -> None:
        """Write the TFLite file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_file(Path(path), bytes(self.graph.content))


def convert(
    model: str | Path | Graph,
    *,
    quantize: bool = True,
    activations: str = "int8",
    calibration: str | Path | None = None,
    per_tensor_fc: bool = False,
    input_shapes: InputShapes | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Converted:
    """Convert a float model to TFLite, quantized unless `quantize` is False.

    Args:
        model: path of a model in any format that mlia reads, or a Graph that was read before.
        quantize: make an integer model, with int8 weights per channel.
        activations: "int8" or "int16", for inputs and outputs too.
        calibration: .npz or folder of .npy with samples; without it, seeded noise is used.
        per_tensor_fc: one scale for all weights of a fully connected operator.
        input_shapes: sizes of inputs by name, where the model leaves them open; "" for the only input.
        progress: is told what is being done, in a few words.

    Raises:
        ModelError: the model cannot be read.
        TransformError: it is quantized already, or cannot be, or the data do not fit.
    """
    from mlia.transforms.prepare import QuantizeOptions, as_read, quantized

    progress(f"reading {_name(model)}")
    graph = _load(model, input_shapes or {})
    if not quantize:
        return Converted(graph, as_read(graph))
    path = Path(calibration) if calibration else None
    return Converted(*quantized(graph, QuantizeOptions(path, activations, per_tensor_fc), progress))


def _name(model: str | Path | Graph) -> str:
    """What the report calls the model: the name of its file or folder."""
    if isinstance(model, Graph):
        return model.description or "unnamed model"
    name = Path(model).name or Path(model).resolve().name
    return name.encode(errors="replace").decode()


def _load(model: str | Path | Graph, input_shapes: InputShapes) -> Graph:
    """The model with its inputs fixed: other formats are converted for them, TFLite is changed."""
    graph = model if isinstance(model, Graph) else load_model(Path(model), input_shapes)
    if not input_shapes or graph.provenance != Provenance():
        return graph
    from mlia.transforms.shapes import with_input_shapes

    return with_input_shapes(graph, input_shapes)


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


def _map_in_parallel(run: Callable[[Target], TargetReport], targets: Sequence[Target]) -> tuple[TargetReport, ...]:
    """The work is in child processes, so threads are enough to keep every core busy."""
    if len(targets) == 1:
        return (run(targets[0]),)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return tuple(pool.map(run, targets))


def _only(result: Result, compatibility: bool, performance: bool) -> Result:
    if not compatibility:
        result = replace(result, compatibility=Skipped("compatibility", NOT_ASKED))
    if not performance:
        result = replace(result, performance=Skipped("performance", NOT_ASKED))
    return result


def _summarize_model(name: str, graph: Graph, conversion: Conversion | None) -> ModelSummary:
    return ModelSummary(
        name=name,
        format=graph.provenance.format,
        size_bytes=len(graph.content),
        sha256=sha256(graph.content).hexdigest(),
        operators=sum(len(subgraph.operators) for subgraph in graph.subgraphs),
        subgraphs=len(graph.subgraphs),
        inputs=_summarize_tensors(graph.main, graph.main.inputs),
        outputs=_summarize_tensors(graph.main, graph.main.outputs),
        conversion=conversion,
    )


def _summarize_tensors(subgraph: Subgraph, indexes: Sequence[int]) -> tuple[TensorSummary, ...]:
    tensors = [subgraph.tensors[index] for index in indexes]
    return tuple(TensorSummary(tensor.name, tensor.shape_signature or tensor.shape, tensor.dtype) for tensor in tensors)


def _summarize_target(target: Target) -> TargetSummary:
    mode = target.memory_mode
    ports: dict[str, Memory] = {"axi0": target.system_config.axi0, "axi1": target.system_config.axi1}
    holds = {"constants": mode.constants, "arena": mode.arena, "cache": mode.cache}
    return TargetSummary(
        name=target.name,
        npu=target.npu.name,
        macs_per_cycle=target.npu.macs_per_cycle,
        clock_mhz=target.npu.clock_mhz,
        system_config=target.system_config.name,
        memory_mode=mode.name,
        vela_config_source=target.vela_config_source,
        memories=tuple(
            MemorySummary(
                name=memory.name,
                holds=tuple(what for what, where in holds.items() if where == port),
                bandwidth_gb_s=memory.bandwidth_gb_s(target.npu),
                read_latency_cycles=memory.read_latency_cycles,
                write_latency_cycles=memory.write_latency_cycles,
            )
            for port, memory in ports.items()
            if port in holds.values()
        ),
        host=target.host.name,
        host_clock_mhz=target.host.clock_mhz,
    )


def _notes(graph: Graph) -> tuple[str, ...]:
    """What a reader must know of how the model was taken."""
    notes = []
    if dynamic := [
        graph.main.tensors[index].name for index in graph.main.inputs if graph.main.tensors[index].is_dynamic
    ]:
        notes.append(f"the size of input {', '.join(dynamic)} is dynamic; analyzed with 1 where it is open")
    if len(graph.subgraphs) > 1:
        notes.append(
            f"the model has {len(graph.subgraphs)} subgraphs; operators of further ones are shown as 1:0, 1:1, …"
        )
    return tuple(notes)

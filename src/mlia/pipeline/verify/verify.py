"""verify() and run(): a model as the NPU will compute it, in our simulator."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

import mlia
from mlia.backends.refusals import refuse_unaddressable
from mlia.backends.vela.process import Compilation, compile_model
from mlia.backends.vela.stream import compiled_for, lost_outputs
from mlia.errors import TargetError, TransformError
from mlia.estimates import Origin, Source
from mlia.graph.graph import COMPILED_OPERATOR, Graph
from mlia.graph.load import ModelSource, name_of
from mlia.graph.tflite import read_tflite, single_subgraph
from mlia.pipeline.load import load, notes_on, summarize_model, summarize_target
from mlia.pipeline.options import DEFAULT, Options
from mlia.report import SCHEMA_VERSION
from mlia.results import Compiled, Skipped
from mlia.targets.profiles import TargetSource, one_target
from mlia.targets.target import CpuTarget, Target, installed_version
from mlia.verification import Danger, TensorCheck, VerifyReport

if TYPE_CHECKING:
    from mlia.backends.simulator.comparison import Compared
    from mlia.backends.simulator.written import Link
    from mlia.transforms.calibration import SampleSource
    from mlia.transforms.noise import Noise

SAMPLES = 3
MOST_ELEMENTS = 1 << 28
PLAN = "OfflineMemoryAllocation"  # the metadata in which a file says where its tensors lie
NO_REFERENCE = "the model is compiled already, and the one it was compiled from is not there to compare with"


class Prepared(Struct, frozen=True):
    """A compiled model (`compiled`), and what it was compiled from (`original`), where that is known.

    `graph` is the user's model: `original` before it was quantized and its open sizes were fixed.

    `links` say which operator each operation is of.
    """

    name: str
    graph: Graph
    target: Target | None
    compiled: Graph
    original: Graph | None
    links: "tuple[Link, ...]"


def verify(
    model: ModelSource,
    target: TargetSource | None = None,
    *,
    inputs: "SampleSource | None" = None,
    samples: int = SAMPLES,
    seed: int = 0,
    options: Options = DEFAULT,
) -> VerifyReport:
    """Execute what the compiler makes of a model, and compare it with LiteRT's reference kernels bit by bit.

    Args:
        model: path of a model, or a Graph; a model that Vela has compiled is executed as it is.
        target: an Ethos-U; not needed for a compiled model, and then what it was compiled for is compared with it.
        inputs: path of an .npz, .npy or folder of .npy, arrays, or a function that yields samples; integers are codes,
            others real numbers; without it, seeded noise over all codes, and edges.
        samples: how many of noise.
        seed: of the noise.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Raises:
        ModelError: the model cannot be read.
        TargetError: no such target, or none with an Ethos-U.
        TransformError: the model cannot be quantized, the inputs do not fit, or LiteRT cannot run it.
        BackendError: the compiler refused the model, crashed, or took too long.
        SimulatorError: the compiled model has a command or a mode that is not known.
    """
    options.refuse("verify", "estimator")
    from mlia.transforms.child import warm_up

    warm_up()  # it imports what it needs while the compiler works
    prepared = prepare(model, target, options=options)
    given, described = _samples(prepared.original or prepared.compiled, inputs, samples, seed)
    options.progress(f"executing {prepared.name} with {len(given)} samples")
    return _told(prepared, described, _executed(prepared, given))


def _told(prepared: Prepared, described: str, compared: "Compared | None") -> VerifyReport:
    """All that is found of a model; `described` are the samples in words."""
    compiled = compiled_for(prepared.compiled)
    if prepared.original is not None:  # the file does not name its compiler, and we know it
        compiled = tuple(replace(each, compiler=f"Vela {installed_version()}") for each in compiled)
    outputs, operators = _checks(prepared, compared)
    return VerifyReport(
        schema_version=SCHEMA_VERSION,
        mlia_version=mlia.__version__,
        model=summarize_model(prepared.name, prepared.graph, None),
        target=summarize_target(prepared.target) if prepared.target else None,
        compiled=compiled,
        source=Source(Origin.SIMULATED, "mlia's Ethos-U simulator", mlia.__version__),
        reference=Source(Origin.MEASURED, "LiteRT's reference kernels", _litert_version()),
        samples=described,
        npu_segments=_segments(prepared.compiled),
        host_operators=len(prepared.compiled.operators) - _segments(prepared.compiled, main_only=True),
        outputs=outputs,
        operators=operators,
        dangers=(*_wrong_npu(compiled, prepared.target), *_old_plan(prepared), *_hazards(prepared)),
        skipped=() if prepared.original is not None else (Skipped("comparison", NO_REFERENCE),),
        notes=(*notes_on(prepared.graph), *(compared.notes if compared is not None else ())),
    )


def _executed(prepared: Prepared, samples: Iterable[Sequence[Any]]) -> "Compared | None":
    """Run the samples in a child; the comparison with the model that was compiled, where it is known."""
    from mlia.backends.simulator.comparison import compare, outputs_of
    from mlia.backends.simulator.kernels import Choice, surviving
    from mlia.transforms.child import call_without_limit

    content, original = prepared.compiled.file, prepared.original
    if original is None:
        call_without_limit(None, outputs_of, content, samples)
        return None
    reference = original.file

    def compared(choice: Choice, told: Callable[[str], None]) -> "Compared":
        return call_without_limit(told, compare, reference, content, prepared.links, samples, choice)

    return surviving(compared)


def run(
    model: ModelSource,
    target: TargetSource | None,
    inputs: "SampleSource",
    *,
    options: Options = DEFAULT,
) -> dict[str, Any]:
    """What a model computes on an Ethos-U, bit by bit as TFLite's reference through Vela's mapping.

    Args:
        model: path of a model, or a Graph; float models are quantized first.
        target: an Ethos-U; None for a model that is compiled already.
        inputs: as verify() takes them.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Returns:
        arrays (samples, *shape) by the outputs' names, in the codes that the model stores.

    Raises:
        As verify().
    """
    options.refuse("run", "estimator")
    from mlia.transforms.child import call_without_limit, warm_up

    warm_up()  # it imports what it needs while this process does, and while the compiler works
    import numpy

    from mlia.backends.simulator.comparison import outputs_of
    from mlia.transforms.calibration import load_samples

    prepared = prepare(model, target, must_fit=True, options=options)
    graph = prepared.original or prepared.compiled
    samples = load_samples(inputs, graph)
    options.progress(f"executing {prepared.name} with {len(samples)} samples")
    found = call_without_limit(None, outputs_of, prepared.compiled.file, samples)
    names = output_names(graph)
    return {name: numpy.stack([each[number] for each in found]) for number, name in enumerate(names)}


def output_names(graph: Graph) -> list[str]:
    """A name for each output: its own, made different where two are the same."""
    from mlia.transforms.calibration import unique_names

    return unique_names([graph.main.tensors[index] for index in graph.main.outputs], "output")


def operators_of(prepared: Prepared) -> dict[tuple[int, int], str]:
    """What operations are of, by stream and offset: "5, CONV_2D 'name'"; empty for a model that came compiled.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    if prepared.original is None:
        return {}
    from mlia.backends.simulator.origins import owners_of
    from mlia.backends.simulator.session import streams_of

    main = prepared.original.main
    names = [f"{each.index}, {each.kind} '{main.operator_name(each)}'" for each in main.operators]
    known = {(link.stream, link.offset): link.operator for link in prepared.links}
    found = owners_of(streams_of(prepared.compiled).values(), known)
    return {place: names[operator] for place, operator in found.items()}


def prepare(
    model: ModelSource,
    target: TargetSource | None = None,
    *,
    must_fit: bool = False,
    options: Options = DEFAULT,
) -> Prepared:
    """The model as it is compiled for a target, or as it is when Vela has compiled it already.

    With `must_fit`, one that is compiled for another NPU than the target's is refused.

    Raises:
        As verify().
    """
    place = one_target(target) if target is not None else None
    if isinstance(place, CpuTarget):
        raise TargetError(f"{place.name} has no NPU to simulate: choose an Ethos-U target")
    given, name = load(model, options.input_shapes), name_of(model)
    graph = given
    if graph.is_compiled:
        if must_fit:
            for danger in _wrong_npu(compiled_for(graph), place):
                raise TargetError(danger.what)
        return Prepared(name, graph, place, graph, None, ())
    if place is None:
        raise TargetError("the model is not compiled yet: name the target to compile it for (-t)")
    if graph.is_tosa:
        raise TransformError("LiteRT cannot run a TOSA model, so there is nothing to compare with")
    refuse_unaddressable(graph, place)
    if graph.computes_in_float:
        from mlia.transforms.prepare import QuantizeOptions, quantized

        graph = quantized(graph, QuantizeOptions(), options.progress)[0]
    if any(graph.main.tensors[index].is_dynamic for index in graph.main.inputs):
        from mlia.transforms.shapes import with_input_shapes

        # With 1 for what is left open, as the compiler takes it; LiteRT takes the sizes that are in the file.
        graph = with_input_shapes(graph, {})
    options.progress(f"compiling {name} for {place.name}")
    content = _without_plan(graph)
    compilation = compile_model(content, place, options.timeout_s)
    compiled = read_tflite(compilation.model)
    if len(graph.subgraphs) > 1:  # the tables are of the last subgraph only
        compilation = compile_model(single_subgraph(memoryview(content), 0), place, options.timeout_s)
    return Prepared(name, given, place, compiled, graph, _links(compilation, graph))


def _without_plan(graph: Graph) -> bytes | memoryview:
    """The file without the memory plan of an earlier compilation, which Vela 5.2 keeps in place of its own."""
    if PLAN not in graph.metadata:
        return graph.content
    from mlia.graph.tflite_writer import write_tflite

    return write_tflite(replace(graph, metadata={key: each for key, each in graph.metadata.items() if key != PLAN}))


def _links(compilation: Compilation, graph: Graph) -> "tuple[Link, ...]":
    """For each operation of the streams its operator of the main subgraph.

    What is joined to a step of the compiler (an activation behind a convolution) has its output made by that step. Of
    an operator with several steps, the last makes the output.
    """
    from mlia.backends.simulator.written import Link

    sources = {key: row["ext_key"] for key, row in compilation.by_key("source").items()}
    steps = {key: sources.get(row["source_id"], "") for key, row in compilation.by_key("perf").items()}
    joined: dict[str, list[str]] = defaultdict(list)
    for key, row in compilation.by_key("group").items():
        joined[row["group_id"]].append(steps.get(key, ""))
    streams = {key: number for number, key in enumerate(compilation.keys("cmdstream"))}
    found: list[tuple[int, int, int, str]] = []
    for offset, row in zip(compilation.keys("queue"), compilation.rows("queue"), strict=True):
        operators = [steps.get(row["scheduled_id"], ""), *joined[row["scheduled_id"]]]
        owner = max((int(each) for each in operators if each), default=None)
        if owner is not None:
            found.append((streams[row["cmdstream_id"]], int(offset), owner, row["optimised_id"]))
    found.sort(key=lambda each: each[:2])
    last = {owner: step for _, _, owner, step in found}
    return tuple(
        Link(stream, offset, owner, last[owner] == step and len(graph.operators[owner].outputs) == 1)
        for stream, offset, owner, step in found
    )


def _samples(
    graph: Graph, inputs: "SampleSource | None", samples: int, seed: int
) -> "tuple[list[list[Any]] | Noise, str]":
    if inputs is not None:
        from mlia.transforms.calibration import label_of, load_samples

        loaded = load_samples(inputs, graph)
        return loaded, f"{len(loaded)} of {label_of(inputs).name}"
    from mlia.transforms.noise import Noise, describe, index_sizes

    tensors = [graph.main.tensors[index] for index in graph.main.inputs]
    for tensor in tensors:
        if tensor.elements > MOST_ELEMENTS:
            raise TransformError(f"the input '{tensor.name}' has {tensor.elements:,} elements, too many to execute")
    return Noise(tensors, seed, samples, index_sizes(graph)), f"{describe(samples)}, seed {seed}"


def _segments(compiled: Graph, main_only: bool = False) -> int:
    subgraphs = compiled.subgraphs[:1] if main_only else compiled.subgraphs
    return sum(operator.custom_code == COMPILED_OPERATOR for subgraph in subgraphs for operator in subgraph.operators)


def _checks(prepared: Prepared, compared: "Compared | None") -> tuple[tuple[TensorCheck, ...], tuple[TensorCheck, ...]]:
    """Verdicts on the outputs and on the operators."""
    if compared is None or prepared.original is None or prepared.target is None:
        return (), ()
    from mlia.pipeline.verify.explain import explain, explain_outputs

    graph, family = prepared.original, prepared.target.npu.family
    operators = explain(graph, compared.operators, family, compared.uncomputed)
    lost = lost_outputs(graph, prepared.compiled)
    return explain_outputs(graph, output_names(graph), compared.outputs, operators, lost), operators


def _wrong_npu(compiled: Sequence[Compiled], target: Target | None) -> list[Danger]:
    if target is None:
        return []
    ours = target.npu.family, target.npu.macs_per_cycle
    return [
        Danger(0, 0, "wrong NPU", f"compiled for {each.npu}-{each.macs_per_cycle}, and {target.name} is another")
        for each in compiled
        if (each.npu, each.macs_per_cycle) != ours
    ]


def _old_plan(prepared: Prepared) -> list[Danger]:
    is_there = prepared.original is not None and PLAN in prepared.original.metadata
    what = (
        f"the model carries a memory plan ({PLAN}) that Vela keeps in place of its own, so that tensors would lie over"
        " each other on the device; remove it before compiling. What follows is of a copy without it"
    )
    return [Danger(0, 0, "old memory plan", what)] if is_there else []


def _hazards(prepared: Prepared) -> list[Danger]:
    from mlia.backends.simulator.hazards import told_hazards
    from mlia.transforms.child import call_without_limit

    return [Danger(*each) for each in call_without_limit(None, told_hazards, prepared.compiled.file)]


def _litert_version() -> str:
    from importlib.metadata import version

    return version("ai-edge-litert")

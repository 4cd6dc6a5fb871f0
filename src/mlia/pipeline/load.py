"""What a run starts with and tells of it: the model as it is read, its summary and the target's."""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from mlia.graph.graph import Graph, InputShapes, Provenance, Subgraph, Tensor
from mlia.graph.load import ModelSource, load_model
from mlia.graph.sound import check_sound
from mlia.report import Conversion, MemorySummary, ModelSummary, OperatorSummary, TargetSummary, TensorSummary
from mlia.targets.target import AnyTarget, CpuTarget, Memory


def load(model: ModelSource, input_shapes: InputShapes) -> Graph:
    """The model with its inputs fixed: other formats are converted for them, TFLite is changed.

    Raises:
        ModelError: the model cannot be read, or contradicts itself.
        TransformError: it does not work with these inputs.
    """
    if isinstance(model, Graph):
        check_sound(model)  # a file has been looked at when it was read
    graph = model if isinstance(model, Graph) else load_model(model, input_shapes)
    if not input_shapes or graph.provenance != Provenance():
        return graph
    from mlia.transforms.shapes import with_input_shapes

    return with_input_shapes(graph, input_shapes)


def summarize_model(name: str, graph: Graph, conversion: Conversion | None) -> ModelSummary:
    """The user's model, with what was done to it."""
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
        graph=tuple(each for subgraph in graph.subgraphs for each in _summarize_operators(subgraph)),
    )


def _summarize_operators(subgraph: Subgraph) -> Iterator[OperatorSummary]:
    makers = {index: operator.index for operator in subgraph.operators for index in operator.outputs}
    for operator in subgraph.operators:
        read = [index for index in operator.inputs if index >= 0 and not subgraph.tensors[index].is_constant]
        yield OperatorSummary(
            subgraph=subgraph.index,
            index=operator.index,
            kind=operator.custom_code or operator.kind,
            name=subgraph.operator_name(operator),
            reads_from=tuple(dict.fromkeys(makers[index] for index in read if index in makers)),
            inputs=_summarize_tensors(subgraph, read),
            outputs=_summarize_tensors(subgraph, operator.outputs),
        )


def _summarize_tensors(subgraph: Subgraph, indexes: Sequence[int]) -> tuple[TensorSummary, ...]:
    return tuple(_summarize_tensor(subgraph.tensors[index]) for index in indexes)


def _summarize_tensor(tensor: Tensor) -> TensorSummary:
    shape, found = tensor.shape_signature or tensor.shape, tensor.quantization
    if found is None or len(found.scale) != 1 or len(found.zero_point) != 1:
        return TensorSummary(tensor.name, shape, tensor.dtype)
    return TensorSummary(tensor.name, shape, tensor.dtype, found.scale[0], found.zero_point[0])


def summarize_target(target: AnyTarget) -> TargetSummary:
    """The target, with what the figures depend on."""
    if isinstance(target, CpuTarget):
        host = target.host
        return TargetSummary(target.name, None, None, host.clock_mhz, None, None, None, (), host.name, host.clock_mhz)
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
        strategy=target.strategy,
        cache_limit_bytes=mode.cache_limit_bytes,
    )


def notes_on(graph: Graph) -> tuple[str, ...]:
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

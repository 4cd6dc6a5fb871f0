"""What a float file does on a target as it is, without the quantization that a check does first."""

from collections.abc import Iterator

from mlia.backends.cortex_m.kernels import kernel_of
from mlia.graph.graph import Graph, Operator, Provenance, Subgraph
from mlia.targets.cores import load_core
from mlia.targets.target import AnyTarget, CpuTarget

_FLOATS = ("float16", "float32", "float64")


def as_it_is(graph: Graph, target: AnyTarget) -> str:
    """A sentence on a float TFLite file as its user has it; empty for other formats, which no target takes.

    Nothing is compiled for it: an Ethos-U computes in integers only, and kernels of TensorFlow Lite Micro are known.
    """
    if graph.provenance != Provenance():
        return ""
    obstacle = _does_not_start(graph, target)
    if isinstance(target, CpuTarget):
        if obstacle:
            return f"As it is, this file does not start on {target.name}: {obstacle}."
        return f"As it is, this file starts on {target.name} and computes in float."
    idle = f"As it is, nothing of this file runs on the NPU of {target.name}: it computes in float."
    if not all(_is_float(operator, subgraph) for subgraph, operator in _operators(graph)):
        idle = f"As it is, what this file computes in float does not run on the NPU of {target.name}."
    host = f"The {target.host.name} beside it"
    return f"{idle} {host} cannot start it: {obstacle}." if obstacle else f"{idle} {host} does that."


def _does_not_start(graph: Graph, target: AnyTarget) -> str:
    """For which operators the host has no kernel, and why; empty when it has all of them."""
    core = load_core(target.host.core)
    refused: dict[str, int] = {}
    for subgraph, operator in _operators(graph):
        kernel = kernel_of(operator, subgraph, core)
        if not kernel.is_supported:
            kind = operator.custom_code or operator.kind
            reason = kernel.reason if kind in kernel.reason else f"{kernel.reason} ({kind})"
            refused[reason] = refused.get(reason, 0) + 1
    return "; ".join(f"{reason}, {count} times" if count > 1 else reason for reason, count in refused.items())


def _operators(graph: Graph) -> Iterator[tuple[Subgraph, Operator]]:
    return ((subgraph, operator) for subgraph in graph.called_subgraphs() for operator in subgraph.operators)


def _is_float(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether it reads or writes a float tensor, or runs other subgraphs, which no NPU does."""
    tensors = [subgraph.tensor(index) for index in (*operator.inputs, *operator.outputs)]
    return bool(operator.called) or any(tensor is not None and tensor.dtype in _FLOATS for tensor in tensors)

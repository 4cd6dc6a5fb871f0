"""A traced ONNX graph -> Graph: node by node, batch normalization and activations folded in."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.formats.finishing import finished_graph, named
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_fuse import Fused
from mlia.graph.formats.onnx_flow import Flow, Order, Value, becomes_channels_last, channels_last, plain
from mlia.graph.formats.onnx_integers import Integers
from mlia.graph.formats.onnx_layers_arithmetic import ARITHMETIC
from mlia.graph.formats.onnx_layers_axes import AXES
from mlia.graph.formats.onnx_layers_matrix import MATRIX
from mlia.graph.formats.onnx_layers_quantized import QUANTIZED, are_codes
from mlia.graph.formats.onnx_layers_shape import SHAPES
from mlia.graph.formats.onnx_layers_windows import WINDOWS
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_patterns import with_patterns
from mlia.graph.formats.onnx_reference import DAMAGE, Trace, misfit
from mlia.graph.graph import Graph, Provenance, Subgraph

_LAYERS: dict[str, Any] = {**ARITHMETIC, **AXES, **MATRIX, **QUANTIZED, **SHAPES, **WINDOWS}
_REPORTED = ("PAD", "TRANSPOSE", "RESHAPE", "STRIDED_SLICE")  # what conversion adds around what the user asked for
_LAYOUTS = {3: ("NCW", "NWC"), 4: ("NCHW", "NHWC")}
_STORED = {"int64": "int32", "uint64": "int32", "uint32": "int32"}
Orders: TypeAlias = Mapping[str, Order]


class Converted(Struct, frozen=True):
    """The graph, and in which order of axes its inputs and outputs are.

    `unfolded` is the same before anything was folded, and `values` says what ONNX's tensors are in it. Of a quantized
    model `coded` is the graph with all of its tensors, in integers, and `codes` says which of ONNX's are among them.
    """

    graph: Graph
    inputs: Orders
    outputs: Orders
    unfolded: Graph
    values: Mapping[str, Value]
    coded: Graph | None = None
    codes: Mapping[str, Value] = {}


def converted(traced: Trace, inputs: Sequence[str], outputs: Sequence[str], notes: Sequence[str] = ()) -> Converted:
    """The model in TFLite's operators, images channels last.

    Raises:
        ModelError: an operator is not known, or is used in a way that TFLite does not have.
    """
    net = LayerBuilder("")
    flow = Flow(traced, net)
    for name in inputs:
        order = plain(len(traced.shapes[name]))
        if len(order) in _LAYOUTS and becomes_channels_last(traced, name):
            order = channels_last(len(order))
        dtype = _STORED.get(traced.dtypes[name], traced.dtypes[name])
        shape = [traced.shapes[name][axis] for axis in order]
        flow.values[name] = Value(net.input(name, shape, "int8" if are_codes(traced, name) else dtype), order)
    given = {name: flow.values[name] for name in inputs}
    nodes = with_patterns(traced.nodes, traced.constants, outputs)
    for node in nodes:
        _add(flow, node)
    made_by = {name: node.kind for node in nodes for name in node.outputs}
    ends = [_end(flow, name, made_by.get(name, "")) for name in outputs]
    told = [*notes, *traced.notes]
    told += [*_told("input", traced, given), *_told("output", traced, dict(zip(outputs, ends, strict=True)))]
    indexes = [end.index for end in ends]
    fused = Fused(net, indexes)
    tensors = named(net, fused)
    for name, index in zip(outputs, fused.outputs, strict=True):
        tensors[index] = replace(tensors[index], name=name)
    added = Counter(op.kind for op in fused.operators if op.outputs[0] in net.extra)
    starts = [given[name].index for name in inputs]
    orders = (
        {name: value.order for name, value in given.items()},
        {name: end.order for name, end in zip(outputs, ends, strict=True)},
    )
    operators, finals = fused.operators, fused.outputs
    coded, codes = None, {}
    if any(op.kind in ("QUANTIZE", "DEQUANTIZE") for op in operators):
        integers = Integers(operators, tensors, (starts, finals), flow.codes)
        operators, tensors, starts, finals = integers.operators, integers.tensors, integers.inputs, integers.outputs
        for name, index in zip(outputs, finals, strict=True):
            tensors[index] = replace(tensors[index], name=name)
        told += _told_of_integers(traced, integers, inputs, outputs)
        main = Subgraph(0, "main", tuple(tensors), tuple(operators), tuple(starts), tuple(finals))
        coded = replace(net.graph([]), subgraphs=(main,))
        codes = {
            name: Value(integers.instead.get(value.index, value.index), value.order)
            for name, value in flow.values.items() if net.dtype(value.index) == "int8"
        }  # fmt: skip
    provenance = Provenance(
        "ONNX", "read by mlia", (*(f"{added[kind]} {kind}" for kind in _REPORTED if added[kind]), *told)
    )
    graph = finished_graph(net.graph([]), provenance, operators, tensors, (starts, finals), (inputs, outputs))
    return Converted(graph, *orders, net.graph(indexes), dict(flow.values), coded, codes)


def _told_of_integers(
    traced: Trace, integers: Integers, inputs: Sequence[str], outputs: Sequence[str]
) -> Iterator[str]:
    """Ends that became codes, and what was left in float."""
    for end, names, indexes in (("input", inputs, integers.inputs), ("output", outputs, integers.outputs)):
        for name, index in zip(names, indexes, strict=True):
            if integers.tensors[index].dtype == "int8" and traced.dtypes[name] != "int8":
                yield f"{end} {name}: {traced.dtypes[name]} -> int8"
    for op in integers.in_float:
        yield f"{integers.tensors[op.outputs[0]].name} ({op.kind}) stays in float"


def _add(flow: Flow, node: Node) -> None:
    layer = _LAYERS.get(node.kind)
    if layer is None or len(node.inputs) == 0:
        node.refuse("TFLite has no operator for it")
    try:
        with flow.net.call(node.name):
            found = layer(flow, node)
    except ModelError as error:
        if str(error).startswith("ONNX operator"):
            raise
        node.refuse(str(error))
    except DAMAGE:
        node.refuse(misfit([flow.shape(name) for name in node.inputs if name]))
    for name, value in zip(node.outputs, [found] if isinstance(found, Value) else found, strict=False):
        if not name:
            continue
        if not value.order and flow.net.shape(value.index) == (1,):  # scalars of the builder have one axis
            value = Value(flow.net.reshape(value.index, (), node.name, extra=True), ())
        shape = tuple(flow.shape(name)[axis] for axis in value.order)
        if shape != flow.net.shape(value.index):
            node.refuse(f"its output would be {flow.net.shape(value.index)} instead of {shape}")
        flow.values[name] = value


def _end(flow: Flow, name: str, kind: str) -> Value:
    """An output; channels stay last, unless the model itself puts them elsewhere."""
    if name in flow.trace.constants and name not in flow.values:
        raise ModelError(f"its output '{name}' is a constant")
    value, rank = flow.values[name], len(flow.shape(name))
    wanted = channels_last(rank) if rank in _LAYOUTS and kind != "Transpose" else plain(rank)
    order = value.order if value.order == wanted else plain(rank)
    with flow.net.call(name):
        index = flow.turned(value, order, name)
        if index in flow.net.inputs or index not in {op.outputs[0] for op in flow.net.operators}:
            index = flow.net.reshape(index, flow.net.shape(index), name)  # an output must be computed
    return Value(index, order)


def _told(end: str, traced: Trace, values: Mapping[str, Value]) -> list[str]:
    notes = []
    for name, value in values.items():
        if value.order != plain(len(value.order)):
            notes.append(f"{end} {name}: {' -> '.join(_LAYOUTS[len(value.order)])}")
        dtype = traced.dtypes[name]
        if dtype in _STORED:
            notes.append(f"{end} {name}: {dtype} -> {_STORED[dtype]}")
    return notes

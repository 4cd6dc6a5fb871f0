"""KerasModel -> Graph: a float32 TFLite model with the names of the Keras layers."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy
from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.formats.finishing import finished_graph, named
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_calls import untupled
from mlia.graph.formats.keras_fuse import Fused
from mlia.graph.formats.keras_layer import NEXT_STEP
from mlia.graph.formats.keras_layers import DAMAGE, what_is_damaged
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.formats.keras_network import Network
from mlia.graph.graph import Graph, InputShapes, Operator, Provenance

_INPUT_TYPES = {"float32": "float32", "float16": "float32", "float64": "float32", "int32": "int32", "int64": "int32"}
_REPORTED = ("PAD", "TRANSPOSE", "RESHAPE")  # what conversion adds around what the user asked for


def build_graph(model: KerasModel, batch: int = 1, input_shapes: InputShapes | None = None) -> Graph:
    """The model as one subgraph of float32 NHWC operators, batch normalization and activations folded in.

    `input_shapes` gives whole shapes, batch included, by the names of inputs ("" for the only one); it is needed
    where more than the batch is open. Operators are called by the names of their layers.

    Raises:
        ModelError: a layer is unknown or damaged, a model runs code of its own, or a size is open.
    """
    # Damaged weights may be beyond float32; what is not finite then is for quantizers to refuse, without a warning.
    with numpy.errstate(all="ignore"):
        return _built(model, batch, input_shapes or {})


def _built(model: KerasModel, batch: int, input_shapes: InputShapes) -> Graph:
    try:
        model = replace(model, config=untupled(model.config))
        network = Network(model, model.config["class_name"], model.config["config"])
        net = LayerBuilder(str(model.config["config"]["name"]) if _is_named(model) else "")
        declared = network.inputs()
        shapes = _shapes(declared, batch, input_shapes)
        inputs = [net.input(name, shape, _dtype(name, declared[name][1])) for name, shape in shapes.items()]
        outputs = network.build(net, inputs)
        names = network.output_names()
    except DAMAGE as error:
        what = what_is_damaged(error)
        raise ModelError(f"its configuration is damaged: {what}; save the model again, or {NEXT_STEP}") from None
    kept = [net.tensors[first].name for first, _ in net.states]
    inputs += [first for first, _ in net.states]
    fused = Fused(net, [*outputs, *(last for _, last in net.states)])
    operators, tensors = fused.operators, named(net, fused)
    provenance = Provenance(format=model.container, route="read by mlia", added=_added(net, operators, kept))
    ends, called = (inputs, fused.outputs), ([*shapes, *kept], [*names, *(f"{name}/next" for name in kept)])
    return finished_graph(net.graph([]), provenance, operators, tensors, ends, called)


def _is_named(model: KerasModel) -> bool:
    return isinstance(model.config["config"], Mapping) and "name" in model.config["config"]


def _dtype(name: str, stored: str) -> str:
    if stored not in _INPUT_TYPES:
        raise ModelError(f"its input '{name}' is {stored}, and float32 and int32 are read")
    return _INPUT_TYPES[stored]


def _shapes(
    declared: Mapping[str, tuple[tuple[int | None, ...], str]], batch: int, given: InputShapes
) -> dict[str, tuple[int, ...]]:
    """The shape of each input with no size open: the user's, or the model's with the batch filled in."""
    if len(declared) == 1:
        given = {name or next(iter(declared)): shape for name, shape in given.items()}
    for name in given:
        if name not in declared:
            raise ModelError(f"it has no input '{name}'; its inputs are {', '.join(map(repr, declared))}")
    shapes = {}
    for name, (shape, _) in declared.items():
        filled = tuple(batch if not axis and size is None else size for axis, size in enumerate(shape))
        wanted = given.get(name) or filled
        if len(wanted) != len(shape) or any(size not in (None, ours) for size, ours in zip(shape, wanted, strict=True)):
            raise ModelError(f"its input '{name}' has the shape {_written(shape)}, which {wanted} does not fit")
        sizes = tuple(size for size in wanted if size is not None)
        if len(sizes) < len(wanted):
            raise ModelError(f"its input '{name}' has the open shape {_written(shape)}; give it with --input-shape")
        if min(sizes, default=1) < 1:
            raise ModelError(f"its input '{name}' has the impossible shape {sizes}")
        shapes[name] = sizes
    return shapes


def _written(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _added(net: LayerBuilder, operators: Sequence[Operator], kept: Sequence[str]) -> tuple[str, ...]:
    """How many operators of each kind no layer asked for, and states that became inputs and outputs."""
    counts = Counter(op.kind for op in operators if op.outputs[0] in net.extra)
    states = (f"the state that is kept as input and output: {', '.join(kept)}",) if kept else ()
    return (*(f"{counts[kind]} {kind}" for kind in _REPORTED if counts[kind]), *states)

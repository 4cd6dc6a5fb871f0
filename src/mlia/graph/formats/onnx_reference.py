"""An ONNX graph computed in numpy, in the file's own layout: what folds constants, gives shapes, and is compared with.

It knows nothing of TFLite or of layouts, so that a mistake there cannot hide here.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from typing import Any

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.formats.onnx_codes import Codes, codes_of, with_fitting_weights
from mlia.graph.formats.onnx_model import MOST_ELEMENTS, Node, OnnxGraph
from mlia.graph.formats.onnx_reference_arithmetic import ARITHMETIC
from mlia.graph.formats.onnx_reference_recurrent import RECURRENT
from mlia.graph.formats.onnx_reference_shape import SHAPES
from mlia.graph.formats.onnx_reference_windows import WINDOWS

Array = Any
MOST_NODES = 100_000
MOST_INPUTS = 100_000  # of an operator that takes any number
FUNCTIONS: dict[str, Any] = {**ARITHMETIC, **SHAPES, **WINDOWS, **RECURRENT}
_ELSEWHERE = {"com.microsoft": ("Gelu",)}  # what is the same in another domain
# What damaged attributes and shapes make numpy raise, in words for programmers, which no user is told.
DAMAGE = (
    ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError, ZeroDivisionError, MemoryError,
    FloatingPointError, RecursionError,
)  # fmt: skip
_DYNAMIC = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_OF_SHAPES = ("Shape", "Size")


class Trace(Struct, frozen=True):
    """A graph with all shapes known: what must be computed at run time, in order, and what is constant.

    `shapes` and `dtypes` are of all tensors, `outputs` what the graph computed for the inputs that it was traced with,
    `codes` the scales of constants that the file stores in integers, and `notes` what was done to those.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    outputs: Mapping[str, Array]
    codes: Mapping[str, Codes] = {}
    notes: tuple[str, ...] = ()


def trace(graph: OnnxGraph, inputs: Mapping[str, Array]) -> Trace:
    """Compute the graph once; branches that a constant decides are put in place of their If.

    Raises:
        ModelError: it has an operator that is not known, or contradicts itself.
    """
    tracer = _Tracer(graph, inputs)
    tracer.run(graph.nodes)
    missing = [end.name for end in graph.outputs if end.name not in tracer.values]
    if missing:
        raise ModelError(f"it is damaged: nothing computes the output '{missing[0]}'")
    kept = tracer.needed([end.name for end in graph.outputs])
    outputs = {end.name: tracer.values[end.name] for end in graph.outputs}
    nodes = tuple(kept)
    if not tracer.codes:
        return Trace(nodes, tracer.constants, tracer.shapes, tracer.dtypes, outputs)
    constants, codes, rounded = with_fitting_weights(nodes, tracer.constants, tracer.codes)
    notes = tuple(f"weights of {name}: rounded anew, around 0" for name in rounded)
    traced = Trace(nodes, constants, tracer.shapes, tracer.dtypes, outputs, codes, notes)
    return replace(traced, outputs=compute(traced, inputs, [*outputs])) if rounded else traced


def compute(traced: Trace, inputs: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
    """The wanted tensors for other inputs of the same shapes."""
    values: dict[str, Array] = dict(inputs)
    reads = Counter([*wanted, *(name for node in traced.nodes for name in node.inputs)])
    for node in traced.nodes:
        arrays = [None if not name else _either(values, traced.constants, name) for name in node.inputs]
        values.update(zip(node.outputs, evaluate(node, arrays), strict=False))
        for name in node.inputs:
            reads[name] -= 1
            if not reads[name]:
                values.pop(name, None)
    return {name: _either(values, traced.constants, name) for name in wanted}


def evaluate(node: Node, arrays: Sequence[Array]) -> list[Array]:
    """What one node computes.

    Raises:
        ModelError: the operator is not known, or does not fit its inputs.
    """
    known = node.kind in FUNCTIONS and (not node.domain or node.kind in _ELSEWHERE.get(node.domain, ()))
    if not known:
        kind = f"{node.domain}.{node.kind}" if node.domain else node.kind
        why = ": its scales are only known when the model runs; quantize it statically" if kind in _DYNAMIC else ""
        raise ModelError(f"ONNX operator {kind} (node '{node.name}') is not supported{why}")
    _require_inputs(node, arrays)
    try:
        with warnings.catch_warnings(), numpy.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = FUNCTIONS[node.kind](node, *arrays)
    except MemoryError:
        raise _contradiction(node, "it takes more memory than there is") from None
    except DAMAGE:
        shapes = [array.shape for array in arrays if array is not None]
        raise _contradiction(node, misfit(shapes)) from None
    results = list(found) if isinstance(found, list | tuple) else [found]
    return [numpy.asarray(each) for each in results]


def misfit(shapes: Sequence[tuple[int, ...]]) -> str:
    """In words that a node's inputs and attributes do not go together."""
    told = " and ".join("x".join(map(str, shape)) or "one number" for shape in shapes[:4])
    return f"its attributes do not fit inputs of the sizes {told}" if shapes else "its attributes do not fit it"


def _contradiction(node: Node, why: str) -> ModelError:
    return ModelError(f"ONNX operator {node.kind} (node '{node.name}') contradicts itself: {why}")


def _require_inputs(node: Node, arrays: Sequence[Array]) -> None:
    """Refuse a node with too few inputs or too many, or without one that its operator needs."""
    needed, most, takes_many = _inputs_of(node.kind)
    if not needed <= len(arrays) <= most:
        least = f"{needed}" if needed == most else f"at least {needed}" if len(arrays) < needed else f"at most {most}"
        plural = "" if least.split()[-1] == "1" else "s"
        raise _contradiction(node, f"{node.kind} needs {least} input{plural} and has {len(arrays)}")
    missing = [place for place, array in enumerate(arrays) if array is None and (place < needed or takes_many)]
    if missing:
        raise _contradiction(node, f"its input {missing[0] + 1} of {len(arrays)} is left out, and is no optional one")


@cache
def _inputs_of(kind: str) -> tuple[int, int, bool]:
    """The fewest and the most inputs of an operator, and whether it takes any number, of which none is optional.

    Its function says them: parameters without a default are needed, and so are all of *arrays.
    """
    parameters = [*signature(FUNCTIONS[kind]).parameters.values()][1:]
    needed = sum(each.default is Parameter.empty and each.kind != Parameter.VAR_POSITIONAL for each in parameters)
    rest = [each.name for each in parameters if each.kind == Parameter.VAR_POSITIONAL]
    takes_many = rest == ["arrays"]
    return max(needed, int(takes_many)), MOST_INPUTS if rest else len(parameters), takes_many


def _either(values: Mapping[str, Array], constants: Mapping[str, Array], name: str) -> Array:
    return values[name] if name in values else constants[name]


class _Tracer:
    def __init__(self, graph: OnnxGraph, inputs: Mapping[str, Array]) -> None:
        self.constants: dict[str, Array] = dict(graph.weights)
        self.values: dict[str, Array] = {**graph.weights, **inputs}
        self.shapes = {name: array.shape for name, array in self.values.items()}
        self.dtypes = {name: array.dtype.name for name, array in self.values.items()}
        self.codes: dict[str, Codes] = {}
        self._kept = {end.name for end in graph.outputs}
        self._running: list[Node] = []
        self._count = 0

    def run(self, nodes: Sequence[Node]) -> None:
        # A tensor is let go of behind its last reader, unless a graph inside of a node may still read it.
        last = {name: place for place, node in enumerate(nodes) for name in node.inputs}
        nested = any(isinstance(value, OnnxGraph) for node in nodes for value in node.attributes.values())
        made: set[str] = set()
        for place, node in enumerate(nodes):
            self._step(node)
            made.update(node.outputs)
            if not nested:
                for name in node.inputs:
                    if last[name] == place and name in made and name not in self._kept:
                        self.values.pop(name, None)

    def _step(self, node: Node) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise ModelError(f"it has more than {MOST_NODES} nodes")
        for name in node.inputs:
            if name and name not in self.values:
                raise ModelError(f"it is damaged: nothing computes '{name}', which node '{node.name}' reads")
        if node.kind == "If" and not node.domain:
            self._branch(node)
            return
        arrays = [self.values[name] if name else None for name in node.inputs]
        results = evaluate(node, arrays)
        is_constant = all(name in self.constants for name in node.inputs if name) or node.kind in _OF_SHAPES
        for name, array in zip(node.outputs, results, strict=False):
            if array.size > MOST_ELEMENTS:
                node.refuse(f"its output would have the shape {array.shape}")
            self.values[name] = array
            self.shapes[name], self.dtypes[name] = array.shape, array.dtype.name
            if is_constant:
                self.constants[name] = array
        if is_constant and (found := codes_of(node, arrays, self.codes)):
            self.codes[node.outputs[0]] = found
        if not is_constant:
            self._running.append(node)

    def _branch(self, node: Node) -> None:
        """An If whose condition is constant is the branch that it takes."""
        if not node.inputs or node.inputs[0] not in self.constants:
            node.refuse("its condition is only known when the model runs")
        branch = node.attributes.get("then_branch" if bool(self.constants[node.inputs[0]].any()) else "else_branch")
        if not isinstance(branch, OnnxGraph) or len(branch.outputs) != len(node.outputs):
            node.refuse("its branch is damaged")
        self.constants |= branch.weights
        self.values |= branch.weights
        self.shapes |= {name: array.shape for name, array in branch.weights.items()}
        self.dtypes |= {name: array.dtype.name for name, array in branch.weights.items()}
        for inner in branch.nodes:
            self._step(inner)
        for end, name in zip(branch.outputs, node.outputs, strict=True):
            self._step(Node("Identity", f"{node.name}/{name}", (end.name,), (name,)))

    def needed(self, outputs: Sequence[str]) -> list[Node]:
        """The nodes that the outputs depend on."""
        wanted, kept = set(outputs), []
        for node in reversed(self._running):
            if wanted & set(node.outputs):
                wanted.update(node.inputs)
                kept.append(node)
        return kept[::-1]

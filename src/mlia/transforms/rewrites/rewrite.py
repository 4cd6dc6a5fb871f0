"""Rewrites of the graph, applied until nothing changes any more, and proven by running the model before and after.

rewrite() runs in our child process, because it runs LiteRT. A rewrite that fails its proof is undone and told.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.fuse import ACTIVATIONS, with_fused_activations
from mlia.graph.graph import Graph, Operator
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Rewrite
from mlia.results import Change, Skipped
from mlia.transforms.calibration import Array, affordable
from mlia.transforms.interpreter import infer_shapes, outputs
from mlia.transforms.rewrites import approximate, arithmetic, folding, layout, operators, regions
from mlia.transforms.rewrites.network import (
    Edit,
    Network,
    named_outside,
    same_numbers,
    unneeded,
    without_unused_tensors,
)
from mlia.transforms.transform import Transformed

TOLERANCE = 1e-5  # relative error of float outputs: sums in another order, constants multiplied beforehand
LARGEST_ERROR = 1.0  # an approximation whose error is as large as what it is an error of is undone
_NAME = "rewrite"
# Their results have sizes that depend on the input's values, or are described in other subgraphs.
_OPEN_ENDED = (
    "WHERE", "UNIQUE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "IF", "WHILE", "CALL", "CALL_ONCE", "CUSTOM",
)  # fmt: skip


class Step(Struct, frozen=True):
    """The graph after one rewrite, which rule made it, and what it changed."""

    rule: str
    graph: Graph
    changes: tuple[Change, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.rule, self.changes[0].where


class Verdict(Struct, frozen=True):
    """Why a changed graph does not compute the same, empty when it does; and remarks on what is only almost so."""

    objection: str = ""
    remarks: tuple[Change, ...] = ()


MOST_OUTPUT_BYTES = 256 << 20  # of what the model computes for the samples, before and after
Rule = Callable[[Graph], Iterator[Step]]


def rewrite(graph: Graph, samples: Sequence[Array], options: Rewrite) -> Transformed:
    """The graph with fewer and cheaper operators that computes the same.

    Integer outputs are equal bit by bit on all samples, apart from one code where LiteRT's QUANTIZE rounds by
    position, which is told; float outputs within a relative error (||after - before|| / ||before||) of 1e-5.
    With `options.approximate`, activations are swapped for cheaper ones too, and each of those changes tells the
    relative error that it brought. Names and shapes of inputs, outputs and signatures stay.

    Args:
        graph: a TFLite graph, float or integer.
        samples: per input of the model an array (samples, *shape of the input) of real numbers.
        options: whether to approximate.

    Raises:
        TransformError: LiteRT cannot run the model as it is.
    """
    output_bytes = sum(8 * graph.main.tensors[index].elements for index in graph.main.outputs)
    given, samples = len(samples[0]), affordable(samples, output_bytes, MOST_OUTPUT_BYTES)
    outputs(write_tflite(graph), [stack[:1] for stack in samples])  # rewrites rely on a model that is whole
    changed, changes, skipped = _equivalent(graph, samples)
    skipped = [*_left_open(graph), *skipped]
    if options.approximate:
        swapped, swaps, refused = _approximated(changed, samples)
        changes, skipped = [*changes, *swaps], [*skipped, *refused]
        if swaps:
            changed, more, undone = _equivalent(swapped, samples)
            changes, skipped = [*changes, *more], [*skipped, *undone]
    if changes and len(samples[0]) < given:
        left_out = f"{given - len(samples[0])} of {given} samples"
        skipped.append(Skipped(left_out, "what the model computes for more does not fit in memory"))
    if not changes:
        return Transformed(graph, (), tuple(skipped))
    return Transformed(_finished(changed), tuple(changes), tuple(skipped))


def _finished(graph: Graph) -> Graph:
    content = write_tflite(without_unused_tensors(graph))
    return replace(read_tflite(content), provenance=graph.provenance)


def _equivalent(graph: Graph, samples: Sequence[Array]) -> tuple[Graph, list[Change], list[Skipped]]:
    """All equivalent rewrites, proven together; only when that fails, each one by itself."""
    steps = list(applied(graph, EQUIVALENT, lambda before, step: True))
    if not steps:
        return graph, [], []
    expected = outputs(write_tflite(graph), samples)
    skipped: list[Skipped] = []
    verdict = _compare(graph, expected, steps[-1].graph, samples)
    if verdict.objection:

        def accept(before: Graph, step: Step) -> bool:
            nonlocal verdict
            found = _compare(graph, expected, step.graph, samples)
            if found.objection:
                skipped.extend(_undone(step, found.objection))
                return False
            verdict = found
            return True

        verdict = Verdict()
        steps = list(applied(graph, EQUIVALENT, accept))
    changes = [change for step in steps for change in step.changes]
    return (steps[-1].graph if steps else graph), [*changes, *verdict.remarks], skipped


def _approximated(graph: Graph, samples: Sequence[Array]) -> tuple[Graph, list[Change], list[Skipped]]:
    """Swaps one by one, each with the error that it brings."""
    changes: list[Change] = []
    skipped: list[Skipped] = []

    expected: Sequence[Array] = ()

    def accept(before: Graph, step: Step) -> bool:
        nonlocal expected
        expected = expected or outputs(write_tflite(before), samples)
        try:
            found = outputs(write_tflite(step.graph), samples)
        except TransformError as error:
            skipped.extend(_undone(step, str(error)))
            return False
        relative = max(map(_relative_error, expected, found))
        text = f"relative error of the outputs {relative:.2g}"
        if relative >= LARGEST_ERROR:
            skipped.extend(_undone(step, text))
            return False
        expected = found
        changes.extend(replace(change, what=f"{change.what} (approximate: {text})") for change in step.changes)
        return True

    for step in applied(graph, APPROXIMATE, accept):
        graph = step.graph
    return graph, changes, skipped


def _undone(step: Step, reason: str) -> list[Skipped]:
    return [Skipped(f"{_NAME} of '{change.where}': {change.what}", f"undone: {reason}") for change in step.changes]


def applied(graph: Graph, rules: Sequence[Rule], accept: Callable[[Graph, Step], bool]) -> Iterator[Step]:
    """Apply rules until nothing changes any more. What is not accepted is not tried again."""
    refused: set[tuple[str, str]] = set()
    is_changing = True
    while is_changing:
        is_changing = False
        for rule in rules:
            while (step := next((step for step in rule(graph) if step.key not in refused), None)) is not None:
                if accept(graph, step):
                    graph = step.graph
                    is_changing = True
                    yield step
                else:
                    refused.add(step.key)


def _compare(original: Graph, expected: Sequence[Array], changed: Graph, samples: Sequence[Array]) -> Verdict:
    """Whether a changed graph computes what the original does."""
    try:
        found = outputs(write_tflite(without_unused_tensors(changed)), samples)
    except TransformError as error:
        return Verdict(str(error))
    remarks = []
    for index, theirs, ours in zip(original.main.outputs, expected, found, strict=True):
        tensor = original.main.tensors[index]
        if theirs.shape != ours.shape:
            return Verdict(f"the shape of '{tensor.name}' is {list(ours.shape[1:])} and was {list(theirs.shape[1:])}")
        if numpy.array_equal(theirs, ours, equal_nan=theirs.dtype.kind == "f"):
            continue
        if tensor.dtype.startswith("float"):
            relative = _relative_error(theirs, ours)
            if relative > TOLERANCE:
                return Verdict(f"the relative error of '{tensor.name}' is {relative:.2g}, above {TOLERANCE:g}")
            continue
        scale = tensor.quantization.scale[0] if tensor.quantization else 1.0
        codes = round(float(numpy.abs(theirs.astype(numpy.float64) - ours).max()) / scale)
        if codes > 1 or not _rounds_by_position(original):
            return Verdict(f"'{tensor.name}' differs by up to {codes} codes")
        share = float((theirs != ours).mean())
        what = f"{share:.2%} of it differ by one code, because LiteRT's QUANTIZE rounds by position in memory"
        remarks.append(Change(_NAME, tensor.name, what))
    return Verdict(remarks=tuple(remarks))


def _rounds_by_position(graph: Graph) -> bool:
    """Whether there is a QUANTIZE from integers to integers.

    LiteRT computes most of a tensor with vector instructions and the rest without, and in this kernel (found with
    LiteRT 2.3, by equal codes throughout a tensor) the two round halves differently. Of eleven other integer
    kernels that were tried (ADD, MUL, SUB, RELU, TANH and the like), none does.
    """
    tensors = graph.main.tensors
    return any(
        operator.kind == "QUANTIZE" and not tensors[operator.inputs[0]].dtype.startswith("float")
        for operator in graph.operators
    )


def _relative_error(expected: Array, found: Array) -> float:
    """||found - expected|| / ||expected||; infinite where one of them alone is not finite."""
    if expected.shape != found.shape:
        return numpy.inf
    expected, found = expected.astype(numpy.float64), found.astype(numpy.float64)
    is_same = (expected == found) | (numpy.isnan(expected) & numpy.isnan(found))
    noise = numpy.where(is_same, 0.0, found - numpy.where(is_same, found, expected))
    signal = numpy.linalg.norm(expected[numpy.isfinite(expected)])
    error = numpy.linalg.norm(noise)
    if not numpy.isfinite(error):
        return numpy.inf
    return float(error / signal) if signal else (0.0 if not error else numpy.inf)


def local(find: Callable[[Network, Operator], Edit | None]) -> Rule:
    """A rule from a rewrite of single operators."""

    def steps(graph: Graph) -> Iterator[Step]:
        network = Network(graph.main, named_outside(graph))
        for operator in graph.operators:
            edit = find(network, operator) if operator.inputs and operator.outputs else None
            if edit is not None:
                changed = replace(graph, subgraphs=(edit.result(), *graph.subgraphs[1:]))
                yield Step(find.__name__, changed, (Change(_NAME, edit.where, edit.what),))

    return steps


def fixed_batch(graph: Graph) -> Iterator[Step]:
    """A batch that is left open becomes 1, and all sizes that depend on it become known.

    What follows is that the operators that compute sizes (SHAPE, STRIDED_SLICE, PACK), which run on the CPU, can go.
    """
    main = graph.main
    inputs = [main.tensors[index] for index in main.inputs]
    if _left_open(graph) or not any(tensor.is_dynamic for tensor in main.tensors):
        return
    shapes = infer_shapes(write_tflite(graph), [tensor.shape for tensor in inputs])
    tensors = tuple(
        replace(tensor, shape=shapes.get(index, tensor.shape), shape_signature=()) if tensor.is_dynamic else tensor
        for index, tensor in enumerate(main.tensors)
    )
    where = next((tensor.name for tensor in inputs if tensor.is_dynamic), main.name)
    what = "the open batch is fixed to 1, and with it all sizes that depend on it"
    fixed = replace(graph, subgraphs=(replace(main, tensors=tensors), *graph.subgraphs[1:]))
    yield Step("fixed_batch", fixed, (Change(_NAME, where, what),))


def _left_open(graph: Graph) -> list[Skipped]:
    """Why open sizes are not fixed: more than the batch is open, or sizes depend on what is computed."""
    main = graph.main
    if not any(tensor.is_dynamic for tensor in main.tensors):
        return []
    for tensor in (main.tensors[index] for index in main.inputs):
        if -1 in tensor.shape_signature[1:]:
            return [Skipped(f"open sizes of '{tensor.name}'", "more than the batch is open: --input-shape fixes them")]
    kinds = [operator.kind for operator in main.operators if operator.kind in _OPEN_ENDED]
    return [Skipped("open sizes", f"they can depend on what {kinds[0]} computes")] if kinds else []


def unneeded_operators(graph: Graph) -> Iterator[Step]:
    """Operators whose results nobody needs are removed: an NPU would compute them all the same."""
    for operator in reversed(unneeded(graph.main, named_outside(graph))):
        kept = [other for other in graph.operators if other is not operator]
        renumbered = tuple(replace(other, index=index) for index, other in enumerate(kept))
        changed = replace(graph, subgraphs=(replace(graph.main, operators=renumbered), *graph.subgraphs[1:]))
        change = Change(_NAME, graph.main.operator_name(operator), f"nothing needs the result of this {operator.kind}")
        yield Step("unneeded_operators", changed, (change,))


def fused_activations(graph: Graph) -> Iterator[Step]:
    """Activations that stand alone are joined to the operator in front: one pass over the tensor less.

    In an integer model only where no activation changes the scale, which would round once less than before.
    """
    tensors = graph.main.tensors
    alone = [operator for operator in graph.operators if operator.kind in ACTIVATIONS]
    if any(not same_numbers(tensors[operator.inputs[0]], tensors[operator.outputs[0]]) for operator in alone):
        return
    fused = with_fused_activations(graph)
    if fused is graph:
        return
    names = {fused.main.operator_name(operator): operator.kind for operator in fused.operators}
    joined = [
        Change(_NAME, graph.main.operator_name(operator), f"the {operator.kind} is part of the operator in front of it")
        for operator in alone
        if names.get(graph.main.operator_name(operator)) != operator.kind
    ]
    if joined:
        yield Step("fused_activations", fused, tuple(joined))


EQUIVALENT: tuple[Rule, ...] = (
    unneeded_operators,
    fixed_batch,
    local(folding.folded_shape),
    local(folding.folded_constants),
    local(folding.without_effect),
    local(layout.merged_transposes),
    local(regions.cancelled_transposes),
    local(layout.transpose_into_weights),
    local(operators.division_as_multiplication),
    local(operators.square_as_multiplication),
    local(operators.squared_difference_as_multiplication),
    local(operators.matmul_as_fully_connected),
    local(operators.clipping),
    fused_activations,
    local(operators.hard_swish),
    local(operators.gelu),
    local(operators.leaky_relu),
    local(arithmetic.arithmetic_into_weights),
    local(arithmetic.arithmetic_into_next_weights),
    local(arithmetic.padding_into_convolution),
    local(layout.transpose_as_reshape),
    local(layout.merged_reshapes),
)
APPROXIMATE: tuple[Rule, ...] = tuple(local(find) for find in approximate.SWAPS)

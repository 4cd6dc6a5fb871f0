"""Pruning and clustering of an integer model's weights, on the codes that are stored, each error made up for.

1. Operators are taken in the order of execution. Each has the inputs that it gets in the changed model, and the
   inputs that it had in the reference.
2. Its weights are refit to what the reference computes, given the inputs that it has now.
3. A share of them is removed, and a codebook is chosen for the rest; what stays makes up for what went.
4. The bias takes what is left of the mean error.

For child processes only. Without samples the same is done with nothing known of the inputs: the smallest weights
go, the others take the nearest code.
"""

from collections.abc import Callable, Sequence

import numpy
from msgspec import Struct

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator
from mlia.graph.tflite import read_tflite
from mlia.transforms.calibration import SEED, Array
from mlia.transforms.codes import codebook
from mlia.transforms.codes.activations import Stream, has_state
from mlia.transforms.codes.codebook import Pattern
from mlia.transforms.codes.patches import DEPTHWISE, is_depthwise, rows_of, weights_matrix, weights_tensor
from mlia.transforms.constants import patched, real, scales, stored
from mlia.transforms.dequantize import bias_of, bias_quantization
from mlia.transforms.quantizers import plain_name

# Operators whose first input is what their weights are multiplied with.
FOLLOWED = ("CONV_2D", DEPTHWISE, "FULLY_CONNECTED")
MOST_SAMPLES = 256
MEMORY_BYTES = 1 << 30  # for what the samples hold between two operators
MOST_ROWS, ROWS_PER_COLUMN = 4096, 6  # of inputs at different positions, at most the larger of both
# So much of the mean diagonal is added to H, and the more the fewer rows there are for its columns: chosen on
# ResNet-8 and a DS-CNN by the error of samples that were held out.
DAMPING, DAMPING_OF_FEW_ROWS = 0.01, 0.5
# What fits noise too well is worse on data than what knows nothing: on ResNet-8 by 1.15 to 0.55 of relative error.
DAMPING_OF_NOISE = 1.0


class Aim(Struct, frozen=True):
    """What one operator's weights shall become: a share of zeros in a pattern, and at most so many codes."""

    operator: int
    prune: float = 0.0
    pattern: Pattern = "unstructured"
    clusters: int | None = None


class Compressed(Struct, frozen=True):
    """New codes of weights and biases, by the index of their tensor, and what could not be made up for, and why."""

    constants: dict[int, Array]
    uncompensated: dict[int, str]


class _Inputs(Struct, frozen=True):
    """What an operator's inputs look like: damped covariance H now, C = E[(x_reference - x) x^T], and both means.

    Weights W of the reference become W (I + C H^-1) for the inputs of now.
    """

    hessian: Array
    inverse: Array
    relation: Array
    mean: Array
    reference_mean: Array
    corrects_bias: bool


def input_channels(operator: Operator, shape: tuple[int, ...]) -> int:
    """How many input channels each output reads at one position of the kernel, by the shape of the weights."""
    return 1 if is_depthwise(operator) else shape[-1]


def compress(
    reference: bytes,
    quantized: bytes,
    samples: Sequence[Array],
    aims: Sequence[Aim],
    is_noise: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Compressed:
    """Prune and cluster the weights of some operators.

    Args:
        reference: the model to stay close to, as TFLite: the float original, or the integer model itself.
        quantized: the integer model; operators are the reference's where the names of their outputs agree.
        samples: an array per input of the model, (samples, *shape) in real numbers; none to make up for nothing.
        aims: what to do with which operators; others' biases and weights stay.
        is_noise: the samples are not data, so little is concluded from them: nothing about means, and not much else.

    Raises:
        TransformError: LiteRT cannot run a model, or weights are not finite.
    """
    graph, original = read_tflite(quantized), read_tflite(reference)
    counterparts = {original.main.operator_name(operator): operator for operator in original.operators}
    uncompensated: dict[int, str] = {}
    streams = None
    if samples and not has_state(graph):
        largest = max(4 * tensor.elements for tensor in graph.main.tensors)
        most = max(1, min(MOST_SAMPLES, MEMORY_BYTES // max(1, largest)))
        few = [stack[:: -(-len(stack) // most)].astype(numpy.float32) for stack in samples]
        streams = Stream(original, few), Stream(graph, few)
    constants: dict[int, Array] = {}
    for aim in sorted(aims, key=lambda aim: aim.operator):
        operator = graph.operators[aim.operator]
        full_name = graph.main.operator_name(operator)
        name = plain_name(full_name)
        progress(f"compressing {name}")
        # An integer model that is its own reference has the names that its quantizer gave.
        counterpart = counterparts.get(full_name) or counterparts.get(name)
        inputs = None
        if samples and streams is None:
            uncompensated[aim.operator] = "the model keeps state between runs"
        elif samples and (counterpart is None or counterpart.kind != operator.kind):
            uncompensated[aim.operator] = "the reference has no operator of its name"
        elif samples and (operator.kind not in FOLLOWED or graph.main.tensors[operator.inputs[0]].is_constant):
            uncompensated[aim.operator] = f"what a {operator.kind} of its kind multiplies is not understood"
        elif streams and counterpart is not None:
            values = streams[0].input_of(original, counterpart), streams[1].input_of(graph, operator)
            inputs = _inputs(graph, operator, original, counterpart, *values, is_noise)
            if inputs is None:
                uncompensated[aim.operator] = f"what a {operator.kind} of its kind multiplies is not understood"
        weights_graph, weights_operator = (original, counterpart) if inputs and counterpart else (graph, operator)
        new = _compress_operator(graph, operator, weights_graph, weights_operator, aim, inputs)
        constants |= new
        graph = patched(graph, new)
    return Compressed(constants, uncompensated)


def _inputs(
    graph: Graph, operator: Operator, original: Graph, counterpart: Operator, reference: Array, now: Array, noise: bool
) -> _Inputs | None:
    """The statistics of both inputs over the same positions; None where the operator's geometry is not known."""
    columns = weights_matrix(operator, stored(graph.main.tensors[operator.inputs[1]])).shape[1]
    most = max(MOST_ROWS, ROWS_PER_COLUMN * columns)
    before = rows_of(original.main, counterpart, reference, most, numpy.random.default_rng(SEED))
    after = rows_of(graph.main, operator, now, most, numpy.random.default_rng(SEED))
    if before is None or after is None or before.shape != after.shape:
        return None
    count = after.shape[-2]
    mean, reference_mean = after.mean(axis=-2), before.mean(axis=-2)
    corrects_bias = bias_of(operator) is not None and not noise
    if corrects_bias:  # the mean is then the bias's matter
        before, after = before - reference_mean[..., None, :], after - mean[..., None, :]
    transposed = numpy.swapaxes(after, -1, -2)
    damping = DAMPING_OF_NOISE if noise else DAMPING + DAMPING_OF_FEW_ROWS * columns / count
    hessian = codebook.damped(transposed @ after / count, damping)
    relation = numpy.swapaxes(before - after, -1, -2) @ after / count
    if noise:
        relation = numpy.zeros_like(relation)
    return _Inputs(hessian, numpy.linalg.inv(hessian), relation, mean, reference_mean, corrects_bias)


def _compress_operator(
    graph: Graph, operator: Operator, original: Graph, counterpart: Operator, aim: Aim, inputs: _Inputs | None
) -> dict[int, Array]:
    index, bias = operator.inputs[1], bias_of(operator)
    tensor = graph.main.tensors[index]
    assert tensor.quantization is not None
    reference = weights_matrix(operator, real(original.main.tensors[counterpart.inputs[1]]))
    scale = weights_matrix(operator, numpy.broadcast_to(scales(tensor.quantization, tensor), tensor.shape))[:, 0]
    reference = reference / scale[:, None]
    unknown = numpy.eye(reference.shape[1], dtype=numpy.float32)
    hessian, inverse = (inputs.hessian, inputs.inverse) if inputs else (unknown, unknown)
    wanted = reference + _made_up(reference, inputs) if inputs else reference
    wanted = wanted.astype(numpy.float32)
    if not numpy.isfinite(wanted).all():
        raise TransformError(
            f"the weights of '{graph.main.operator_name(operator)}' or their scales are no finite numbers"
        )
    importance = scale.astype(numpy.float64) ** 2
    remaining, kept = wanted, numpy.ones(wanted.shape, bool)
    if aim.prune:
        channels = input_channels(operator, tensor.shape)
        remaining, kept = codebook.pruned(wanted, hessian, inverse, importance, aim.prune, aim.pattern, channels)
    book = codebook.all_codes()
    if aim.clusters is not None:
        diagonal = numpy.diagonal(hessian, axis1=-2, axis2=-1)
        each = numpy.broadcast_to(importance[:, None] * diagonal, wanted.shape)[kept]
        book = codebook.best_codebook(remaining[kept], each, aim.clusters, with_zero=not kept.all())
    codes = codebook.snapped(wanted, hessian, kept, remaining, book)
    constants = {index: weights_tensor(operator, codes, tensor.shape).astype(numpy.int8)}
    if inputs is not None and bias is not None and inputs.corrects_bias:
        constants[bias] = _corrected_bias(graph, operator, bias, original, counterpart, inputs, reference, codes, scale)
    return constants


def _made_up(reference: Array, inputs: _Inputs) -> Array:
    """What to add to the reference's weights for the inputs of now: W C H^-1."""
    return codebook.times(codebook.times(reference, inputs.relation), inputs.inverse)


def _corrected_bias(
    graph: Graph,
    operator: Operator,
    bias: int,
    original: Graph,
    counterpart: Operator,
    inputs: _Inputs,
    reference: Array,
    codes: Array,
    scale: Array,
) -> Array:
    """The bias for which the mean output is the reference's."""
    tensor = graph.main.tensors[bias]
    theirs = bias_of(counterpart)
    values = real(original.main.tensors[theirs]).astype(numpy.float64) if theirs is not None else 0.0
    shift = (reference * inputs.reference_mean).sum(axis=1) - (codes * inputs.mean).sum(axis=1)
    quantization = tensor.quantization or bias_quantization(operator, graph.main)
    assert quantization is not None, (
        "weights that are compressed are quantized, and so is what they are multiplied with"
    )
    unit = numpy.array(quantization.scale, numpy.float64)
    limits = numpy.iinfo(tensor.dtype)
    return numpy.clip(numpy.round((values + scale * shift) / unit), limits.min, limits.max).astype(tensor.dtype)

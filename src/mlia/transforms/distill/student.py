"""An integer graph whose weights and biases can be trained: what finetune.py works on. Imports JAX.

Real numbers stand for the codes while they are trained. Where the model rounds, the forward direction rounds as
well, and the gradient passes as if it did not (the straight-through estimator, Bengio et al. 2013,
arXiv:1308.3432; for integer inference, Jacob et al. 2018, arXiv:1712.05877).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy
from jax import numpy as jnp

from mlia.graph.graph import Operator, Subgraph
from mlia.graph.tflite import ELEMENT_BITS
from mlia.transforms.calibration import Array
from mlia.transforms.constants import scales, stored
from mlia.transforms.dequantize import WEIGHTED, bias_of
from mlia.transforms.distill.jax_graph import compute, constants_of, softmax_beta

LARGEST_CODE = 127  # TFLite's weights are symmetric; -128 is kept out unless a tensor has it already
# What the insides of the model count for beside its outputs. Measured with 240 samples on ResNet-8 and DS-CNN, pruned
# and clustered: 10 ends closer to the teacher than 3 (0.50 and 0.39 against 0.56 and 0.42); 30 is no better.
FEATURE_WEIGHT = 10.0
# What is trained: arrays by kind ("weights", "centroids", "biases") and tensor index.
Parameters: TypeAlias = dict[str, dict[int, Array]]
Targets: TypeAlias = Mapping[int, Array]  # what the teacher computed, by the student's tensor index


class State(NamedTuple):
    """What a step of training starts from: Adam's running means of gradients and of their squares go along."""

    parameters: Parameters
    mean: Parameters
    square: Parameters


class Student:
    """An integer graph as a function of the codes of its weights and of its biases.

    Weights and centroids are trained in units of codes and biases in 256ths of the range of their operator's
    output, so that one learning rate suits all. `start` has what the graph has.
    """

    def __init__(self, subgraph: Subgraph, clustered: Collection[int]) -> None:
        self._subgraph = subgraph
        self._constants = constants_of(subgraph)
        self._clustered = clustered
        self._bias_units: dict[int, tuple[Array, float]] = {}  # what 1 stands for in the file, and in training
        self.start: Parameters = {"weights": {}, "centroids": {}, "biases": {}}
        self.operators = [operator for operator in subgraph.operators if _is_tunable(operator, subgraph)]
        for operator in self.operators:
            index = operator.inputs[1]
            codes = stored(subgraph.tensors[index])
            self.start["weights"][index] = codes.astype(numpy.float32)
            if index in clustered:
                self.start["centroids"][index] = numpy.unique(codes).astype(numpy.float32)
            self._add_bias(operator)
        self._compiled_codes = jax.jit(self._codes)

    def _add_bias(self, operator: Operator) -> None:
        index, tensors = bias_of(operator), self._subgraph.tensors
        if index is None or not tensors[index].is_constant or tensors[index].dtype not in ("int32", "int64"):
            return
        source, weights = (tensors[each].quantization for each in operator.inputs[:2])
        output = tensors[operator.outputs[0]]
        assert source is not None
        assert weights is not None
        # TFLite's quantization specification: bias scale = input scale * weights scale.
        scale = numpy.array(weights.scale, numpy.float64) * source.scale[0]
        unit = float(scale.mean()) * LARGEST_CODE
        if output.quantization is not None:
            unit = output.quantization.scale[0] * (1 << (ELEMENT_BITS[output.dtype] - 8))
        self._bias_units[index] = (scale, unit)
        self.start["biases"][index] = (stored(tensors[index]) * scale / unit).astype(numpy.float32)

    def contents(self, parameters: Parameters) -> dict[int, Array]:
        """What the file stores: weights and biases by tensor index, in the types that they have there."""
        codes = self._compiled_codes(parameters)
        found = {index: numpy.round(numpy.asarray(each)).astype(numpy.int8) for index, each in codes.items()}
        for index, (scale, unit) in self._bias_units.items():
            limits = numpy.iinfo(self._subgraph.tensors[index].dtype)
            values = numpy.round(numpy.asarray(parameters["biases"][index], numpy.float64) * unit / scale)
            found[index] = numpy.clip(values, limits.min, limits.max).astype(limits.dtype)
        return found

    def run(self, parameters: Parameters, sample: Sequence[Array]) -> dict[int, Array]:
        """All tensors for one sample, in real numbers that their codes can express."""
        constants = dict(self._constants)
        for index, codes in self._codes(parameters).items():
            tensor = self._subgraph.tensors[index]
            assert tensor.quantization is not None
            constants[index] = codes * scales(tensor.quantization, tensor)
        for index, (_, unit) in self._bias_units.items():
            constants[index] = parameters["biases"][index] * unit
        return compute(self._subgraph, constants, sample, self._stored_as)

    def logits(self) -> dict[int, tuple[int, float]]:
        """For each output that a SOFTMAX computes: the tensor that it reads, and its beta."""
        return {
            operator.outputs[0]: (operator.inputs[0], softmax_beta(operator))
            for operator in self._subgraph.operators
            if operator.kind == "SOFTMAX" and operator.outputs[0] in self._subgraph.outputs
        }

    def _codes(self, parameters: Parameters) -> dict[int, Array]:
        return {index: self._codes_of(index, parameters) for index in parameters["weights"]}

    def _codes_of(self, index: int, parameters: Parameters) -> Array:
        """The codes of one tensor: whole numbers, with gradients as if they were not.

        Clustered weights are those of the nearest centroid. A centroid gets the gradients of all its weights, and
        each weight its own, so that it can move on to another centroid.
        """
        smallest = min(-LARGEST_CODE, float(self.start["weights"][index].min()))
        weights = jnp.clip(parameters["weights"][index], smallest, LARGEST_CODE)
        if index not in self._clustered:
            return _rounded(weights)
        centroids = jnp.clip(parameters["centroids"][index], smallest, LARGEST_CODE)
        # Zero stays zero: it is what pruned weights have.
        centroids = jnp.where(self.start["centroids"][index] == 0, 0.0, centroids)
        centroids = jnp.sort(_rounded(centroids))
        between = jax.lax.stop_gradient(centroids[1:] + centroids[:-1]) / 2
        nearest = (weights[..., None] > between).sum(axis=-1)
        return centroids[nearest] + (weights - jax.lax.stop_gradient(weights))

    def _stored_as(self, index: int, values: Array) -> Array:
        tensor = self._subgraph.tensors[index]
        if tensor.quantization is None or not tensor.dtype.startswith(("int", "uint")):
            return values
        scale, zero_point = tensor.quantization.scale[0], (tensor.quantization.zero_point or (0,))[0]
        limits = numpy.iinfo(tensor.dtype)
        codes = values / scale
        lowest, highest = limits.min - zero_point, limits.max - zero_point
        kept = jax.lax.stop_gradient(jnp.clip(jnp.round(codes), lowest, highest))
        inside = (codes >= lowest) & (codes <= highest)
        return jnp.where(inside, codes + (kept - jax.lax.stop_gradient(codes)), kept) * scale


class Training:
    """Steps of distillation from what a teacher computed. Compiled at the first step.

    Args:
        student: what is trained.
        masked: the weights whose zeros stay zero.
        samples: an array per input, stacked.
        targets: the teacher's outputs, and what it computed inside, stacked, by the student's tensor index.
        outputs: the student's outputs; all other targets are features.
    """

    def __init__(
        self,
        student: Student,
        masked: Collection[int],
        samples: Sequence[Array],
        targets: Targets,
        outputs: Sequence[int],
    ) -> None:
        self._student = student
        self._masked = masked
        self._outputs = outputs
        self._features = [index for index in targets if index not in outputs]
        self._logits = student.logits()
        self._sizes = {index: float(numpy.square(stack).mean()) or 1.0 for index, stack in targets.items()}
        self._stacks = jax.tree.map(jnp.asarray, (tuple(samples), dict(targets)))
        parameters = jax.tree.map(jnp.asarray, student.start)
        nothing = jax.tree.map(jnp.zeros_like, parameters)
        self.state = State(parameters, nothing, nothing)
        self._compiled = jax.jit(self._stepped)

    def step(self, number: int, rate: float, chosen: Array) -> None:
        """One step, counted from 1, on a batch: the chosen samples, by position."""
        self.state = self._compiled(self.state, self._stacks, chosen, rate, float(number))

    def contents(self) -> dict[int, Array]:
        """What the student's file would store now."""
        return self._student.contents(self.state.parameters)

    def _stepped(self, state: State, stacks: Any, chosen: Array, rate: Any, number: Any) -> State:
        samples, targets = jax.tree.map(lambda stack: stack[chosen], stacks)

        def loss(parameters: Parameters) -> Array:
            losses = jax.vmap(lambda sample, target: self._loss(parameters, sample, target))(samples, targets)
            return losses.mean()

        gradients = jax.grad(loss)(state.parameters)
        for index in self._masked:
            # Weights that are exactly zero are the pruned ones: others are real numbers and pass zero by.
            gradients["weights"][index] *= state.parameters["weights"][index] != 0
        return _adam(state, gradients, rate, number)

    def _loss(self, parameters: Parameters, sample: Sequence[Array], target: Targets) -> Array:
        """For one sample: of each output, and as much as FEATURE_WEIGHT says, of what is computed inside.

        Classes: cross entropy, which differs from the Kullback-Leibler divergence by a constant. All else: the
        squared error in relation to the mean square of the target.
        """
        values = self._student.run(parameters, sample)

        def relative(index: int) -> Array:
            return jnp.square(values[index] - target[index]).mean() / self._sizes[index]

        def entropy(index: int) -> Array:
            source, beta = self._logits[index]
            return -(target[index] * jax.nn.log_softmax(values[source] * beta)).sum(axis=-1).mean()

        outputs = sum(entropy(index) if index in self._logits else relative(index) for index in self._outputs)
        features = sum(relative(index) for index in self._features) / max(1, len(self._features))
        return jnp.asarray(outputs + FEATURE_WEIGHT * features)


def _adam(state: State, gradients: Parameters, rate: Any, number: Any) -> State:
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1); `number` counts from 1."""
    decay, square_decay, epsilon = 0.9, 0.99, 1e-8
    mean = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.mean, gradients)
    square = jax.tree.map(lambda old, new: square_decay * old + (1 - square_decay) * new**2, state.square, gradients)

    def moved(value: Array, first: Array, second: Array) -> Array:
        unbiased, deviation = first / (1 - decay**number), jnp.sqrt(second / (1 - square_decay**number))
        return value - rate * unbiased / (deviation + epsilon)

    return State(jax.tree.map(moved, state.parameters, mean, square), mean, square)


def _rounded(values: Array) -> Array:
    return values + jax.lax.stop_gradient(jnp.round(values) - values)


def _is_tunable(operator: Operator, subgraph: Subgraph) -> bool:
    """Whether it has constant int8 weights, symmetric as TFLite's specification wants them, and integer inputs."""
    if operator.kind not in WEIGHTED:
        return False
    source, weights = (subgraph.tensors[index] for index in operator.inputs[:2])
    if source.quantization is None or weights.quantization is None or not weights.is_constant:
        return False
    return weights.dtype == "int8" and not any(weights.quantization.zero_point)

"""Fine-tuning without labels: an integer model learns to compute what the float model does, on calibration data.

Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531) with the original as the teacher, on the TFLite graph
itself, so that the format that the model came from does not matter. student.py has what is trained. For child
processes: LiteRT runs the teacher, and judges the student.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mlia.errors import TransformError
from mlia.graph.graph import Subgraph
from mlia.graph.tflite import read_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.constants import stored, with_constants

if TYPE_CHECKING:
    from mlia.transforms.distill.student import Student, Training

BATCH = 32
RATE = 0.6  # of Adam, in codes per step at the start; it falls along half a cosine. 0.3 and 1 were measured to be worse
HELD_OUT_SHARE = 0.2
MOST_HELD_OUT = 100
REPORTS = 20  # how often progress is told, and the student compared with the teacher on the held-out samples
# The share of steps before that: while the rate is high, the state that is best on few samples is so by luck.
FIRST_JUDGED = 0.5
MOST_BYTES = 1 << 30  # of what the teacher computed


class Restriction(Struct, frozen=True):
    """What must stay true of one weights tensor.

    mask: codes that are zero stay zero. clusters: at most that many different codes. pattern: "2:4" where the
    zeros form one, which the mask implies; for the record only.
    """

    mask: bool
    clusters: int | None
    pattern: str = ""


class Finetuned(Struct, frozen=True):
    """What to store instead, and what that is good for.

    constants: weights and biases by tensor index of the integer model's main subgraph, in their own types.
    step: whose state that is; 0 when no step came closer, and nothing is to be stored differently.
    before, after: the distance of outputs to the float model's on held-out samples, as
    TensorFidelity.relative_error has it, the mean over outputs.
    """

    constants: dict[int, Array]
    step: int
    before: float
    after: float


def finetune(
    floating: bytes,
    quantized: bytes,
    samples: Sequence[Array],
    restrictions: Mapping[int, Restriction],
    steps: int,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Finetuned:
    """Train the weights and biases of an integer model to compute what another model does.

    A fifth of the samples is held out. LiteRT runs the integer model on them, at the start and a few times in the
    second half of the steps, and the state that was closest to the teacher is returned: never one that is further
    away than the model that was given.

    Args:
        floating: the teacher, a TFLite file; of any kind that LiteRT runs.
        quantized: the student, an integer TFLite file with the same inputs and outputs. Its scales stay.
        samples: an array per input, (samples, *shape of the input), in real numbers.
        restrictions: by tensor index; weights without one may get any code.
        steps: how many batches of 32 samples to learn from.
        seed: of the order of the samples. The same seed and arguments give the same result.
        progress: told how far it is, a few times.

    Raises:
        TransformError: JAX is not installed, the student has an operator that is not known here, LiteRT does not
            run one of the models, they do not belong together, or there are not two samples.
        ValueError: a restriction is not true of the student to begin with.
    """
    import numpy

    from mlia.transforms import interpreter

    graph = read_tflite(quantized)
    _require_true(restrictions, graph.main)
    if len(samples[0]) < 2:
        raise TransformError("fine-tuning needs at least 2 samples")
    student = _student(graph.main, restrictions)
    names = {graph.main.operator_name(operator): operator.outputs[0] for operator in student.operators}
    random = numpy.random.default_rng(seed)
    training, held_out = _split(samples, _affordable(graph.main, [*names.values()]), random, progress)
    expected = interpreter.outputs(floating, held_out)
    targets = _targets(floating, training, graph.main, names)
    lesson = _lesson(student, restrictions, training, targets, graph.main.outputs)

    best = {index: stored(graph.main.tensors[index]) for index in student.contents(student.start)}
    start = Finetuned(best, 0, distance := _distance(quantized, held_out, expected), distance)
    batches = _batches(len(training[0]), steps, random)

    def judge(contents: Mapping[int, Array]) -> float:
        return _distance(bytes(with_constants(graph, contents).content), held_out, expected)

    return _trained(lesson, batches, steps, start, judge, progress)


def _trained(
    lesson: "Training",
    batches: Iterator[Array],
    steps: int,
    start: Finetuned,
    judge: Callable[[Mapping[int, Array]], float],
    progress: Callable[[str], None],
) -> Finetuned:
    """The best of the start and what comes of it every few steps."""
    best = start
    for step, chosen in enumerate(batches, start=1):
        lesson.step(step, RATE * (1 + math.cos(math.pi * (step - 1) / steps)) / 2, chosen)
        if step % max(1, steps // REPORTS) and step != steps:
            continue
        if step < steps * FIRST_JUDGED:
            progress(f"step {step} of {steps}")
        else:
            contents = lesson.contents()
            distance = judge(contents)
            progress(f"step {step} of {steps}: distance {distance:.3f}, from {start.before:.3f}")
            if distance < best.after:
                best = Finetuned(contents, step, start.before, distance)
    return best


def _require_true(restrictions: Mapping[int, Restriction], subgraph: Subgraph) -> None:
    import numpy

    for index, restriction in restrictions.items():
        tensor = subgraph.tensors[index]
        codes = len(numpy.unique(stored(tensor)))
        if restriction.clusters is not None and codes > restriction.clusters:
            raise ValueError(f"'{tensor.name}' has {codes} codes, and is restricted to {restriction.clusters}")


def _student(subgraph: Subgraph, restrictions: Mapping[int, Restriction]) -> "Student":
    try:
        from mlia.transforms.distill.jax_graph import require_known
        from mlia.transforms.distill.student import Student
    except ModuleNotFoundError as error:
        if error.name not in ("jax", "jaxlib"):
            raise
        raise TransformError("fine-tuning needs JAX: pip install 'jax>=0.5'") from None
    require_known(subgraph)
    return Student(subgraph, {index for index, each in restrictions.items() if each.clusters is not None})


def _lesson(
    student: "Student",
    restrictions: Mapping[int, Restriction],
    samples: Sequence[Array],
    targets: Mapping[int, Array],
    outputs: Sequence[int],
) -> "Training":
    from mlia.transforms.distill.student import Training

    masked = [index for index in student.start["weights"] if index in restrictions and restrictions[index].mask]
    return Training(student, masked, samples, targets, outputs)


def _split(
    samples: Sequence[Array], most: int, random: Any, progress: Callable[[str], None]
) -> tuple[list[Array], list[Array]]:
    """Samples to learn from, at most so many, and to judge by."""
    count = len(samples[0])
    order = random.permutation(count)
    held_out = min(MOST_HELD_OUT, max(1, round(count * HELD_OUT_SHARE)))
    judging, training = order[: min(held_out, most)], order[held_out:]
    if len(training) > most:
        progress(f"learning from {most} of {len(training)} samples, for memory")
    return [stack[training[:most]] for stack in samples], [stack[judging] for stack in samples]


def _affordable(subgraph: Subgraph, observed: Sequence[int]) -> int:
    """How many samples the memory allows for what goes in, and for what the teacher computes of them."""
    kept = (*subgraph.inputs, *observed, *subgraph.outputs)
    return max(1, MOST_BYTES // max(1, sum(4 * subgraph.tensors[index].elements for index in kept)))


def _targets(teacher: bytes, samples: Sequence[Array], student: Subgraph, names: Mapping[str, int]) -> dict[int, Array]:
    """What the teacher computes, stacked, by the student's tensor index.

    Outputs belong together by their position, the rest by name, as far as shapes agree: a student without some of
    the channels is taught by the outputs alone there.
    """
    import numpy

    from mlia.transforms.interpreter import Model, samples_of
    from mlia.transforms.quantizers import plain_name

    model = Model(teacher)
    known = {plain_name(name): index for name, index in model.computed().items()}
    pairs = {index: known[plain_name(name)] for name, index in names.items() if plain_name(name) in known}
    found: dict[int, list[Array]] = {index: [] for index in (*pairs, *student.outputs)}
    for sample in samples_of(samples):
        model.run(sample)
        for index, theirs in pairs.items():
            if index not in student.outputs:
                found[index].append(model.real(theirs).astype(numpy.float32))
        for position, index in enumerate(student.outputs):
            found[index].append(model.output(position).astype(numpy.float32))
    return {
        index: numpy.stack(arrays)
        for index, arrays in found.items()
        if index in student.outputs or arrays[0].shape == student.tensors[index].shape
    }


def _distance(content: bytes, samples: Sequence[Array], expected: Sequence[Array]) -> float:
    """The relative error of what an integer model computes, the mean over its outputs."""
    from mlia.transforms import interpreter
    from mlia.transforms.fidelity import Difference

    errors = []
    try:
        for theirs, ours in zip(expected, interpreter.outputs(content, samples), strict=True):
            difference = Difference()
            difference.add(theirs, ours)
            errors.append(difference.figures("").relative_error)
    except ValueError:
        raise TransformError("fine-tuning needs two models with the same outputs") from None
    return sum(errors) / len(errors)


def _batches(count: int, steps: int, random: Any) -> Iterator[Array]:
    """Positions of samples for each step: every sample once before any comes again."""
    import numpy

    order = numpy.empty(0, int)
    size = min(BATCH, count)
    for _ in range(steps):
        if len(order) < size:
            order = numpy.concatenate([order, random.permutation(count)])
        chosen, order = order[:size], order[size:]
        yield chosen

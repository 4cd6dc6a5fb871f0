"""The simulator beside LiteRT's reference kernels: the same samples through both, tensor by tensor.

For child processes only: LiteRT can abort on some models.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy
from msgspec import Struct

from mlia.backends.simulator import Session
from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.simulator.feature_maps import read_elements
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import ReferenceModel, first_line


class Link(Struct, frozen=True):
    """Which operator of the main subgraph has the output of the operation at an offset of a stream, or a part of it."""

    stream: int
    offset: int
    operator: int


class Difference(Struct, frozen=True):
    """How far the output of an operator (or of the model) is from the reference, over all samples.

    `is_placed` is False where the parts in which it was computed could not be put together.
    """

    elements: int = 0
    different_elements: int = 0
    largest_codes: int = 0
    is_placed: bool = True

    def and_then(self, other: "Difference") -> "Difference":
        """Both together."""
        return Difference(
            self.elements + other.elements,
            self.different_elements + other.different_elements,
            max(self.largest_codes, other.largest_codes),
            self.is_placed and other.is_placed,
        )


class Compared(Struct, frozen=True):
    """Differences of the model's outputs, in their order, and of operators' outputs by the operators' indexes."""

    outputs: tuple[Difference, ...]
    operators: dict[int, Difference]


def compare(reference: bytes, compiled: bytes, links: Sequence[Link], samples: Sequence[Sequence[Array]]) -> Compared:
    """Run a model in LiteRT and what was compiled from it in the simulator, one sample after the other.

    Args:
        reference: the TFLite file that was compiled.
        compiled: what the compiler made of it.
        links: which operations make which tensors.
        samples: for each an array per input, in codes.

    Raises:
        SimulatorError: the compiled model has what is not known.
        TransformError: LiteRT cannot run the model.
    """
    try:
        theirs = ReferenceModel(reference, keeps_all=True)
    except (RuntimeError, ValueError) as error:
        raise TransformError(f"LiteRT cannot run the model: {first_line(error)}") from None
    main = read_tflite(reference).main
    made: dict[int, list[Array]] = defaultdict(list)
    owners = {(link.stream, link.offset): link.operator for link in links}

    def watch(stream: int, operation: Compute, memory: Memory) -> None:
        owner = owners.get((stream, operation.offset))
        if owner is not None and operation.ofm.storage == "memory":
            made[owner].append(read_elements(memory, operation.ofm))

    ours = Session(compiled, watch)
    outputs = [Difference()] * len(main.outputs)
    operators: dict[int, Difference] = {}
    for sample in samples:
        made.clear()
        found = ours.run(sample)
        try:
            expected = theirs.run(sample)
        except (RuntimeError, ValueError) as error:
            raise TransformError(f"LiteRT cannot run the model: {first_line(error)}") from None
        outputs = [before.and_then(_difference(a, b)) for before, a, b in zip(outputs, expected, found, strict=True)]
        for index, parts in made.items():
            tensor = theirs.tensor(main.operators[index].outputs[0])
            operators[index] = operators.get(index, Difference()).and_then(_of_parts(tensor, parts))
    return Compared(tuple(outputs), operators)


def outputs_of(compiled: bytes, samples: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """What a compiled model computes for each sample, an array per output, in codes.

    Raises:
        SimulatorError: the compiled model has what is not known.
    """
    session = Session(compiled)
    return [session.run(sample) for sample in samples]


def _difference(expected: Array, found: Array) -> Difference:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return Difference(int(expected.size), int(expected.size), 0, False)
    if expected.dtype.kind == "f":
        different = int((expected != found).sum())
        return Difference(int(expected.size), different, int(different > 0))
    apart = numpy.abs(expected.astype(numpy.int64) - found.astype(numpy.int64))
    return Difference(int(apart.size), int((apart > 0).sum()), int(apart.max(initial=0)))


def _of_parts(tensor: Array, parts: Sequence[Array]) -> Difference:
    """The difference of a tensor that was computed in parts: stripes of rows, slices of channels, or both.

    How they lie is tried: the arrangement that is equal is the right one, and without one the first that fits.
    """
    best: Difference | None = None
    for whole in _arrangements(parts, tensor.size):
        found = _difference(tensor.reshape(-1), whole.reshape(-1).astype(tensor.dtype))
        if best is None or found.different_elements < best.different_elements:
            best = found
        if not found.different_elements:
            break
    return best if best is not None else Difference(int(tensor.size), 0, 0, False)


def _arrangements(parts: Sequence[Array], elements: int) -> Iterable[Array]:
    """The ways in which parts (height, width, channels) can make a whole of so many elements."""
    if sum(part.size for part in parts) != elements:
        if parts and parts[-1].size == elements:  # computed in place, step by step
            yield parts[-1]
        return
    if len(parts) == 1:
        yield parts[0]
        return
    for axis in (2, 0, 1):
        shapes = {tuple(size for each, size in enumerate(part.shape) if each != axis) for part in parts}
        if len(shapes) == 1:
            yield numpy.concatenate(parts, axis)
    # Stripes of rows, each in slices of channels; or slices of channels, each in stripes.
    for count in range(2, len(parts)):
        if len(parts) % count:
            continue
        groups = [parts[at : at + count] for at in range(0, len(parts), count)]
        for inner, outer in ((2, 0), (0, 2)):
            try:
                yield numpy.concatenate([numpy.concatenate(group, inner) for group in groups], outer)
            except ValueError:
                continue

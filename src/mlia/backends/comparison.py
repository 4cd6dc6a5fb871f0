"""The simulator beside LiteRT's reference kernels: the same samples through both, tensor by tensor.

For child processes only: LiteRT can abort on some models.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from math import prod

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.simulator import Session
from mlia.errors import SimulatorError, TransformError
from mlia.graph.graph import Subgraph
from mlia.graph.tflite import read_tflite
from mlia.simulator.feature_maps import read_elements
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, FeatureMap
from mlia.transforms.calibration import Array
from mlia.transforms.interpreter import ReferenceModel, first_line

MISPLACED = 0.25  # of the elements: when so many differ, the parts were not put together as they lie


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

    Resource variables keep what they hold from sample to sample, other variables (of an LSTM, say) begin anew.

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
    parts = _Parts(main, links)

    ours = Session(compiled, parts.watch)
    outputs = [Difference()] * len(main.outputs)
    operators: dict[int, Difference] = {}
    # What an LSTM remembers would add a known difference of one step to those of the next.
    forgets = any(tensor.is_variable for tensor in main.tensors)
    for sample in samples:
        if forgets:
            theirs.reset()
            ours.reset()
        parts.clear()
        found = ours.run(sample)
        try:
            expected = theirs.run(sample)
        except (RuntimeError, ValueError) as error:
            raise TransformError(f"LiteRT cannot run the model: {first_line(error)}") from None
        outputs = [before.and_then(_difference(a, b)) for before, a, b in zip(outputs, expected, found, strict=True)]
        for index, candidates in parts.candidates():
            tensor = theirs.tensor(main.operators[index].outputs[0])
            operators[index] = operators.get(index, Difference()).and_then(_nearest(tensor, candidates))
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


class _Parts:
    """What operations wrote, by the operator of the model that it is an output of, or a part of one."""

    def __init__(self, main: Subgraph, links: Sequence[Link]) -> None:
        self._shapes = {
            operator.index: main.tensors[operator.outputs[0]].shape for operator in main.operators if operator.outputs
        }
        self._owners = {(link.stream, link.offset): link.operator for link in links}
        self._written: dict[int, list[Array]] = defaultdict(list)
        self._maps: dict[int, list[FeatureMap]] = defaultdict(list)
        self._wholes: dict[int, list[Array]] = {}

    def clear(self) -> None:
        """Forget what was written."""
        self._written.clear()
        self._maps.clear()
        self._wholes.clear()

    def watch(self, stream: int, operation: Compute, memory: Memory) -> None:
        """Keep what an operation wrote, and what then stands where all parts so far began."""
        owner = self._owners.get((stream, operation.offset))
        if owner is None or operation.ofm.storage != "memory" or owner not in self._shapes:
            return
        self._written[owner].append(read_elements(memory, operation.ofm))
        self._maps[owner].append(operation.ofm)
        if len(self._maps[owner]) > 1:
            self._wholes[owner] = list(_dense(memory, self._maps[owner], self._shapes[owner]))

    def candidates(self) -> Iterator[tuple[int, Iterable[Array]]]:
        """For each operator the ways in which what was written can be its output."""
        for owner, parts in self._written.items():
            elements = prod(self._shapes[owner])
            yield owner, chain(self._wholes.get(owner, ()), _arrangements(parts, elements))


def _dense(memory: Memory, maps: Sequence[FeatureMap], shape: Sequence[int]) -> Iterator[Array]:
    """The whole tensor in memory, if its parts lie where they belong: rows of pixels, or bricks of 16 channels."""
    first = min(maps, key=lambda each: each.tiles.bases[0])
    height, width, depth = (1, 1, 1, *shape)[-3:]
    size = first.element_bytes
    brick = width * 16 * size
    strides = (
        (-(-depth // 16) * brick, 16 * size, brick) if first.is_brick else (width * depth * size, depth * size, size)
    )
    tiles = replace(first.tiles, width0=width, height0=height, height1=height)
    whole = replace(
        first, tiles=tiles, height=height, width=width, depth=depth,
        stride_y=strides[0], stride_x=strides[1], stride_c=strides[2],
    )  # fmt: skip
    with suppress(SimulatorError):  # a buffer that rolls holds only a part
        yield read_elements(memory, whole)


def _nearest(tensor: Array, candidates: Iterable[Array]) -> Difference:
    """The least difference of a tensor from what it may have become.

    One that differs in much of it is no difference, but a tensor that was put together wrongly.
    """
    best: Difference | None = None
    count = 0
    for whole in candidates:
        count += 1
        if whole.size != tensor.size:
            continue
        found = _difference(tensor.reshape(-1), whole.reshape(-1).astype(tensor.dtype))
        if best is None or found.different_elements < best.different_elements:
            best = found
        if not found.different_elements:
            return found
    if best is None or (count > 1 and best.different_elements > MISPLACED * tensor.size):
        return Difference(int(tensor.size), 0, 0, False)
    return best


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

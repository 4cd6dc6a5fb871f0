"""Operators that only move numbers, in those that an Ethos-U has: RESHAPE, TRANSPOSE, PAD, SLICE, CONCATENATION, TILE.

All of them move codes as they are, so that the outputs are bit-identical.
"""

from collections.abc import Sequence

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, OptionValue
from mlia.transforms.remedies.local import at_each, is_fixed
from mlia.transforms.remedies.shaping import reshape, reshaped
from mlia.transforms.rewrites.network import Edit, Network, operator, same_numbers

MOST_SLICES = 16  # each is a copy of its own, and a step of the NPU


class _Chain:
    """Operators one after the other in the place of one; the last writes what that wrote."""

    def __init__(self, network: Network, found: Operator, source: int) -> None:
        self.edit = Edit(network, found, f"{found.kind} in operators of the NPU")
        self._network, self._found = network, found
        self._like = network.tensor(source)
        self._at, self._made = source, [found][:0]
        self.shape = self._like.shape
        self.name = network.name(found)

    def reshape(self, shape: Sequence[int]) -> None:
        if tuple(shape) != self.shape:
            name, source = self._next(shape), self._at
            self._at = self.edit.tensor(reshaped(self._like, self.shape, name))
            self._made.append(reshape(self.edit, source, self._at, False, self.shape, name))

    def transpose(self, order: Sequence[int]) -> None:
        if tuple(order) != tuple(range(len(order))):
            self._add("TRANSPOSE", [self.shape[axis] for axis in order], numpy.array(order, numpy.int32))

    def pad(self, amounts: Sequence[Sequence[int]]) -> None:
        if numpy.any(amounts):
            shape = [size + sum(pair) for size, pair in zip(self.shape, amounts, strict=True)]
            self._add("PAD", shape, numpy.array(amounts, numpy.int32), table="PadOptions")

    def slice(self, begins: Sequence[int], sizes: Sequence[int]) -> None:
        if tuple(sizes) != self.shape:
            both = numpy.array(begins, numpy.int32), numpy.array(sizes, numpy.int32)
            self._add("SLICE", sizes, *both, table="SliceOptions")

    def tile(self, times: Sequence[int]) -> None:
        if set(times) != {1}:
            shape = [size * count for size, count in zip(self.shape, times, strict=True)]
            self._add("TILE", shape, numpy.array(times, numpy.int32), table="TileOptions")

    def finish(self) -> Edit | None:
        """The edit; None where nothing moves."""
        if not self._made:
            return self.edit if self.edit.pass_by(self._found, self._found.inputs[0]) else None
        self._made[-1] = replace(self._made[-1], outputs=self._found.outputs)
        self.edit.put(self._found, *self._made)
        return self.edit

    def _next(self, shape: Sequence[int]) -> str:
        self.shape = tuple(int(size) for size in shape)
        return f"{self.name}/{len(self._made)}"

    def _add(
        self, kind: str, shape: Sequence[int], *parameters: numpy.ndarray, table: str = "TransposeOptions"
    ) -> None:
        name, source = self._next(shape), self._at
        constants = [self.edit.constant(f"{name}/{position}", values) for position, values in enumerate(parameters)]
        self._at = self.edit.tensor(reshaped(self._like, self.shape, name))
        self._made.append(operator(kind, [source, *constants], self._at, table))


def space_moved_by_transposes(graph: Graph) -> Graph:
    """DEPTH_TO_SPACE, SPACE_TO_DEPTH, BATCH_TO_SPACE_ND and SPACE_TO_BATCH_ND as RESHAPE, TRANSPOSE and RESHAPE.

    Raises:
        TransformError: there is none with sizes that are known.
    """
    return at_each(graph, _moved, "no operator moves space to depth or to the batch with sizes that are known")


def _moved(network: Network, found: Operator) -> Edit | None:
    if found.kind not in _MOVES or len(found.outputs) != 1 or not is_fixed(network, found.inputs[0], *found.outputs):
        return None
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    if len(before.shape) != 4 or not same_numbers(before, after):
        return None
    chain = _Chain(network, found, found.inputs[0])
    if not _MOVES[found.kind](network, found, chain) or chain.shape != after.shape:
        return None
    return chain.finish()


def _depth_to_space(network: Network, found: Operator, chain: _Chain) -> bool:
    block, (batch, height, width, depth) = found.number("block_size"), chain.shape
    if block < 1 or depth % (block * block):
        return False
    channels = depth // (block * block)
    # In rows of the output: (column, row of the block, column of the block and channel).
    chain.reshape((batch * height, width, block, block * channels))
    chain.transpose((0, 2, 1, 3))
    chain.reshape((batch, height * block, width * block, channels))
    return True


def _space_to_depth(network: Network, found: Operator, chain: _Chain) -> bool:
    block, (batch, height, width, channels) = found.number("block_size"), chain.shape
    if block < 1 or height % block or width % block:
        return False
    chain.reshape((batch * height // block, block, width // block, block * channels))
    chain.transpose((0, 2, 1, 3))
    chain.reshape((batch, height // block, width // block, block * block * channels))
    return True


def _space_to_batch(network: Network, found: Operator, chain: _Chain) -> bool:
    blocks, pads = (network.constant(index) for index in found.inputs[1:3])
    if blocks is None or pads is None or blocks.shape != (2,) or pads.shape != (2, 2) or min(*blocks, pads.min()) < 0:
        return False
    rows, columns = (int(block) for block in blocks)
    chain.pad([(0, 0), *((int(front), int(back)) for front, back in pads), (0, 0)])
    batch, height, width, channels = chain.shape
    if not rows or not columns or height % rows or width % columns:
        return False
    chain.reshape((batch * height // rows, rows, width // columns, columns, channels))
    chain.transpose((1, 3, 0, 2, 4))
    chain.reshape((rows * columns * batch, height // rows, width // columns, channels))
    return True


def _batch_to_space(network: Network, found: Operator, chain: _Chain) -> bool:
    blocks, crops = (network.constant(index) for index in found.inputs[1:3])
    if (
        blocks is None
        or crops is None
        or blocks.shape != (2,)
        or crops.shape != (2, 2)
        or min(*blocks, crops.min()) < 0
    ):
        return False
    rows, columns = (int(block) for block in blocks)
    batch, height, width, channels = chain.shape
    if not rows or not columns or batch % (rows * columns):
        return False
    batch //= rows * columns
    chain.reshape((rows, columns, batch * height, width, channels))
    chain.transpose((2, 0, 3, 1, 4))
    chain.reshape((batch, height * rows, width * columns, channels))
    begins = [0, *(int(front) for front, _ in crops), 0]
    chain.slice(begins, network.tensor(found.outputs[0]).shape)
    return True


_MOVES = {
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "BATCH_TO_SPACE_ND": _batch_to_space,
}


def gathers_as_slices(graph: Graph) -> Graph:
    """GATHER with constant indexes as SLICEs, one for each run of indexes that follow each other, joined.

    Raises:
        TransformError: there is no GATHER with constant indexes, or there are too many runs.
    """
    return at_each(graph, _sliced, f"no GATHER has constant indexes in at most {MOST_SLICES} runs")


def runs(indexes: Sequence[int]) -> list[tuple[int, int]]:
    """The first index and the length of each run of indexes that go up by one."""
    found: list[tuple[int, int]] = []
    for index in indexes:
        if found and index == sum(found[-1]):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index, 1))
    return found


def _sliced(network: Network, found: Operator) -> Edit | None:
    if found.kind != "GATHER" or len(found.inputs) != 2 or found.number("batch_dims"):
        return None
    indexes = network.constant(found.inputs[1])
    if indexes is None or not is_fixed(network, found.inputs[0], *found.outputs):
        return None
    source, after, name = network.tensor(found.inputs[0]), network.tensor(found.outputs[0]), network.name(found)
    axis = found.number("axis") + (len(source.shape) if found.number("axis") < 0 else 0)
    parts = runs([int(index) for index in indexes.reshape(-1)])
    if source.is_constant or not same_numbers(source, after) or not 0 <= axis < len(source.shape):
        return None
    if len(parts) > MOST_SLICES or any(first < 0 or first + count > source.shape[axis] for first, count in parts):
        return None
    edit = Edit(network, found, f"the GATHER is {len(parts)} SLICEs now")
    made, pieces = [], []
    for number, (first, count) in enumerate(parts):
        shape = (*source.shape[:axis], count, *source.shape[axis + 1 :])
        begins = numpy.array([first if position == axis else 0 for position in range(len(shape))], numpy.int32)
        constants = (
            edit.constant(f"{name}/{number}/{what}", values)
            for what, values in (("begin", begins), ("size", numpy.array(shape, numpy.int32)))
        )
        pieces.append(edit.tensor(reshaped(source, shape, f"{name}/{number}")))
        made.append(operator("SLICE", [found.inputs[0], *constants], pieces[-1], "SliceOptions"))
    joined = (*source.shape[:axis], int(indexes.size), *source.shape[axis + 1 :])
    if len(pieces) > 1:
        options: dict[str, OptionValue] = {"axis": axis, "fused_activation_function": "NONE"}
        whole = edit.tensor(reshaped(source, joined, f"{name}/joined"))
        made.append(operator("CONCATENATION", pieces, whole, "ConcatenationOptions", options))
    if joined != after.shape:
        made.append(reshape(edit, made[-1].outputs[0], found.outputs[0], False, after.shape, name))
    made[-1] = replace(made[-1], outputs=found.outputs)
    edit.put(found, *made)
    return edit


def broadcasts_as_tiles(graph: Graph) -> Graph:
    """BROADCAST_TO as TILE, with a RESHAPE in front where it adds axes.

    Raises:
        TransformError: there is none with sizes that are known.
    """
    return at_each(graph, _tiled, "no BROADCAST_TO has sizes that are known")


def _tiled(network: Network, found: Operator) -> Edit | None:
    if found.kind != "BROADCAST_TO" or not is_fixed(network, found.inputs[0], *found.outputs):
        return None
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    added = len(after.shape) - len(before.shape)
    if added < 0 or before.is_constant or not same_numbers(before, after):
        return None
    chain = _Chain(network, found, found.inputs[0])
    chain.reshape(((1,) * added) + before.shape)
    if any(size not in (1, wide) for size, wide in zip(chain.shape, after.shape, strict=True)):
        return None
    chain.tile([wide // size for size, wide in zip(chain.shape, after.shape, strict=True)])
    return chain.finish()

"""How much an operation does: multiplications with weights, and bytes that it moves to and from each memory.

Bytes are the least that an operation has to move: each value of its inputs and output, each byte of its weights and
scales once. Hardware may fetch an input more than once, when it needs it for several blocks of the output, and skips
what a stride passes over; both depend on how it buffers, which is not modelled here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from msgspec import Struct

from mlia.errors import SimulatorError
from mlia.simulator.container import Config
from mlia.simulator.operation import Compute, FeatureMap, Operation, Transfer

LOOK_UP = -1
"""In place of a region: the NPU's own memory for tables."""


class Counts(Struct, frozen=True):
    """What is done: `macs`; bytes `read` and `written` per region; of these, `weights`, `scales` and `moved` (by DMA).

    `macs` are those of convolutions, padding and zero weights included. Vela counts them alike, and the taps of pools
    and elements of elementwise operations too.
    """

    macs: int = 0
    read: Mapping[int, int] = {}
    written: Mapping[int, int] = {}
    weights: int = 0
    scales: int = 0
    moved: int = 0


def counts(operation: Operation, config: Config) -> Counts:
    """What one operation does on the NPU that its stream is for; nothing for a wait or a stop."""
    if isinstance(operation, Transfer):
        return _transfer(operation)
    if not isinstance(operation, Compute):
        return Counts()
    if len(operation.weights) > 4 or operation.cores > config.cores:
        raise SimulatorError(f"the operation at byte {operation.offset:#x} does not fit an {config.name}")
    read: Counter[int] = Counter()
    for feature_map in (operation.ifm, operation.ifm2):
        if feature_map is not None and feature_map.storage == "memory":
            read[feature_map.region] += _bytes(feature_map)
    for piece in (*operation.weights, *operation.scales):
        read[piece.region] += piece.length
    ofm = operation.ofm
    return Counts(
        _macs(operation),
        {region: size for region, size in read.items() if size},
        {ofm.region: _bytes(ofm)} if ofm.storage == "memory" and operation.is_output_enabled else {},
        sum(piece.length for piece in operation.weights),
        sum(piece.length for piece in operation.scales),
    )


def total(parts: Iterable[Counts]) -> Counts:
    """The sum of several."""
    parts = list(parts)
    read: Counter[int] = Counter()
    written: Counter[int] = Counter()
    for part in parts:
        read.update(part.read)
        written.update(part.written)
    return Counts(
        sum(part.macs for part in parts),
        dict(sorted(read.items())),
        dict(sorted(written.items())),
        sum(part.weights for part in parts),
        sum(part.scales for part in parts),
        sum(part.moved for part in parts),
    )


def kind_of(operation: Operation) -> str:
    """A short name of what it does, such as "conv", "pool max", "dma"; nothing for a wait or a stop."""
    if isinstance(operation, Transfer):
        return "dma"
    if isinstance(operation, Compute):
        return "matmul" if operation.is_matmul else f"{operation.kind} {operation.mode}".strip()
    return ""


def _macs(operation: Compute) -> int:
    """Outputs times taps, times input channels where each output sees all of them."""
    if operation.kind not in ("conv", "depthwise"):
        return 0
    ofm = operation.ofm
    depth = operation.ifm.depth if operation.kind == "conv" else 1
    return ofm.height * ofm.width * ofm.depth * prod(operation.kernel.size) * depth


def _bytes(feature_map: FeatureMap) -> int:
    return feature_map.height * feature_map.width * feature_map.depth * feature_map.element_bytes


def _transfer(transfer: Transfer) -> Counts:
    size = transfer.length * transfer.rows * transfer.planes
    read = Counter({transfer.source_region: size})
    if transfer.indexes is not None:
        read[transfer.indexes.region] += transfer.indexes.length
    destination = LOOK_UP if transfer.to_table else transfer.destination_region
    return Counts(0, dict(read), {destination: size}, moved=size)

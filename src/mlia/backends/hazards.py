"""What may go wrong with the memory of the command streams in a compiled TFLite file."""

from typing import TYPE_CHECKING

from mlia.backends.simulator import (
    ARENA,
    CONSTANTS,
    FAST,
    FAST_SCRATCH,
    READ_ONLY,
    SCRATCH,
    addresses_of,
    shares_arena,
    size_bytes,
    streams_of,
)
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.graph.tflite import read_tflite
from mlia.simulator.hazards import Hazard, find_hazards
from mlia.simulator.operation import Range

if TYPE_CHECKING:
    from collections.abc import Iterator


def hazards_of(compiled: Graph) -> list[tuple[int, Hazard]]:
    """The hazards of all streams of a compiled model, with the numbers of their streams; nothing if all are safe.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found: list[tuple[int, Hazard]] = []
    addresses = addresses_of(compiled)
    for (index, position), stream in streams_of(compiled).items():
        subgraph = next(each for each in compiled.subgraphs if each.index == index)
        operator = subgraph.operators[position]
        places = dict(_places(subgraph, operator, addresses[index]))
        regions, initial, aliases = memory_of(subgraph, operator, addresses[index])
        outputs = [places[output] for output in operator.outputs if output in places]
        hazards = find_hazards(stream.operations, stream.program.config, regions, initial, aliases, outputs)
        found += [(stream.number, hazard) for hazard in hazards]
    return found


def told_hazards(content: bytes) -> list[tuple[int, int, str, str]]:
    """The hazards of a compiled file: the number of the stream, the offset in it, the kind, and what it is in words.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found = hazards_of(read_tflite(content))
    return [(number, hazard.offset, str(hazard.kind), str(hazard)) for number, hazard in found]


def memory_of(
    subgraph: Subgraph, operator: Operator, addresses: list[int | None]
) -> tuple[dict[int, int], list[Range], dict[int, int]]:
    """The sizes of the regions of an ethos-u operator, the bytes that are valid before it runs, and shared regions.

    `addresses` are those of the subgraph's tensors in the arena. The arena is as large as the operator's scratch, and
    as every tensor in it reaches.
    """
    constants, scratch, fast = (subgraph.tensors[operator.inputs[place]] for place in (CONSTANTS, SCRATCH, FAST))
    initial = [Range(READ_ONLY, 0, constants.elements)]
    end = scratch.elements
    for index, place in _places(subgraph, operator, addresses):
        end = max(end, place.address + place.length)
        if index not in operator.outputs:
            initial.append(place)
    regions = {READ_ONLY: constants.elements, ARENA: end, FAST_SCRATCH: fast.elements}
    return regions, initial, {FAST_SCRATCH: ARENA} if shares_arena(operator, fast.elements) else {}


def _places(subgraph: Subgraph, operator: Operator, addresses: list[int | None]) -> "Iterator[tuple[int, Range]]":
    """The operator's tensors and all variables, and where they are in the arena."""
    own = {*operator.inputs[FAST + 1 :], *operator.outputs}
    for index, tensor in enumerate(subgraph.tensors):
        address = addresses[index]
        if address is not None and not tensor.is_constant and (index in own or tensor.is_variable):
            yield index, Range(ARENA, address, size_bytes(tensor))

"""What may go wrong with the memory of the command streams in a compiled TFLite file."""

from typing import TYPE_CHECKING

from mlia.backends.simulator.session import (
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
from mlia.graph.graph import COMPILED_OPERATOR, Graph, Operator, Subgraph
from mlia.graph.tflite import read_tflite
from mlia.simulator.hazards import Hazard, find_hazards, written_by
from mlia.simulator.intervals import NOTHING, interval, minus, union
from mlia.simulator.operation import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlia.simulator.intervals import Intervals


def hazards_of(compiled: Graph) -> list[tuple[int, Hazard]]:
    """The hazards of all streams of a compiled model, with the numbers of their streams; nothing if all are safe.

    Streams of a subgraph share the arena: what one wrote is there for the next, unless an operator of the host has
    written over it.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found: list[tuple[int, Hazard]] = []
    addresses, streams = addresses_of(compiled), streams_of(compiled)
    for subgraph in compiled.subgraphs:
        kept = NOTHING
        count = sum(index == subgraph.index for index, _ in streams)
        for operator in subgraph.operators:
            stream = streams.get((subgraph.index, operator.index))
            if stream is None:
                kept = minus(kept, _bytes_of(operator.outputs, subgraph, addresses[subgraph.index]))
                continue
            places = dict(_places(subgraph, operator, addresses[subgraph.index]))
            regions, initial, aliases = memory_of(subgraph, operator, addresses[subgraph.index])
            initial += [Range(ARENA, begin, end - begin) for begin, end in kept.tolist()]
            outputs = [places[output] for output in _finished(subgraph, operator) if output in places]
            hazards = find_hazards(stream.operations, stream.program.config, regions, initial, aliases, outputs)
            found += [(stream.number, hazard) for hazard in hazards]
            if count > 1:
                own = {ARENA, *(region for region, same in aliases.items() if same == ARENA)}
                kept = union(kept, written_by(stream.operations, stream.program.config, own))
    return found


def told_hazards(content: bytes) -> list[tuple[int, int, str, str, bool]]:
    """The hazards of a compiled file: stream, offset in it, kind, what it is in words, and whether it is certain.

    Raises:
        SimulatorError: a stream has what is not known.
    """
    found = hazards_of(read_tflite(content))
    return [(number, hazard.offset, str(hazard.kind), str(hazard), hazard.is_certain) for number, hazard in found]


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


def _finished(subgraph: Subgraph, operator: Operator) -> "list[int]":
    """The outputs of an ethos-u operator that no later one writes too: a tensor may be the work of several streams."""
    later = {
        output
        for each in subgraph.operators
        if each.index > operator.index and each.custom_code == COMPILED_OPERATOR
        for output in each.outputs
    }
    return [output for output in operator.outputs if output not in later]


def _bytes_of(tensors: "Sequence[int]", subgraph: Subgraph, addresses: list[int | None]) -> "Intervals":
    """The bytes of tensors in the arena."""
    found = NOTHING
    for index in tensors:
        address = addresses[index]
        if address is not None:
            found = union(found, interval(address, address + size_bytes(subgraph.tensors[index])))
    return found


def _places(subgraph: Subgraph, operator: Operator, addresses: list[int | None]) -> "Iterator[tuple[int, Range]]":
    """The operator's tensors and all variables, and where they are in the arena."""
    own = {*operator.inputs[FAST + 1 :], *operator.outputs}
    for index, tensor in enumerate(subgraph.tensors):
        address = addresses[index]
        if address is not None and not tensor.is_constant and (index in own or tensor.is_variable):
            yield index, Range(ARENA, address, size_bytes(tensor))

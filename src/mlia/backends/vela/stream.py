"""The header of an Ethos-U command stream: what an already compiled model was compiled for.

Layout: "COP1", then driver actions, one 32-bit word each with its number in the low byte; action 1 is
followed by two words, the NPU's CONFIG and ID registers (Arm Ethos-U TRM, and Vela's driver_actions.py).
"""

from struct import iter_unpack

from mlia.errors import ModelError
from mlia.graph.graph import COMPILED_OPERATOR, Graph, Subgraph
from mlia.results import Compiled

FOURCC = (b"COP1", b"COP2")
OPTIMIZER_CONFIG = 1
_PRODUCTS = {0: "ethos-u55", 1: "ethos-u65", 2: "ethos-u85"}
_HEADER_WORDS = 32  # the configuration is among the first few


def lost_outputs(graph: Graph, compiled: Graph) -> tuple[int, ...]:
    """The positions of a model's outputs that what was compiled from it does not have, or that nothing writes there."""
    before, after = _unwritten(graph.main), _unwritten(compiled.main)
    places = output_places(graph.main, compiled.main)
    lost = [position for position, place in enumerate(places) if place is None or place in after]
    return tuple(position for position in lost if position not in before)


def output_places(main: Subgraph, compiled: Subgraph) -> tuple[int | None, ...]:
    """Where each of a model's outputs is among those of what was compiled from it; None for one that is not there.

    They are in the same order. Where the compiler has left some out, those that are there are known by name.
    """
    if len(main.outputs) == len(compiled.outputs):
        return tuple(range(len(main.outputs)))
    places = {compiled.tensors[index].name: place for place, index in enumerate(compiled.outputs)}
    return tuple(places.get(main.tensors[index].name) for index in main.outputs)


def _unwritten(main: Subgraph) -> list[int]:
    there = {*main.inputs, *(index for operator in main.operators for index in operator.outputs)}
    return [
        position
        for position, index in enumerate(main.outputs)
        if index not in there and not main.tensors[index].is_constant
    ]


def compiled_for(graph: Graph) -> tuple[Compiled, ...]:
    """What each Ethos-U operator of the model was compiled for, each kind once; empty for a source model.

    Raises:
        ModelError: an operator says it is compiled, but its command stream is not one.
    """
    found: dict[Compiled, None] = {}
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            if operator.custom_code == COMPILED_OPERATOR:
                stream = subgraph.tensor(operator.inputs[0]) if operator.inputs else None
                found[_read_header(bytes(stream.data) if stream else b"", _compiler(graph))] = None
    return tuple(found)


def _read_header(stream: bytes, compiler: str) -> Compiled:
    if stream[:4] not in FOURCC:
        raise ModelError("the model has an ethos-u operator without a command stream")
    header = stream[4 : 4 + 4 * _HEADER_WORDS]
    words = [word for (word,) in iter_unpack("<I", header[: len(header) // 4 * 4])]
    for position, word in enumerate(words[:-2]):
        if word & 0xFF == OPTIMIZER_CONFIG:
            config, identity = words[position + 1], words[position + 2]
            product = config >> 28
            return Compiled(
                npu=_PRODUCTS.get(product, f"unknown product {product}"),
                macs_per_cycle=1 << (config & 0xF),
                shram_kib=config >> 8 & 0xFF if product < 2 else None,
                architecture=f"{identity >> 28}.{identity >> 20 & 0xFF}.{identity >> 16 & 0xF}",
                driver_format=stream[:4].decode(),
                compiler=compiler,
            )
    raise ModelError("the model is compiled for an Ethos-U, but its command stream does not say for which")


def _compiler(graph: Graph) -> str:
    """What the file says about its compiler; recent versions only name the run time that they need."""
    for key, words in (
        ("vela_version", "Vela {}"),
        ("min_runtime_version", "an unnamed version (runtime {} or later)"),
    ):
        if key in graph.metadata:
            return words.format(bytes(graph.metadata[key]).rstrip(b"\0").decode("ascii", "replace"))
    return "an unnamed version"

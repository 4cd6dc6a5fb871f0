"""TOSA file -> Graph. Vela compiles such a file itself, so this only has to tell what is in it."""

from mlia.errors import ModelError
from mlia.graph.flatbuffer import Table, read_root
from mlia.graph.graph import Graph, Operator, Provenance, Subgraph, Tensor

_DATA_TYPES = {"FP32": "float32", "FP16": "float16", "BF16": "bfloat16"}
_CONSTANTS = ("CONST", "CONST_SHAPE")
MAXIMUM_RANK = 32


def read_tosa(content: bytes) -> Graph:
    """Read a TOSA 1.0 file of one region with one block.

    Operators keep the index they have in the file, which the compiler refers to; constants are not among them.

    Raises:
        ModelError: damaged, of another version, or with control flow (further regions or blocks).
    """
    root = read_root("TosaGraph", content)
    version, regions = root["version"], root["regions"]
    if version is None or version["major"] != 1:
        found = "none" if version is None else f"{version['major']}.{version['minor']}"
        raise ModelError(f"its TOSA version is {found}; version 1 is read")
    blocks = [block for region in regions for block in region["blocks"]]
    if len(blocks) != 1:
        raise ModelError(f"it has {len(blocks)} blocks; control flow in TOSA is not read")
    provenance = Provenance(f"TOSA {version['major']}.{version['minor']}", "handed to Vela as it is")
    return Graph((_subgraph(blocks[0]),), content=memoryview(content), provenance=provenance)


def _subgraph(block: Table) -> Subgraph:
    tensors = tuple(_tensor(table) for table in block["tensors"])
    index_of = {tensor.name: index for index, tensor in enumerate(tensors)}

    def indexes(names: tuple[str, ...]) -> tuple[int, ...]:
        """Shapes have names too, but are no tensors; they are left out."""
        return tuple(index_of[name] for name in names if name in index_of)

    operators = tuple(
        Operator(index, table["op"], indexes(table["inputs"]), indexes(table["outputs"]))
        for index, table in enumerate(block["operators"])
        if table["op"] not in _CONSTANTS
    )
    if not operators:
        raise ModelError("the model has no operators: there is nothing to analyze")
    missing = [name for name in (*block["inputs"], *block["outputs"]) if name not in index_of]
    if missing:
        raise ModelError(f"the file is damaged: there is no tensor '{missing[0]}'")
    return Subgraph(0, block["name"], tensors, operators, indexes(block["inputs"]), indexes(block["outputs"]))


def _tensor(table: Table) -> Tensor:
    shape, kind = table["shape"], table["type"]
    if len(shape) > MAXIMUM_RANK or any(size < -1 for size in shape):
        raise ModelError(f"the file is damaged: tensor '{table['name']}' has shape {list(shape)[:MAXIMUM_RANK]}")
    return Tensor(
        name=table["name"],
        shape=tuple(abs(size) for size in shape),
        dtype=_DATA_TYPES.get(kind, kind.lower()),
        data=table["data"],
        shape_signature=shape if -1 in shape else (),
        is_variable=table["variable"],
    )

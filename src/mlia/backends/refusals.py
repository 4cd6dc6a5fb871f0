"""What is refused before anybody works on it: what is compiled already, or too large for a target's addresses."""

from mlia.errors import BackendError
from mlia.graph.graph import Graph
from mlia.graph.tflite import ELEMENT_BITS
from mlia.targets.target import ADDRESS_SPACE_BYTES, AnyTarget, CpuTarget

ALREADY_COMPILED = "the model is already compiled by Vela; give the model it was compiled from"
CORTEX_M_SPACE_BYTES = 1 << 32  # of every Cortex-M (Armv6-M to Armv8-M architecture reference manuals)


def refuse_unaddressable(graph: Graph, target: AnyTarget) -> None:
    """Refuse a model with a tensor that has more bytes than the target has addresses.

    Raises:
        BackendError: names the tensor and both sizes.
    """
    space = CORTEX_M_SPACE_BYTES if isinstance(target, CpuTarget) else ADDRESS_SPACE_BYTES[target.npu.family]
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            size = tensor.elements * ELEMENT_BITS.get(tensor.dtype, 0) // 8
            if size > space:
                raise _too_large(f"the tensor '{tensor.name}' takes", size, target.name, space)


def refuse_arena(size_bytes: int, target: CpuTarget) -> None:
    """Refuse an arena that a Cortex-M cannot address.

    Raises:
        BackendError: says both sizes.
    """
    if size_bytes > CORTEX_M_SPACE_BYTES:
        raise _too_large("the tensor arena takes", size_bytes, target.name, CORTEX_M_SPACE_BYTES)


def _too_large(what: str, size_bytes: int, target: str, space_bytes: int) -> BackendError:
    size = f"{size_bytes / (1 << 30):,.1f} GiB ({size_bytes:,} bytes)"
    return BackendError(f"{what} {size}, and {target} can address {space_bytes >> 30:,} GiB")

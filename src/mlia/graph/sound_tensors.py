"""What a single tensor may not contradict: that it is a variable or constant, and its zero points."""

from mlia.errors import ModelError
from mlia.graph.graph import Subgraph, Tensor

LONGEST_NAME = 60  # letters: what is wrong stands behind it
_CODES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32_768, 32_767)}


def check_tensors(subgraph: Subgraph) -> None:
    """Refuse tensors that contradict themselves.

    Raises:
        ModelError: names the tensor and what of it contradicts.
    """
    for index, tensor in enumerate(subgraph.tensors):
        if tensor.is_variable and tensor.is_constant:
            raise _refused(index, tensor, "is a variable, and has the values of a constant")
        _fit_zero_points(index, tensor)


def short_name(name: str) -> str:
    """A name as far as it can be read beside what is wrong."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def _refused(index: int, tensor: Tensor, what: str) -> ModelError:
    return ModelError(f"it contradicts itself: tensor {index}, '{short_name(tensor.name)}', {what}")


def _fit_zero_points(index: int, tensor: Tensor) -> None:
    """A zero point is a stored integer, so the type must have it."""
    if tensor.quantization is None or tensor.dtype not in _CODES or not tensor.quantization.zero_point:
        return
    low, high = _CODES[tensor.dtype]
    for value in (min(tensor.quantization.zero_point), max(tensor.quantization.zero_point)):
        if not low <= value <= high:
            raise _refused(index, tensor, f"is {tensor.dtype} and has the zero point {value}")

"""ONNX -> Graph: converted by onnx2tf in an environment of its own."""

from pathlib import Path

from mlia.graph.formats.environments import DEFAULT_TIMEOUT_S, convert
from mlia.graph.graph import Graph, InputShapes

_SCRIPT = Path(__file__).with_name("convert_onnx.py")


def read_onnx(path: Path, input_shapes: InputShapes | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Graph:
    """Read an ONNX model as float32 TFLite with batch 1 and channels-last inputs.

    Args:
        path: the .onnx file; weights in files beside it are found there.
        input_shapes: sizes of inputs that the model leaves open, in the model's own layout (NCHW).
        timeout_s: seconds that the converter may take.

    Raises:
        BackendUnavailable: the converter is not installed.
        ModelError: the model is damaged, or has what onnx2tf or TFLite does not know.
    """
    shapes = {name: list(shape) for name, shape in (input_shapes or {}).items()}
    request = {"model": str(path.absolute()), "input_shapes": shapes}
    return convert("onnx", _SCRIPT, request, "ONNX", timeout_s)

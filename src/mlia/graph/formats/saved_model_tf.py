"""SavedModel -> Graph by TensorFlow itself, in an environment of its own: for those that our reader refuses."""

from pathlib import Path

from mlia.errors import ModelError
from mlia.graph.formats.environments import DEFAULT_TIMEOUT_S, convert
from mlia.graph.graph import Graph, InputShapes

_SCRIPT = Path(__file__).with_name("convert_saved_model.py")


def read_saved_model_with_tensorflow(
    folder: Path, input_shapes: InputShapes | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Graph:
    """Read a SavedModel as float32 TFLite with batch 1, by TensorFlow's converter.

    Args:
        folder: holds saved_model.pb and variables.
        input_shapes: sizes of inputs that the model leaves open.
        timeout_s: seconds that the converter may take.

    Raises:
        BackendUnavailable: the converter is not installed.
        ModelError: the model is damaged, or TFLite has no operators for it.
    """
    if not (folder / "saved_model.pb").is_file():
        raise ModelError("it is a folder without a saved_model.pb")
    shapes = {name: list(shape) for name, shape in (input_shapes or {}).items()}
    request = {"model": str(folder.absolute()), "input_shapes": shapes}
    return convert("savedmodel", _SCRIPT, request, "SavedModel", timeout_s)

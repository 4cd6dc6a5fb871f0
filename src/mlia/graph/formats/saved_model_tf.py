"""Keras files and SavedModels -> Graph by TensorFlow itself, in an environment of its own: what our reader refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats.environments import DEFAULT_TIMEOUT_S, convert
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.graph import Graph, InputShapes

_SCRIPT = Path(__file__).with_name("convert_saved_model.py")


def read_with_tensorflow(
    path: Path, input_shapes: InputShapes | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Graph:
    """Read a SavedModel folder or a Keras file as float32 TFLite with batch 1, by TensorFlow's converter.

    Args:
        path: a folder with saved_model.pb and variables, or a .h5 or .keras file.
        input_shapes: sizes of inputs that the model leaves open.
        timeout_s: seconds that the converter may take.

    Raises:
        BackendUnavailable: the converter is not installed.
        ModelError: the model is damaged, or TFLite has no operators for it.
    """
    shapes = {name: list(shape) for name, shape in (input_shapes or {}).items()}
    request = {"model": str(path.absolute()), "input_shapes": shapes}
    return convert("savedmodel", _SCRIPT, request, "SavedModel" if path.is_dir() else "Keras file", timeout_s)


def read_after_refusal(path: Path, refusal: ModelError, model: KerasModel | None, shapes: InputShapes) -> Graph:
    """Let TensorFlow try what our reader refused, unless that could run code from the model.

    Args:
        path: the model.
        refusal: why our reader did not take it.
        model: what the container held, if it could be read.
        shapes: sizes of inputs that the model leaves open.

    Raises:
        ModelError: TensorFlow is not installed, must not, or cannot read it either; the refusal comes first.
    """
    is_whole = "damaged" not in str(refusal) and "No such file" not in str(refusal)
    if not is_whole or (not path.is_dir() and (model is None or not is_harmless(model))):
        raise refusal
    try:
        return read_with_tensorflow(path, shapes)
    except BackendUnavailable:
        hint = "TensorFlow may read it: `mlia backend install savedmodel`"
        raise ModelError(f"{refusal}; {hint}") from None
    except ModelError as error:
        raise ModelError(f"{refusal}; and TensorFlow: {error}") from None


def is_harmless(model: KerasModel) -> bool:
    """Whether the configuration names classes of Keras only, and none that holds code."""
    for part in _parts(model.config):
        module = part.get("module") or "keras"
        if part.get("class_name") == "Lambda" or not str(module).startswith(("keras", "builtins")):
            return False
        if part.get("registered_name") and part["registered_name"] != part.get("class_name"):
            return False
    return True


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            yield part
            todo += part.values()
        elif isinstance(part, list | tuple):
            todo += part

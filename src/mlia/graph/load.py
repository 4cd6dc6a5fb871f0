"""Path, bytes or Keras model -> Graph. The kind of a file is told from its content, never from its name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec.structs import replace

from mlia.errors import ModelError
from mlia.graph.graph import Graph, InputShapes
from mlia.graph.sound import check_sound
from mlia.graph.sparse import without_densify
from mlia.graph.tflite import IDENTIFIER, read_tflite
from mlia.graph.tflite_writer import write_tflite

if TYPE_CHECKING:
    from mlia.graph.formats.keras_model import KerasModel

READ = "mlia reads .tflite, .h5, .keras, SavedModel folders, .onnx, .pt2 and .tosa"
_HDF5, _ZIP, _PICKLE, _ONNX, _TOSA = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80", b"\x08", b"TOSA"
_LFS = b"version https://git-lfs"
KERAS = ("keras", "tf_keras", "tensorflow")  # packages whose models save themselves
# A path, the bytes of a .tflite, a Graph, or a Keras model, which no type can name without importing Keras.
ModelSource: TypeAlias = str | os.PathLike[str] | bytes | Graph | Any


def load_model(model: ModelSource, input_shapes: InputShapes | None = None) -> Graph:
    """Read a model: TFLite as it is, other formats as TFLite.

    Args:
        model: path of a file or a SavedModel folder, the bytes of a TFLite file, a Keras model, or a Graph. A
            torch.nn.Module is read by read_module().
        input_shapes: sizes of inputs that the model leaves open.

    Raises:
        ModelError: missing, unreadable, damaged, contradicting itself, or in a format that is not read.
        BackendUnavailable: the format needs a converter that is not installed.
    """
    what = f"the model {model}" if isinstance(model, str | os.PathLike) else name_of(model)
    try:
        graph = _read_source(model, input_shapes or {})
        check_sound(graph)
        return graph
    except ModelError as error:
        raise ModelError(f"cannot read {what}: {error}") from None
    except OSError as error:
        raise ModelError(f"cannot read {what}: {error.strerror or error}") from None


def name_of(model: ModelSource) -> str:
    """What a report calls a model: the name of its file or folder, or of the Keras model.

    Raises:
        ModelError: it is nothing that can be read as a model.
    """
    if isinstance(model, Graph):
        return model.description or "unnamed model"
    if isinstance(model, str | os.PathLike):
        file = Path(model).name or Path(model).resolve().name
        return file.encode(errors="replace").decode()
    if isinstance(model, bytes | bytearray | memoryview):
        return "unnamed model"
    if _is_of(model, KERAS) and callable(getattr(model, "save", None)):
        name = getattr(model, "name", None)
        return name if isinstance(name, str) and name else "unnamed model"
    if _is_of(model, ("torch",)):
        raise ModelError("a torch.nn.Module is given as mlia.read_module(module, example_inputs)")
    kind = "None" if model is None else f"a value of type {type(model).__name__}"
    raise ModelError(f"a model is a path, the bytes of a .tflite, a Keras model or a Graph, and not {kind}")


def _is_of(model: object, packages: tuple[str, ...]) -> bool:
    """Whether its class, or one that it derives from, is of one of the packages; nothing is imported for that."""
    return any(kind.__module__.partition(".")[0] in packages for kind in type(model).__mro__)


def _read_source(model: ModelSource, shapes: InputShapes) -> Graph:
    if isinstance(model, Graph):
        return model
    if isinstance(model, str | os.PathLike):
        return _read(Path(model), shapes)
    if isinstance(model, bytes | bytearray | memoryview):
        content = bytes(model)
        if content[4:8] != IDENTIFIER:
            raise ModelError(
                "bytes are read as a TFLite file, and these are none; other formats are given by their path"
            )
        return _stored_dense(read_tflite(content))
    return _read_keras_object(model, shapes)


def _read_keras_object(model: Any, shapes: InputShapes) -> Graph:
    """A Keras model of this process, by the .keras file that it saves."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mlia-") as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(str(path))
        except Exception as error:  # whatever Keras, or a layer of the user's own, raises
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"Keras cannot save the model: {reason}") from None
        if not path.exists():
            raise ModelError("Keras did not save the model")
        return _read(path, shapes)


def _read(path: Path, shapes: InputShapes) -> Graph:
    if path.is_dir():
        return _read_folder(path, shapes)
    if path.is_char_device() or path.is_block_device():  # it may have no end
        raise ModelError("it is a device")
    content = path.read_bytes()
    return _stored_dense(read_tflite(content)) if content[4:8] == IDENTIFIER else _read_foreign(path, content, shapes)


def _stored_dense(graph: Graph) -> Graph:
    """The graph with a file of its own where some constants are sparse, which neither Vela nor TFLite Micro takes."""
    count = sum(tensor.is_sparse for subgraph in graph.subgraphs for tensor in subgraph.tensors)
    if not count:
        return graph
    added = (f"{count} sparse constants stored dense",)
    return _as_tflite(replace(without_densify(graph), provenance=replace(graph.provenance, added=added)))


def _read_folder(path: Path, shapes: InputShapes) -> Graph:
    if not (path / "saved_model.pb").is_file():
        raise ModelError("it is a folder without a saved_model.pb")
    from mlia.graph.formats.keras_saved_model import read_saved_model

    return _read_keras(read_saved_model, path, shapes)


def _read_keras(read: "Callable[[Path], KerasModel]", path: Path, shapes: InputShapes) -> Graph:
    """By our own reader, or by TensorFlow where ours does not know a layer."""
    from mlia.graph.formats.keras import build_graph

    model = None
    try:
        model = read(path)
        return _as_tflite(build_graph(model, input_shapes=shapes))
    except ModelError as refusal:
        from mlia.graph.formats.saved_model_tf import read_after_refusal

        return read_after_refusal(path, refusal, model, shapes)


def _read_foreign(path: Path, content: bytes, shapes: InputShapes) -> Graph:
    if not content:
        raise ModelError("the file is empty")
    if content.startswith(_HDF5):
        from mlia.graph.formats.keras_h5 import read_h5

        return _read_keras(read_h5, path, shapes)
    if content.startswith(_ZIP):
        return _read_zip(path, content, shapes)
    if content[4:8] == _TOSA:
        from mlia.graph.formats.tosa import read_tosa

        return read_tosa(content)
    if content.startswith(_ONNX):
        from mlia.graph.formats.onnx import read_onnx

        return read_onnx(path, shapes)
    if content.startswith(_PICKLE):
        raise ModelError("it is a Python pickle, which could run any code; export it with torch.export to .pt2")
    if content.startswith(_LFS):
        raise ModelError("it is a Git LFS pointer; fetch the file with `git lfs pull`")
    raise ModelError(f"its format is not known; {READ}")


def _read_zip(path: Path, content: bytes, shapes: InputShapes) -> Graph:
    import io

    from mlia.archives import Archive  # and all that can be unpacked, which other models do not need

    with Archive(io.BytesIO(content), ModelError) as archive:
        names = [*archive.sizes]
    if "config.json" in names and "model.weights.h5" in names:
        from mlia.graph.formats.keras_archive import read_archive

        return _read_keras(read_archive, path, shapes)
    if any("exported_program" in name or name.endswith("models/model.json") for name in names):
        from mlia.graph.formats.torch import read_pt2

        return read_pt2(path, shapes)
    if any(name.endswith("data.pkl") for name in names):
        raise ModelError("it holds a Python pickle, which could run any code; export it with torch.export to .pt2")
    raise ModelError(f"it is a zip archive, but neither .keras nor .pt2; {READ}")


def _as_tflite(graph: Graph) -> Graph:
    """The graph as read back from the TFLite file that it makes, so that it has one, and is checked as one."""
    return replace(read_tflite(write_tflite(graph)), provenance=graph.provenance)

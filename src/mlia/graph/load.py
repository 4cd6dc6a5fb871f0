"""Path -> Graph. The kind of a file is told from its content, never from its name."""

from pathlib import Path

from mlia.errors import ModelError
from mlia.graph.graph import Graph
from mlia.graph.tflite import IDENTIFIER, read_tflite

# First bytes of formats that people have, and how to get a TFLite file from them.
_EXPORT = "export it to a quantized .tflite first"
_FOREIGN = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)"),
    (b"PK\x03\x04", "a zip archive (Keras .keras or PyTorch)"),
    (b"\x80", "a Python pickle"),
    (b"\x08", "a protocol buffer (ONNX or a TensorFlow graph)"),
)


def load_model(path: Path) -> Graph:
    """Read a model.

    Raises:
        ModelError: missing, unreadable, damaged, or in a format that is not read.
    """
    try:
        return read_tflite(_tflite_content(path))
    except ModelError as error:
        raise ModelError(f"cannot read the model {path}: {error}") from None


def _tflite_content(path: Path) -> bytes:
    if path.is_dir():
        kind = "a SavedModel folder" if (path / "saved_model.pb").is_file() else "a folder"
        raise ModelError(f"it is {kind}; {_EXPORT}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{error.strerror}") from None
    if content[4:8] == IDENTIFIER:
        return content
    if not content:
        raise ModelError("the file is empty")
    for magic, kind in _FOREIGN:
        if content.startswith(magic):
            raise ModelError(f"it is {kind}; {_EXPORT}")
    if content.startswith(b"version https://git-lfs"):
        raise ModelError("it is a Git LFS pointer; fetch the file with `git lfs pull`")
    raise ModelError("it is not a TFLite file (bytes 4 to 7 are not TFL3)")

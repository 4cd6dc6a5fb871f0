"""Keras archive (.keras: a zip of configuration and weights) -> KerasModel, without Keras."""

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from mlia.errors import ModelError
from mlia.graph.formats.hdf5 import Hdf5
from mlia.graph.formats.keras_model import Array, KerasModel
from mlia.graph.formats.keras_tree import LARGEST_CONFIG, Node, layer_tree, parse_config

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
LARGEST_MEMBER = 4 << 30  # bytes of one member, unpacked
LARGEST_RATIO = 200  # of unpacked to packed, for members of more than a mebibyte
_MEMBERS = {CONFIG: LARGEST_CONFIG, WEIGHTS: LARGEST_MEMBER}
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second is how Keras 2.12 to 2.15 may say it
_OWN = "vars"
_RANDOM = ("seed_generator", "_seed_generator", "generator", "_random_generator")  # a state, which is no weight
_OPTIMIZER = ("optimizer",)
# The order of get_weights() of layers that are made of several parts.
_PARTS = {
    "Bidirectional": ("forward_layer", "backward_layer"),
    "MultiHeadAttention": ("query_dense", "key_dense", "value_dense", "output_dense"),
}


def read_archive(path: Path) -> KerasModel:
    """Read a model that Keras saved as .keras; members are unpacked into memory only.

    Raises:
        ModelError: it is damaged or too large, a member is missing, or its groups are not those of its layers.
    """
    members = _read_members(path)
    config = parse_config(members[CONFIG], CONFIG)
    tree = layer_tree(config)
    with Hdf5(io.BytesIO(members[WEIGHTS])) as file:
        stored = _arrays_below(file, "")
        weights = _network_weights(file, tree, "", stored)
    left = [path for path in stored if path.split("/")[0] not in _OPTIMIZER]
    if left:
        raise ModelError(f"{WEIGHTS} has '{left[0]}', which belongs to no layer of {CONFIG} that mlia knows")
    return KerasModel(config, weights, "Keras archive")


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _unpack(archive, name, largest) for name, largest in _MEMBERS.items()}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"it is a damaged zip archive: {reason}") from None
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror or error}") from None


def _unpack(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ModelError(f"it has no {name}; save the whole model as .keras with model.save()") from None
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ModelError(f"its {name} is packed in a way that is not read; save it again with model.save()")
    too_dense = entry.file_size > max(1 << 20, LARGEST_RATIO * entry.compress_size)
    if entry.file_size > largest or too_dense:
        raise ModelError(
            f"its {name} would unpack from {entry.compress_size} to {entry.file_size} bytes, "
            "which is more than mlia reads"
        )
    with archive.open(entry) as member:  # never reads more than the size that was just checked
        content = member.read(entry.file_size)
    if len(content) != entry.file_size:
        raise ModelError(f"its {name} is cut short")
    return content


def _arrays_below(file: Hdf5, top: str) -> dict[str, None]:
    """Paths of all data sets, in order."""
    found: dict[str, None] = {}
    pending = [(top, 0)]
    while pending:
        group, depth = pending.pop()
        if depth > file.DEEPEST:
            raise ModelError(f"{WEIGHTS} nests groups more than {file.DEEPEST} deep, which is more than mlia reads")
        for name, is_group in file.children(group):
            path = f"{group}/{name}".lstrip("/")
            if is_group:
                pending.append((path, depth + 1))
            else:
                found[path] = None
    return found


def _network_weights(file: Hdf5, network: Node, group: str, stored: dict[str, None]) -> dict[str, tuple[Array, ...]]:
    """Weights by path of layer; takes what was read out of `stored`."""
    weights: dict[str, tuple[Array, ...]] = {}
    container = next((each for each in _CONTAINERS if file.has(f"{group}/{each}")), _CONTAINERS[0])
    used: dict[str, int] = {}
    for node in network.layers:
        if node.is_operation:
            continue
        # Groups are named after the class and numbered in the order of the layers, whatever their names are.
        kind = _snake_case(node.kind)
        number = used[kind] = used.get(kind, -1) + 1
        path = f"{group}/{container}/{kind}_{number}" if number else f"{group}/{container}/{kind}"
        path = path.lstrip("/")
        if not file.has(path):
            continue
        if file.has_attribute(path, "name") and file.texts(path, "name") != [node.name]:
            raise ModelError(
                f"{WEIGHTS} has in '{path}' the weights of '{file.texts(path, 'name')[0]}', not '{node.name}'"
            )
        if node.is_network:
            weights |= _network_weights(file, node, path, stored)
        else:
            arrays = _layer_arrays(file, node, path, stored)
            weights |= {node.path: arrays} if arrays else {}
    return weights


def _layer_arrays(file: Hdf5, node: Node, group: str, stored: dict[str, None]) -> tuple[Array, ...]:
    """A layer's own arrays, then those of its parts, such as the cell of an LSTM."""
    arrays: list[Array] = []
    parts = []
    for name, is_group in file.children(group):
        below = f"{group}/{name}/"
        if not is_group or not any(path.startswith(below) for path in stored):
            continue
        if name in _RANDOM:
            for path in [path for path in stored if path.startswith(below)]:
                del stored[path]
        elif name == _OWN:
            arrays += _own_arrays(file, f"{group}/{name}", stored)
        else:
            parts.append(name)
    for name in _ordered(node, parts):
        arrays += _layer_arrays(file, node, f"{group}/{name}", stored)
    return tuple(arrays)


def _own_arrays(file: Hdf5, group: str, stored: dict[str, None]) -> list[Array]:
    names = [name for name, _ in file.children(group)]
    numbers = [str(number) for number in range(len(names))]
    if set(names) != set(numbers):
        raise ModelError(
            f"{WEIGHTS} has in '{group}' the arrays {', '.join(sorted(names)[:8])}, whose order is not known"
        )
    for number in numbers:
        del stored[f"{group}/{number}"]
    return [file.array(f"{group}/{number}") for number in numbers]


def _ordered(node: Node, parts: Sequence[str]) -> Sequence[str]:
    """Parts in the order of get_weights(). One part needs none."""
    if len(parts) < 2:
        return parts
    known = {part.lstrip("_"): part for part in parts}
    order = _PARTS.get(node.kind, ())
    if len(known) != len(parts) or not set(known) <= set(order):
        raise ModelError(
            f"cannot read the layer '{node.path}' of class {node.kind}: the order of its parts "
            f"{', '.join(sorted(parts)[:8])} is not known; export the model to TFLite and check that file"
        )
    return [known[part] for part in order if part in known]


def _snake_case(kind: str) -> str:
    """The name of a class as Keras makes it a group's: SeparableConv2D -> separable_conv2d, ReLU -> re_lu."""
    name = re.sub(r"\W+", "", kind.rpartition(">")[2])
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name))
    return words.lower()

"""Keras HDF5 file (.h5) -> KerasModel, without Keras."""

from pathlib import Path

from mlia.errors import ModelError
from mlia.graph.formats.hdf5 import Hdf5
from mlia.graph.formats.keras_model import Array, KerasModel
from mlia.graph.formats.keras_tree import Node, layer_tree, leaves, parse_config

LARGEST_FILE = 4 << 30  # bytes
_GROUP = "model_weights"


def read_h5(path: Path) -> KerasModel:
    """Read a whole model that Keras saved as HDF5: configuration in an attribute, weights by layer.

    Raises:
        ModelError: it is damaged, too large, or has the weights only; or weights that belong to no layer.
    """
    with Hdf5(_read(path)) as file:
        if not file.has_attribute("", "model_config"):
            raise ModelError(
                "it is HDF5 without the configuration of a Keras model (weights only?); save it with model.save()"
            )
        config = parse_config("".join(file.texts("", "model_config")), "model_config")
        if not file.has(_GROUP):
            raise ModelError("it holds layers but no weights; save it with model.save()")
        return KerasModel(config, _weights(file, layer_tree(config)), "Keras HDF5")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelError(f"it has more than {LARGEST_FILE} bytes, which is more than mlia reads")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror or error}") from None


def _weights(file: Hdf5, tree: Node) -> dict[str, tuple[Array, ...]]:
    nodes = {node.name: node for node in tree.layers}
    weights: dict[str, tuple[Array, ...]] = {}
    for name in file.texts(_GROUP, "layer_names"):
        group = f"{_GROUP}/{name}"
        names = file.texts(group, "weight_names")
        if not names:
            continue
        if name not in nodes:
            raise ModelError(f"it is damaged: it has weights for '{name}', but the configuration has no such layer")
        if nodes[name].path in weights or len(set(names)) < len(names):
            raise ModelError(f"it is damaged: it lists weights of '{name}' twice")
        arrays = {weight: file.array(f"{group}/{weight}") for weight in names}
        if nodes[name].is_network:
            weights |= _inner_weights(nodes[name], arrays)
        else:
            weights[name] = tuple(arrays.values())
    return weights


def _inner_weights(network: Node, arrays: dict[str, Array]) -> dict[str, tuple[Array, ...]]:
    """Weights of a nested model's layers, which Keras keeps in one group; each is named after its layer.

    All that can be trained come first, then all others: a layer's own keep their order among themselves.
    """
    found: dict[str, list[Array]] = {}
    for weight, array in arrays.items():
        found.setdefault(_owner(network, weight).path, []).append(array)
    return {path: tuple(own) for path, own in found.items()}


def _owner(network: Node, weight: str) -> Node:
    """The layer whose name comes first in a weight's name; of several layers of that name, the one of that path.

    Names may have slashes: "block/conv" and "block/conv/norm" are two layers of MobileNetV3.
    """
    scopes = "/" + weight
    positions = {node.path: scopes.find(f"/{node.name}/") for node in leaves(network)}
    owners = [node for node in leaves(network) if positions[node.path] >= 0]
    if owners:
        first = min(positions[node.path] for node in owners)
        owners = [node for node in owners if positions[node.path] == first]
        longest = max(len(node.name) for node in owners)
        owners = [node for node in owners if len(node.name) == longest]
    if len(owners) > 1:
        owners = [node for node in owners if f"/{node.path}/" in f"/{network.path}{scopes}"]
    if len(owners) != 1:
        raise ModelError(
            f"cannot tell which layer of the nested model '{network.path}' has the weight '{weight}'; "
            "save the model as .keras"
        )
    return owners[0]

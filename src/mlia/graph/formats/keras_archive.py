"""Keras archive (.keras: a zip of configuration and weights) -> KerasModel, without Keras."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from mlia.archives import Archive
from mlia.errors import ModelError
from mlia.graph.formats.hdf5 import Hdf5, Tree
from mlia.graph.formats.keras_model import Array, KerasModel
from mlia.graph.formats.keras_tree import LARGEST_CONFIG, Node, layer_tree, parse_config

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
LARGEST_MEMBER = 4 << 30  # bytes of one member, unpacked
_MEMBERS = {CONFIG: LARGEST_CONFIG, WEIGHTS: LARGEST_MEMBER}
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second is how Keras 2.12 to 2.15 may say it
_OWN = "vars"
_RANDOM = ("seed_generator", "_seed_generator", "generator", "_random_generator")  # a state, which is no weight
# What training leaves beside the layers.
_TRAINING = ("optimizer", "metrics", "compile_metrics", "compiled_metrics", "loss_tracker", "compile_loss")
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
    with Hdf5(members[WEIGHTS]) as file:
        weights = _network_weights(
            file, tree, "", {name: part for name, part in file.tree().items() if name.lstrip("_") not in _TRAINING}
        )
    return KerasModel(config, weights, "Keras archive")


def _read_members(path: Path) -> dict[str, bytes]:
    with Archive(path, ModelError) as archive:
        for name in _MEMBERS:
            if name not in archive.sizes:
                raise ModelError(f"it has no {name}; save the whole model as .keras with model.save()")
        return {name: archive.read(name, largest) for name, largest in _MEMBERS.items()}


def _network_weights(file: Hdf5, network: Node, group: str, tree: Tree) -> dict[str, tuple[Array, ...]]:
    """Weights by path of layer, from a group that has a group of layers."""
    container = next((each for each in _CONTAINERS if each in tree), _CONTAINERS[0])
    stored = dict(_group(tree, container))
    weights: dict[str, tuple[Array, ...]] = {}
    used: dict[str, int] = {}
    for node in network.layers:
        if node.is_operation:
            continue
        # Groups are named after the class and numbered in the order of the layers, whatever their names are.
        kind = _snake_case(node.kind)
        number = used[kind] = used.get(kind, -1) + 1
        name = f"{kind}_{number}" if number else kind
        path = f"{group}/{container}/{name}".lstrip("/")
        if name not in stored:
            continue
        own = _group(stored, name)
        del stored[name]
        if _count(own) and file.has_attribute(path, "name") and (actual := file.texts(path, "name")) != [node.name]:
            raise ModelError(f"its {WEIGHTS} has in '{path}' the weights of '{actual[0]}', not of '{node.name}'")
        if node.is_network:
            weights |= _network_weights(file, node, path, own)
        elif arrays := _layer_arrays(file, node, path, own):
            weights[node.path] = arrays
    left = [name for name in stored if _count(stored[name])]
    left += [name for name in tree if name != container and _count(tree[name])]
    if left:
        raise ModelError(f"its {WEIGHTS} has weights in '{group}' as '{left[0]}', which is no layer of {CONFIG}")
    return weights


def _layer_arrays(file: Hdf5, node: Node, group: str, tree: Tree) -> tuple[Array, ...]:
    """A layer's own arrays, then those of its parts, such as the cell of an LSTM."""
    own = _group(tree, _OWN)
    numbers = [str(number) for number in range(len(own))]
    if set(own) != set(numbers):
        raise _unknown_order(node, own)
    arrays = [file.array(f"{group}/{_OWN}/{number}") for number in numbers]
    parts = [name for name in tree if name != _OWN and name not in _RANDOM and _count(tree[name])]
    for name in _ordered(node, parts):
        arrays += _layer_arrays(file, node, f"{group}/{name}", _group(tree, name))
    return tuple(arrays)


def _group(tree: Tree, name: str) -> Tree:
    """A group inside a group; an empty one where there is none.

    Raises:
        ModelError: it is a data set.
    """
    found = tree.get(name, {})
    if found is None:
        raise ModelError(f"its {WEIGHTS} is damaged: '{name}' is not a group")
    return found


def _count(tree: Tree | None) -> int:
    """How many data sets there are in it."""
    return 1 if tree is None else sum(_count(part) for part in tree.values())


def _ordered(node: Node, parts: Sequence[str]) -> Sequence[str]:
    """Parts in the order of get_weights(). One part needs none."""
    if len(parts) < 2:
        return parts
    known = {part.lstrip("_"): part for part in parts}
    order = _PARTS.get(node.kind, ())
    if len(known) != len(parts) or not set(known) <= set(order):
        raise _unknown_order(node, parts)
    return [known[part] for part in order if part in known]


def _unknown_order(node: Node, names: Collection[str]) -> ModelError:
    return ModelError(
        f"cannot read the layer '{node.path}' of class {node.kind}: the order of its weights "
        f"{', '.join(sorted(names)[:8])} is not known; export the model to TFLite and check that file"
    )


def _snake_case(kind: str) -> str:
    """The name of a class as Keras makes it a group's: SeparableConv2D -> separable_conv2d, ReLU -> re_lu."""
    name = re.sub(r"\W+", "", kind.rpartition(">")[2])
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name))
    return words.lower()

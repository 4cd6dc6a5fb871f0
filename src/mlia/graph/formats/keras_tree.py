"""The layers of a Keras configuration as a tree of names and classes, which weights are hung on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from mlia.errors import ModelError

NETWORKS = ("Functional", "Sequential", "Model")
LARGEST_CONFIG = 64 << 20  # bytes; a model of ten thousand layers has less than a tenth
_DEEPEST = 32  # models inside models


class Node(Struct, frozen=True):
    """A layer, or a nested model with `layers`. `path` is "outer/inner", "" for the model itself."""

    path: str
    name: str
    kind: str
    layers: tuple["Node", ...]
    is_network: bool
    is_operation: bool  # a function of Keras 3, which is not one of a model's layers


def parse_config(content: str | bytes, what: str) -> dict[str, Any]:
    """The JSON object of a model's configuration.

    Raises:
        ModelError: it is not JSON, too large, or not an object.
    """
    if len(content) > LARGEST_CONFIG:
        raise ModelError(f"{what} has more than {LARGEST_CONFIG} bytes, which is more than mlia reads")
    try:
        config = json.loads(content)
    except UnicodeDecodeError:
        raise ModelError(f"it is damaged: {what} is not text in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"it is damaged: {what} is not JSON: {_first_line(error)}") from None
    if not isinstance(config, dict):
        raise ModelError(f"it is damaged: {what} is not an object of JSON")
    return config


def layer_tree(config: Mapping[str, Any]) -> Node:
    """The model of a configuration: {"class_name": …, "config": {"layers": […]}}.

    Raises:
        ModelError: it has no layers (a subclassed model), contradicts itself, or two layers have one path.
    """
    kind = config.get("class_name")
    if kind not in NETWORKS:
        raise ModelError(
            f"its configuration is of the class {kind!r}, whose layers are known to its own code only; "
            "export the model to TFLite and check that file"
        )
    tree = Node("", "", str(kind), _children(config.get("config"), "", 0), True, False)
    seen: set[str] = set()
    for node in leaves(tree):
        if node.path in seen:
            raise ModelError(f"it is damaged: two layers have the name '{node.path}'")
        seen.add(node.path)
    return tree


def leaves(node: Node) -> Iterator[Node]:
    """The layers that are no models, in the order of the configuration."""
    for layer in node.layers:
        if layer.is_network:
            yield from leaves(layer)
        else:
            yield layer


def _children(config: Any, path: str, depth: int) -> tuple[Node, ...]:
    # Keras 1 and early 2 store the layers of a Sequential model as its whole configuration.
    entries = config.get("layers") if isinstance(config, dict) else config
    where = f"the model '{path}'" if path else "the model"
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ModelError(f"the configuration of {where} has no layers; save a Functional or Sequential model")
    if depth == _DEEPEST:
        raise ModelError(f"it nests models more than {_DEEPEST} deep, which is more than mlia reads")
    return tuple(_node(entry, f"{path}/" if path else "", depth) for entry in entries)


def _node(entry: Any, prefix: str, depth: int) -> Node:
    config = entry.get("config") if isinstance(entry, dict) else None
    if config is None or not isinstance(entry.get("class_name"), str):
        raise ModelError("it is damaged: the configuration has a layer without class or configuration")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str) or not name:
        raise ModelError(f"it is damaged: a layer of class {entry['class_name']} has no name")
    kind, path = entry["class_name"], prefix + name
    is_network = kind in NETWORKS
    is_operation = str(entry.get("module")).startswith("keras.src.ops")
    return Node(path, name, kind, _children(config, path, depth + 1) if is_network else (), is_network, is_operation)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]

"""SavedModel folder that Keras 2 wrote -> KerasModel, without TensorFlow.

The layers' configuration is in keras_metadata.pb, or up to TensorFlow 2.4 in the graph of objects in
saved_model.pb. A layer's object there lists its variables in the order of get_weights(). Where a variable is in
the checkpoint is said by the checkpoint's own graph of objects, in which it is found by the same path.
"""

from pathlib import Path
from typing import Any

from msgspec import Struct

from mlia.archives import open_file
from mlia.errors import ModelError
from mlia.graph.formats.keras_model import Array, KerasModel
from mlia.graph.formats.keras_tree import Node, layer_tree, leaves, parse_config
from mlia.graph.formats.protobuf import Message
from mlia.graph.formats.tensor_bundle import TensorBundle, read_shape

_DEEPEST = 200  # of values inside values of a configuration; 32 models inside each other have fewer
LARGEST_GRAPH = 2 << 30  # bytes; a protobuf message cannot be larger
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NETWORKS = ("_tf_keras_network", "_tf_keras_model", "_tf_keras_sequential")
# Numbers of the fields that are read, by the names they have in TensorFlow's and Keras' .proto files.
_SAVED_MODEL = {"meta_graphs": 2}
_META_GRAPH = {"object_graph_def": 7}
_GRAPH = {"nodes": 1}
_OBJECT = {"children": 1, "user_object": 4, "variable": 7}
_CHILD = {"node_id": 1, "local_name": 2}
_USER_OBJECT = {"identifier": 1, "metadata": 3}
_VARIABLE = {"shape": 2}
_CHECKPOINT_OBJECT = {"children": 1, "attributes": 2}
_ATTRIBUTE = {"name": 1, "checkpoint_key": 3}
_METADATA_NODE = {"node_id": 2, "identifier": 4, "metadata": 5}
_KEEP = "; save it as .keras or .h5 instead (model.save), or run `mlia backend install savedmodel`"


class _Object(Struct, frozen=True):
    """One node of the graph of objects; `metadata` is Keras' JSON about it, `identifier` the sort of it."""

    children: dict[str, int]
    identifier: str = ""
    metadata: str = ""
    is_variable: bool = False
    shape: tuple[int, ...] = ()


def read_saved_model(folder: Path) -> KerasModel:
    """Read a SavedModel with the configuration of Keras layers in it.

    Raises:
        ModelError: a file is missing or damaged, or it has no layers, as with model.export() of Keras 3.
    """
    objects = _saved_objects(folder)
    root = _without_tuples(_described(objects, 0, "the model"), 0)
    if objects[0].identifier not in _NETWORKS:
        raise ModelError(f"its root is not a model of Keras, but {objects[0].identifier!r}{_KEEP}")
    tree = layer_tree(root)
    ids = _layer_ids(objects, tree, 0)
    bundle = TensorBundle(folder / "variables" / "variables")
    keys = _checkpoint_keys(objects, bundle)
    weights: dict[str, tuple[Array, ...]] = {}
    for node in leaves(tree):
        variables = _variables(objects, node, ids)
        if variables:
            weights[node.path] = tuple(_array(bundle, keys, objects, variable, node) for variable in variables)
    return KerasModel(root, weights, "Keras SavedModel")


def _saved_objects(folder: Path) -> list[_Object]:
    """The objects of saved_model.pb, with their metadata from wherever it is stored."""
    model = Message(_read(folder / "saved_model.pb"), "SavedModel", _SAVED_MODEL)
    graphs = model.messages("meta_graphs", "MetaGraphDef", _META_GRAPH)
    if not graphs or not graphs[0].has("object_graph_def"):
        raise ModelError(f"its saved_model.pb has no objects of Keras, as models of TensorFlow 1 do{_KEEP}")
    graph = graphs[0].message("object_graph_def", "SavedObjectGraph", _GRAPH)
    described: dict[int, Message] = {}
    if (folder / "keras_metadata.pb").exists():
        metadata = Message(_read(folder / "keras_metadata.pb"), "SavedMetadata", _GRAPH)
        nodes = metadata.messages("nodes", "keras SavedObject", _METADATA_NODE)
        described = {node.number("node_id"): node for node in nodes}
    objects = []
    for number, message in enumerate(graph.messages("nodes", "SavedObject", _OBJECT)):
        user = described.get(number) or message.message("user_object", "SavedUserObject", _USER_OBJECT)
        objects.append(
            _Object(
                children=_children(message),
                identifier=user.text("identifier"),
                metadata=user.text("metadata"),
                is_variable=message.has("variable"),
                shape=_variable_shape(message),
            )
        )
    if not objects:
        raise ModelError(f"its saved_model.pb has no objects of Keras{_KEEP}")
    return objects


def _children(message: Message) -> dict[str, int]:
    references = message.messages("children", "ObjectReference", _CHILD)
    return {reference.text("local_name"): reference.number("node_id") for reference in references}


def _variable_shape(message: Message) -> tuple[int, ...]:
    if not message.has("variable"):
        return ()
    return read_shape(message.message("variable", "SavedVariable", _VARIABLE).content("shape"))


def _read(path: Path) -> bytes:
    with open_file(path, lambda reason: ModelError(f"cannot read {path.name}: {reason}")) as file:
        try:
            content = file.read(LARGEST_GRAPH + 1)
        except OSError as error:
            raise ModelError(f"cannot read {path.name}: {error.strerror or error}") from None
    if len(content) > LARGEST_GRAPH:
        raise ModelError(f"{path.name} has more than {LARGEST_GRAPH} bytes, which is more than mlia reads")
    return content


def _at(objects: list[_Object], number: int) -> _Object:
    if number >= len(objects):
        raise ModelError(f"its saved_model.pb is damaged: it refers to object {number} of {len(objects)}")
    return objects[number]


def _described(objects: list[_Object], number: int, what: str) -> dict[str, Any]:
    metadata = _at(objects, number).metadata
    if not metadata:
        raise ModelError(f"{what} has no configuration of Keras layers, as after model.export() of Keras 3{_KEEP}")
    return parse_config(metadata, f"the configuration of {what}")


def _without_tuples(value: Any, depth: int) -> Any:
    """Lists for what this container alone writes as {"class_name": "__tuple__" | "TensorShape", "items": […]}."""
    if depth > _DEEPEST:
        raise ModelError(f"it is damaged: its configuration is more than {_DEEPEST} levels deep")
    if isinstance(value, list):
        return [_without_tuples(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return _without_tuples(value["items"], depth)
    return {key: _without_tuples(item, depth + 1) for key, item in value.items()}


def _layer_ids(objects: list[_Object], network: Node, number: int) -> dict[str, int]:
    """The number of the object of each layer, by path. An object's layers are its children layer-0, layer-1, …"""
    by_name: dict[str, int] = {}
    for child, target in _at(objects, number).children.items():
        if child.startswith("layer-"):
            name = _described(objects, target, child).get("name")
            if not isinstance(name, str) or by_name.setdefault(name, target) != target:
                raise ModelError(f"its saved_model.pb is damaged: two layers have the name {name!r}")
    ids: dict[str, int] = {}
    for node in network.layers:
        if node.name in by_name:
            ids |= _layer_ids(objects, node, by_name[node.name]) if node.is_network else {node.path: by_name[node.name]}
        elif node.kind != "InputLayer":  # a Sequential model's is in its configuration only
            raise ModelError(f"its saved_model.pb is damaged: it has no object of the layer '{node.path}'")
    return ids


def _variables(objects: list[_Object], node: Node, ids: dict[str, int]) -> list[int]:
    """The variables of a layer in the order of get_weights()."""
    if node.path not in ids:
        return []
    layer = _at(objects, ids[node.path])
    if "variables" not in layer.children:  # inputs, and functions that became layers
        if any(_at(objects, child).is_variable for child in layer.children.values()):
            raise ModelError(f"its saved_model.pb is damaged: the layer '{node.path}' does not list its variables")
        return []
    listed = _at(objects, layer.children["variables"]).children
    numbers = [str(number) for number in range(len(listed))]
    if set(numbers) != set(listed) or not all(_at(objects, target).is_variable for target in listed.values()):
        raise ModelError(f"its saved_model.pb is damaged: the layer '{node.path}' lists what are no variables")
    return [listed[number] for number in numbers]


def _checkpoint_keys(objects: list[_Object], bundle: TensorBundle) -> dict[int, str]:
    """The key in the checkpoint of each variable, by walking both graphs of objects side by side."""
    graph = Message(bundle.text(_OBJECTS), "TrackableObjectGraph", _GRAPH)
    stored = graph.messages("nodes", "TrackableObject", _CHECKPOINT_OBJECT)
    if not stored:
        raise ModelError("variables.index is damaged: its graph of objects is empty")
    children = [_children(message) for message in stored]
    keys: dict[int, str] = {}
    pending, seen = [(0, 0)], {0}
    while pending:
        ours, theirs = pending.pop()
        if objects[ours].is_variable:
            for attribute in stored[theirs].messages("attributes", "SerializedTensor", _ATTRIBUTE):
                if attribute.text("name") == "VARIABLE_VALUE":
                    keys[ours] = attribute.text("checkpoint_key")
        for name, target in objects[ours].children.items():
            other = children[theirs].get(name)
            if other is None or target in seen:
                continue
            if other >= len(stored):
                raise ModelError(f"variables.index is damaged: it refers to object {other} of {len(stored)}")
            _at(objects, target)
            seen.add(target)
            pending.append((target, other))
    return keys


def _array(bundle: TensorBundle, keys: dict[int, str], objects: list[_Object], variable: int, node: Node) -> Array:
    if variable not in keys:
        raise ModelError(f"its checkpoint has no value of a variable of the layer '{node.path}'; save the model again")
    array = bundle.array(keys[variable])
    if array.shape != objects[variable].shape:
        raise ModelError(
            f"its variables are of another model: the layer '{node.path}' has a weight of shape "
            f"{objects[variable].shape}, and its checkpoint has {array.shape}; copy the whole folder"
        )
    return array

"""The calls of layers as Keras 2 and Keras 3 store them, in one form."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from mlia.errors import ModelError
from mlia.graph.formats.keras_layer import Layer
from mlia.graph.formats.keras_operations import Given

_INPUTS = ("inputs", "input", "x")
# Inputs that some layers have beside, in the order in which they take them.
_FURTHER_INPUTS: Mapping[str, tuple[str, ...]] = {
    "MultiHeadAttention": ("query", "value", "key"),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"), ("sequences", "sequence", "initial_state")),
}
_CONSTANT = "_CONSTANT_VALUE"  # where Keras 2 stores a number in the place of the first tensor


class Reference(Struct, frozen=True):
    """One output of one call of a layer, as Keras counts them."""

    layer: str
    call: int
    output: int


class Call(Struct, frozen=True):
    """One call of a layer with arguments, in which References stand for tensors."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def untupled(value: Any) -> Any:
    """A configuration with lists where SavedModel folders keep {"class_name": "__tuple__", "items": […]}."""
    if isinstance(value, Mapping):
        if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
            return untupled(value["items"])
        return {key: untupled(each) for key, each in value.items()}
    return [untupled(each) for each in value] if isinstance(value, list | tuple) else value


def references(value: Any) -> list[Reference]:
    """The tensors that a stored structure of ["layer", call, output] names, in order."""
    if isinstance(value, Mapping):
        return [each for part in value.values() for each in references(part)]
    if not isinstance(value, list | tuple):
        raise TypeError(f"{value!r} names no tensor")
    if len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int):
        return [Reference(value[0], value[1], value[2])]
    return [each for part in value for each in references(part)]


def stored_call(node: Any) -> Call:
    """A call as Keras 3 stores it, {"args", "kwargs"}, or Keras 2, [[layer, call, output, kwargs], …]."""
    if isinstance(node, Mapping):
        return Call(tuple(_revived(each) for each in node["args"]), _revived(node["kwargs"]))
    if node and isinstance(node[0], str):  # TensorFlow 2.4 and later write a single tensor without a list around it
        node = [node]
    tensors = [each[2] if each[0] == _CONSTANT else Reference(each[0], each[1], each[2]) for each in node]
    kwargs: dict[str, Any] = {}
    for each in node:
        kwargs |= {key: _legacy(value) for key, value in (each[3] if len(each) > 3 else {}).items()}
    return Call((tensors[0] if len(tensors) == 1 else tensors,), kwargs)


def _revived(value: Any) -> Any:
    """Keras 3's arguments with References for its stored tensors and slices for its stored slices."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if value.get("class_name") == "__keras_tensor__" and isinstance(config, Mapping):
            return Reference(*config["keras_history"])
        if value.get("class_name") == "__slice__" and isinstance(config, Mapping):
            return slice(config["start"], config["stop"], config["step"])
        return {key: _revived(each) for key, each in value.items()}
    return [_revived(each) for each in value] if isinstance(value, list) else value


def _legacy(value: Any) -> Any:
    """Keras 2's keyword arguments, in which ["layer", 0, 0] is a tensor."""
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], str) and all(isinstance(each, int) for each in value[1:]):
            return Reference(*value)
        return [_legacy(each) for each in value]
    if isinstance(value, Mapping) and {"start", "stop", "step"} <= set(value):
        return slice(value["start"], value["stop"], value["step"])
    return value


def within(value: Any) -> Iterator[Reference]:
    """The References in the arguments of a call."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, Call):
        yield from within([value.args, value.kwargs])
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from within(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from within(each)


def moved(each: Reference, shift: Mapping[str, int]) -> Reference:
    """The same, with its call counted from 0."""
    return Reference(each.layer, each.call - shift.get(each.layer, 0), each.output)


def filled(value: Any, values: Mapping[Reference, int], shift: Mapping[str, int]) -> Any:
    """The same arguments with tensors for References."""
    if isinstance(value, Reference):
        wanted = moved(value, shift)
        if wanted not in values:
            raise ModelError(f"its layer '{value.layer}' has no output {value.output} of call {value.call}")
        return Given(values[wanted])
    if isinstance(value, Call):
        return Call(tuple(filled(list(value.args), values, shift)), filled(value.kwargs, values, shift))
    if isinstance(value, Mapping):
        return {key: filled(each, values, shift) for key, each in value.items()}
    return [filled(each, values, shift) for each in value] if isinstance(value, list) else value


def tensors_of(call: Call, path: str, kind: str) -> list[int]:
    """The inputs of a layer's call; arguments that would change what it computes are refused."""
    inputs = (*_INPUTS, *_FURTHER_INPUTS.get(kind, ()))
    for name, value in call.kwargs.items():
        if value is not None and value is not False and name not in inputs:
            Layer(path, str(kind), {}).refuse(f"it is called with the argument {name}")
    tensors: list[int] = []
    pending = [*call.args, *(call.kwargs[name] for name in inputs if name in call.kwargs)]
    while pending:
        each = pending.pop(0)
        if isinstance(each, list | tuple):
            pending = [*each, *pending]
        elif isinstance(each, Mapping):
            pending = [*each.values(), *pending]
        elif isinstance(each, Given):
            tensors.append(each.tensor)
        elif each is not None:
            Layer(path, str(kind), {}).refuse(f"it is called with {each!r}")
    return tensors

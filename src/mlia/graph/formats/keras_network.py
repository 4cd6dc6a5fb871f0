"""The configuration of a Keras network, Sequential or Functional, walked from its inputs to its outputs."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from mlia.errors import ModelError
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_calls import Call, Reference, filled, moved, references, stored_call, tensors_of, within
from mlia.graph.formats.keras_layer import NEXT_STEP, Config, Layer
from mlia.graph.formats.keras_layers import apply_layer
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.formats.keras_operations import Given, apply_operation, is_operation

NETWORKS = ("Functional", "Sequential", "Model")
_DEEPEST = 32  # models inside models; far more than anyone nests, far less than Python's stack


def generation(config: Any) -> int:
    """Which Keras wrote a configuration: 3 calls an input's shape batch_shape, 2 called it batch_input_shape."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            if "batch_shape" in part or "__keras_tensor__" in part.values():
                return 3
            pending.extend(value for key, value in part.items() if key in ("config", "layers", "inbound_nodes", "args"))
        elif isinstance(part, list):
            pending.extend(part)
    return 2


class Network:
    """One network of a model: the model itself, or one inside it, by its path; "" for the model itself."""

    def __init__(self, model: KerasModel, kind: str, config: Any, path: str = "", depth: int = 0) -> None:
        if kind not in NETWORKS or depth > _DEEPEST:
            raise ModelError(f"it holds a model of the class {kind}, which only its own code can run; {NEXT_STEP}")
        self._model = model
        self._path = path
        self._depth = depth
        self.generation = generation(model.config)
        self.is_sequential = kind == "Sequential"
        self._config: Config = {"layers": config} if isinstance(config, list) else config
        if "layers" not in self._config or (not self.is_sequential and "output_layers" not in self._config):
            raise ModelError(f"it holds no layers that could be read, as models with code of their own do; {NEXT_STEP}")
        self._layers: dict[str, Config] = {}
        for layer in self._config["layers"]:
            name = layer.get("name") or layer["config"]["name"]
            if name in self._layers:
                raise ModelError(f"two of its layers are called '{name}'")
            self._layers[name] = layer

    def inputs(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Shape and type by the name of each input, None where a size is open."""
        if not self.is_sequential:
            names = [each.layer for each in references(self._config["input_layers"])]
            return {name: self._input(self._layers[name]["config"]) for name in names}
        if not self._layers:
            raise ModelError("it has no layers")
        name, first = next(iter(self._layers.items()))
        if first["class_name"] == "InputLayer":
            return {name: self._input(first["config"])}
        if first["class_name"] in NETWORKS:
            inner = Network(self._model, first["class_name"], first["config"], name, self._depth + 1)
            return inner.inputs()
        config = first["config"]
        shape = config.get("batch_input_shape") or config.get("batch_shape") or self._config.get("build_input_shape")
        if shape is None:
            raise ModelError(
                f"it does not say the shape of its inputs; build the model before saving it, or {NEXT_STEP}"
            )
        return {f"{name}_input": self._input({**config, "batch_shape": shape})}

    def output_names(self) -> list[str]:
        """The names of the layers that make the outputs."""
        if self.is_sequential:
            return [next(reversed(self._layers))]
        return [each.layer for each in references(self._config["output_layers"])]

    def build(self, net: LayerBuilder, inputs: Sequence[int]) -> list[int]:
        """Add the operators of all layers, and return the outputs."""
        if self.is_sequential:
            tensors = list(inputs)
            for name, layer in self._layers.items():
                if layer["class_name"] != "InputLayer":
                    tensors = self._called(net, name, layer, Call(([Given(each) for each in tensors],), {}))
            return tensors
        return self._functional(net, inputs)

    def _functional(self, net: LayerBuilder, inputs: Sequence[int]) -> list[int]:
        names = [each.layer for each in references(self._config["input_layers"])]
        if len(names) != len(inputs):
            raise ModelError(f"the model '{self._path}' takes {len(names)} inputs and is given {len(inputs)}")
        values = {Reference(name, 0, 0): tensor for name, tensor in zip(names, inputs, strict=True)}
        calls = self._calls()
        shift = self._shifts(calls)
        for (name, number), call in _in_order(calls, set(values), shift):
            results = self._called(net, name, self._layers[name], filled(call, values, shift))
            values |= {Reference(name, number, index): tensor for index, tensor in enumerate(results)}
        outputs = []
        for each in references(self._config["output_layers"]):
            moved = self._output_shift(each, shift, calls)
            if moved not in values:
                raise ModelError(f"its output '{each.layer}' is nothing that its layers compute")
            outputs.append(values[moved])
        return outputs

    def _calls(self) -> dict[tuple[str, int], Call]:
        """All calls by the layer's name and their number."""
        calls = {}
        for name, layer in self._layers.items():
            for number, node in enumerate(layer.get("inbound_nodes") or []):
                calls[(name, number)] = stored_call(node)
        return calls

    def _shifts(self, calls: Mapping[tuple[str, int], Call]) -> dict[str, int]:
        """What to subtract from the call numbers of networks inside: Keras 2 counts from 1 those that have an input."""
        if self.generation == 3:
            return {}
        seen: dict[str, set[int]] = {}
        used = [each for call in calls.values() for each in within(call)]
        for each in [*used, *references(self._config["output_layers"])]:
            seen.setdefault(each.layer, set()).add(each.call)
        return {
            name: 1
            for name, numbers in seen.items()
            if self._layers.get(name, {}).get("class_name") in NETWORKS and 0 not in numbers
        }

    def _output_shift(
        self, each: Reference, shift: Mapping[str, int], calls: Mapping[tuple[str, int], Call]
    ) -> Reference:
        """Keras 3 counts the calls of Functional models from 1 in its list of outputs, and from 0 elsewhere."""
        layer = self._layers.get(each.layer, {})
        if self.generation == 3 and layer.get("class_name") in ("Functional", "Model"):
            return Reference(each.layer, each.call - 1, each.output)
        return Reference(each.layer, each.call - shift.get(each.layer, 0), each.output)

    def _called(self, net: LayerBuilder, name: str, stored: Config, call: Call) -> list[int]:
        """One call of a layer, an operation or a network inside this one."""
        path = f"{self._path}/{name}" if self._path else name
        kind, config = stored["class_name"], stored["config"]
        if kind in NETWORKS:
            inner = Network(self._model, kind, config, path, self._depth + 1)
            return inner.build(net, tensors_of(call, path, kind))
        layer = Layer(path, str(kind), config, self._model.weights.get(path, ()), self.generation)
        if kind == "InputLayer":
            layer.refuse("it is in the middle of the model")
        if is_operation(layer):
            return [apply_operation(net, layer, call.args, call.kwargs)]
        return apply_layer(net, layer, tensors_of(call, path, kind))

    def _input(self, config: Config) -> tuple[tuple[int | None, ...], str]:
        shape = config.get("batch_shape") or config["batch_input_shape"]
        dtype = config.get("dtype") or "float32"
        if isinstance(dtype, Mapping):
            dtype = dtype["config"]["name"]
        if config.get("sparse") or config.get("ragged"):
            raise ModelError(f"its input '{config.get('name')}' is sparse or ragged")
        return tuple(None if size is None else int(size) for size in shape), str(dtype)


def _in_order(
    calls: Mapping[tuple[str, int], Call], known: set[Reference], shift: Mapping[str, int]
) -> Iterator[tuple[tuple[str, int], Call]]:
    """The calls, each after those whose outputs it reads, else in the order in which they are stored."""
    place = {key: number for number, key in enumerate(calls)}
    ready_inputs = {(each.layer, each.call) for each in known}
    waiting: dict[tuple[str, int], set[tuple[str, int]]] = {}
    readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for key, call in calls.items():
        needs = {(each.layer, each.call) for each in (moved(each, shift) for each in within(call))} - ready_inputs
        waiting[key] = needs
        for need in needs:
            readers.setdefault(need, []).append(key)
    ready = [(place[key], key) for key, needs in waiting.items() if not needs]
    heapify(ready)
    done = 0
    while ready:
        _, key = heappop(ready)
        done += 1
        yield key, calls[key]
        for reader in readers.get(key, []):
            waiting[reader].discard(key)
            if not waiting[reader]:
                heappush(ready, (place[reader], reader))
    if done < len(calls):
        stuck = min((key for key, needs in waiting.items() if needs), key=lambda key: place[key])
        raise ModelError(f"its layer '{stuck[0]}' reads what no layer before it makes; the file is damaged")

"""Recurrent layers of Keras: LSTM as TFLite's fused operator, other cells unrolled step by step."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.graph.formats.keras_activations import activation, name_of
from mlia.graph.formats.keras_builder import LayerBuilder
from mlia.graph.formats.keras_layer import Layer
from mlia.graph.graph import Tensor

MOST_STEPS = 1024  # of an unrolled layer; each step is about ten operators
_Cell: TypeAlias = Callable[[LayerBuilder, "_Step", Sequence[int] | None], tuple[int, ...]]


class _Step(Struct, frozen=True):
    """One time step of an unrolled layer: by gate, the input's part (B, units) and what multiplies the state."""

    layer: Layer
    name: str
    parts: tuple[int, ...]
    weights: tuple[int, ...]
    biases: tuple[int, ...]
    last: str  # the name of the step's output


def recurrent(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> list[int]:
    """LSTM, GRU and SimpleRNN of (B, T, C), from the state that is given as further inputs, or from zeros.

    A layer that keeps its state begins with one that is an input of the model, and the next is an output of it. The
    outputs are those of the layer: with `return_state` its last state comes behind.

    Raises:
        ModelError: it has another state than it takes, or more than MOST_STEPS steps to unroll.
    """
    x, *given = inputs
    layer.expect(net.shape(x), 3)
    if layer.flag("time_major"):
        layer.refuse("it has the option time_major")
    backwards, sequences = layer.flag("go_backwards"), layer.flag("return_sequences")
    first = _first_state(net, layer, net.shape(x)[0], given)
    if backwards:
        x = reverse(net, x, f"{layer.name}/reverse")
    cell = (name_of(layer, "activation", "tanh"), name_of(layer, "recurrent_activation", "sigmoid"))
    keeps, returns = layer.flag("stateful") and not given, layer.flag("return_state")
    if layer.kind == "LSTM" and cell == ("tanh", "sigmoid") and not (first or keeps or returns):
        return [_fused_lstm(net, layer, x, sequences)]
    y, last = _unrolled(net, layer, x, sequences, first)
    if keeps:
        net.states += zip(first, last, strict=True)
    return [y, *last] if returns else [y]


def recurrent_of_cell(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> list[int]:
    """RNN: a cell of LSTM, GRU or SimpleRNN, called step by step as those layers call it.

    Raises:
        ModelError: it has another cell, or several, or what `recurrent` refuses.
    """
    cell = layer.config["cell"]
    kind = str(cell.get("class_name"))
    if kind not in CELLS:
        layer.refuse(f"its cell is a {kind}, and {', '.join(CELLS)} are read")
    config = {**cell["config"], **{key: value for key, value in layer.config.items() if key != "cell"}}
    return recurrent(net, layer.part(layer.name, kind.removesuffix("Cell"), config, layer.weights), inputs)


def bidirectional(net: LayerBuilder, layer: Layer, inputs: Sequence[int]) -> list[int]:
    """Bidirectional: a layer forwards and one backwards, merged; the states of both are behind one another.

    Raises:
        ModelError: what it wraps is no recurrent layer that is read.
    """
    x, *given = inputs
    layer.expect(net.shape(x), 3)
    halves = len(layer.weights) // 2
    wrapped = layer.config["layer"]
    backward = layer.config.get("backward_layer") or wrapped
    merge = layer.config.get("merge_mode", "concat")
    kinds = {"concat": "", "sum": "ADD", "mul": "MUL", "ave": "ADD"}
    if merge not in kinds:
        layer.refuse(f"its merge_mode is {merge!r}")
    if len(given) % 2:
        layer.refuse(f"it is given {len(given)} states for two layers")
    results, states = [], []
    for number, (direction, each) in enumerate((("forward", wrapped), ("backward", backward))):
        if each.get("class_name") not in RECURRENT:
            layer.refuse(f"it wraps a {each.get('class_name')}")
        weights = layer.weights[:halves] if number == 0 else layer.weights[halves:]
        inner = layer.part(f"{layer.name}/{direction}", each["class_name"], each["config"], weights)
        # A backward layer that Keras stored says its direction itself; one made from the forward layer is turned here.
        turned = number == 1 and backward is wrapped
        sequence = reverse(net, x, f"{inner.name}/turn") if turned else x
        first = given[len(given) // 2 :] if number else given[: len(given) // 2]
        y, *last = recurrent(net, inner, [sequence, *first])
        if number == 1 and inner.flag("return_sequences"):
            y = reverse(net, y, f"{inner.name}/turn_back")
        results.append(y)
        states += last
    return [_merged(net, layer, results, merge, kinds[merge]), *states]


def _merged(net: LayerBuilder, layer: Layer, results: Sequence[int], merge: str, kind: str) -> int:
    if merge == "concat":
        return net.concatenation(results, -1, layer.name)
    if merge == "ave":
        return net.scaled(net.binary("ADD", results[0], results[1], f"{layer.name}/sum"), 0.5, layer.name)
    return net.binary(kind, results[0], results[1], layer.name)


def _first_state(net: LayerBuilder, layer: Layer, batch: int, given: Sequence[int]) -> tuple[int, ...]:
    """The state (B, units) before the first step: what is given, new inputs where it is kept, nothing for zeros."""
    count = 2 if layer.kind == "LSTM" else 1
    shape = (batch, int(layer.config["units"]))
    if given and (len(given) != count or any(net.shape(each) != shape for each in given)):
        layer.refuse(f"it is given states of the shapes {[net.shape(each) for each in given]}")
    if given or not layer.flag("stateful"):
        return tuple(given)
    return tuple(net.input(f"{layer.name}/state_{number}", shape) for number in range(count))


def reverse(net: LayerBuilder, x: int, name: str) -> int:
    """REVERSE_V2 along the time of (B, T, C)."""
    return net.emit("REVERSE_V2", [x, net.sizes(f"{name}/axes", [1])], net.shape(x), name, "ReverseV2Options")


def _fused_lstm(net: LayerBuilder, layer: Layer, x: int, sequences: bool) -> int:
    """UNIDIRECTIONAL_SEQUENCE_LSTM; its gates are, as in Keras, input, forget, cell and output."""
    batch, steps, depth = net.shape(x)
    kernels, states, biases, _ = _gates(net, layer, depth, 4)
    units = net.shape(states[0])[1]
    memory = [
        net.tensor(Tensor(f"{layer.name}/{name}", (batch, units), "float32", is_variable=True))
        for name in ("output_state", "cell_state")
    ]
    absent = [-1] * 4
    inputs = [x, *kernels, *states, *absent[:3], *biases, *absent[:2], *memory, *absent]
    y = net.emit(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, (batch, steps, units),
        layer.name if sequences else f"{layer.name}/sequence", "UnidirectionalSequenceLSTMOptions",
        {"fused_activation_function": "TANH", "time_major": False},
    )  # fmt: skip
    # Where a quantizer notes the ranges of what the gates sum up; it refuses an LSTM without them.
    notes = [net.tensor(Tensor(f"{layer.name}/range_{number}", (1,), "float32")) for number in range(5)]
    net.operators[-1] = replace(net.operators[-1], intermediates=tuple(notes))
    if sequences:
        return y
    return net.sliced(y, [0, steps - 1, 0], [batch, steps, units], layer.name, drop=[1])


def _unrolled(
    net: LayerBuilder, layer: Layer, x: int, sequences: bool, first: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    """One cell per time step, and the last state; the products with the input are computed for all steps at once."""
    batch, steps, depth = net.shape(x)
    if steps > MOST_STEPS:
        layer.refuse(f"it has {steps} time steps, and at most {MOST_STEPS} are unrolled")
    cell, count = _CELLS[layer.kind]
    kernels, weights, biases, recurrent_biases = _gates(net, layer, depth, count)
    units = net.shape(weights[0])[1]
    products = [
        net.dense(x, kernel, bias, f"{layer.name}/input_{gate}")
        for gate, (kernel, bias) in enumerate(zip(kernels, biases, strict=True))
    ]
    state = first or None
    outputs = []
    for time in range(steps):
        name = f"{layer.name}/step_{time}"
        parts = tuple(
            net.sliced(y, [0, time, 0], [batch, time + 1, units], f"{name}/input_{gate}", drop=[1])
            for gate, y in enumerate(products)
        )
        last = layer.name if time == steps - 1 and not sequences else name
        state = cell(net, _Step(layer, name, parts, tuple(weights), tuple(recurrent_biases), last), state)
        if sequences:
            outputs.append(net.reshape(state[0], (batch, 1, units), f"{name}/expand", extra=True))
    assert state is not None  # a shape has no axis of no steps
    return net.concatenation(outputs, 1, layer.name) if sequences else state[0], state


def _gates(
    net: LayerBuilder, layer: Layer, depth: int, count: int
) -> tuple[list[int], list[int], list[int], list[int]]:
    """By gate: kernels (units, depth), recurrent kernels (units, units), biases of the input and of the state."""
    units = int(layer.config["units"])
    twice = layer.kind == "GRU" and _resets_after(layer)
    biased = layer.flag("use_bias", True)
    bias_shape: tuple[int, ...] = (2, count * units) if twice else (count * units,)
    shapes: list[tuple[int, ...]] = [(depth, count * units), (units, count * units)]
    kernel, state, *bias = layer.arrays(*shapes, *([bias_shape] if biased else []))
    rows = (bias[0] if biased else numpy.zeros(bias_shape, numpy.float32)).reshape(-1, count * units)
    rows = rows if twice else numpy.concatenate([rows, numpy.zeros_like(rows)])

    def split(name: str, number: int, values: Any) -> list[int]:
        source = layer.weights[number]
        return [
            net.weight(f"{layer.name}/{name}_{gate}", source, values[..., gate * units : (gate + 1) * units].T)
            for gate in range(count)
        ]

    return split("kernel", 0, kernel), split("state", 1, state), split("bias", -1, rows[0]), split("shift", -1, rows[1])


def _product(net: LayerBuilder, step: _Step, gate: int, state: int | None) -> int:
    """What the state adds to a gate: its recurrent kernel times the state; at the first step only the bias."""
    if state is None:
        return step.biases[gate]
    # A bias is quantized by the scale of its operator's input, which each step has of its own.
    shared = net.tensors[step.biases[gate]]
    own = replace(shared, name=f"{step.name}/shift_{gate}", data=memoryview(bytes(shared.data)))
    return net.dense(state, step.weights[gate], net.tensor(own), f"{step.name}/state_{gate}")


def _is_zero(net: LayerBuilder, tensor: int) -> bool:
    """Whether it is a constant of zeros."""
    return net.tensors[tensor].is_constant and not any(net.tensors[tensor].data)


def _resets_after(layer: Layer) -> bool:
    """Keras 2 before TensorFlow 2 knew only the other way, and did not write the option."""
    return layer.flag("reset_after", layer.generation == 3)


def _gate(net: LayerBuilder, step: _Step, gate: int, state: int | None, key: str, default: str, name: str = "") -> int:
    name = name or f"{step.name}/gate_{gate}"
    total = net.binary("ADD", step.parts[gate], _product(net, step, gate, state), f"{name}/sum")
    return _activated(net, step, total, key, default, name)


def _activated(net: LayerBuilder, step: _Step, x: int, key: str, default: str, name: str) -> int:
    return activation(net, step.layer, x, step.layer.config.get(key, default), name)


def _simple_cell(net: LayerBuilder, step: _Step, state: Sequence[int] | None) -> tuple[int, ...]:
    return (_gate(net, step, 0, state[0] if state else None, "activation", "tanh", step.last),)


def _lstm_cell(net: LayerBuilder, step: _Step, state: Sequence[int] | None) -> tuple[int, ...]:
    """Gates: input, forget, cell, output. The state is the output and the memory."""
    output, memory = state or (None, None)
    keys = ("recurrent_activation", "recurrent_activation", "activation", "recurrent_activation")
    taken, kept, fresh, shown = (
        _gate(net, step, gate, output, key, "tanh" if key == "activation" else "sigmoid")
        for gate, key in enumerate(keys)
    )
    memory_now = net.binary("MUL", taken, fresh, f"{step.name}/taken")
    if memory is not None:
        memory_now = net.binary(
            "ADD", net.binary("MUL", kept, memory, f"{step.name}/kept"), memory_now, f"{step.name}/memory"
        )
    curve = _activated(net, step, memory_now, "activation", "tanh", f"{step.name}/shown")
    return net.binary("MUL", shown, curve, step.last), memory_now


def _gru_cell(net: LayerBuilder, step: _Step, state: Sequence[int] | None) -> tuple[int, ...]:
    """Gates: update, reset, candidate. The reset is applied after or before the recurrent product."""
    before = state[0] if state else None
    update = _gate(net, step, 0, before, "recurrent_activation", "sigmoid")
    reset = _gate(net, step, 1, before, "recurrent_activation", "sigmoid")
    if _resets_after(step.layer):
        past = _product(net, step, 2, before)
        if not _is_zero(net, past):
            past = net.binary("MUL", reset, past, f"{step.name}/past")
    else:
        selected = None if before is None else net.binary("MUL", reset, before, f"{step.name}/selected")
        past = _product(net, step, 2, selected)
    total = step.parts[2]
    if not _is_zero(net, past):  # zeros would get a scale that says nothing
        total = net.binary("ADD", total, past, f"{step.name}/candidate/sum")
    fresh = _activated(net, step, total, "activation", "tanh", f"{step.name}/candidate")
    # update * before + (1 - update) * fresh, with one product less
    if before is None:
        taken = net.binary("MUL", update, fresh, f"{step.name}/held")
        return (net.binary("SUB", fresh, taken, step.last),)
    gap = net.binary("SUB", before, fresh, f"{step.name}/gap")
    return (net.binary("ADD", fresh, net.binary("MUL", update, gap, f"{step.name}/held"), step.last),)


_CELLS: dict[str, tuple[_Cell, int]] = {"SimpleRNN": (_simple_cell, 1), "LSTM": (_lstm_cell, 4), "GRU": (_gru_cell, 3)}
RECURRENT = tuple(_CELLS)
CELLS = tuple(f"{kind}Cell" for kind in RECURRENT)

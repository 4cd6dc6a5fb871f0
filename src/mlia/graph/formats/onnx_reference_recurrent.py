"""ONNX's LSTM, GRU and RNN in numpy, step by step.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
"""

from typing import Any

import numpy

from mlia.graph.formats.onnx_model import Node

Array = Any
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def directions(node: Node) -> tuple[bool, ...]:
    """For each direction whether it runs backwards; refuses what neither reference nor TFLite form computes."""
    chosen = [str(each).lower() for each in node.attributes.get("activations") or []]
    kinds = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    turned = kinds.get(node.text("direction", "forward"))
    if turned is None:
        node.refuse(f"its direction is {node.text('direction', '')}")
    if chosen and chosen != _ACTIVATIONS[node.kind] * len(turned):
        node.refuse(f"its activations are {', '.join(chosen)}")
    for key in ("clip", "input_forget", "layout"):
        if node.attributes.get(key):
            node.refuse(f"it has the option {key}")
    return turned


def recurrent(node: Node, x: Array, w: Array, r: Array, b: Array = None, lengths: Array = None, *states: Array) -> Any:
    """X: (steps, batch, inputs); W: (directions, gates * units, inputs). Gives Y and the last states."""
    turned = directions(node)
    steps, batch = x.shape[:2]
    if lengths is not None and (lengths != steps).any():
        node.refuse("its sequences have lengths of their own")
    if len(states) > 2 and states[2] is not None and states[2].any():
        node.refuse("it has peepholes")
    units = r.shape[-1]
    outputs, last, memories = [], [], []
    for way, backwards in enumerate(turned):
        bias = numpy.zeros(2 * GATES[node.kind] * units, numpy.float32) if b is None else b[way]
        hidden, memory = (
            numpy.zeros((batch, units), numpy.float32) if len(states) <= i or states[i] is None else states[i][way]
            for i in range(2)
        )
        made = []
        for step in x[::-1] if backwards else x:
            hidden, memory = _CELLS[node.kind](node, step, w[way], r[way], numpy.split(bias, 2), hidden, memory)
            made.append(hidden)
        outputs.append(numpy.stack(made[::-1] if backwards else made))
        last.append(hidden)
        memories.append(memory)
    y = numpy.stack(outputs, 1).astype(numpy.float32)
    return [y, numpy.stack(last), numpy.stack(memories)][: max(len(node.outputs), 1)]


def _lstm(node: Node, x: Array, w: Array, r: Array, bias: Any, hidden: Array, memory: Array) -> Any:
    """Gates: input, output, forget, cell."""
    gates = numpy.split(x @ w.T + hidden @ r.T + bias[0] + bias[1], 4, axis=1)
    taken, shown, kept = (_sigmoid(gate) for gate in gates[:3])
    memory = kept * memory + taken * numpy.tanh(gates[3])
    return shown * numpy.tanh(memory), memory


def _gru(node: Node, x: Array, w: Array, r: Array, bias: Any, hidden: Array, memory: Array) -> Any:
    """Gates: update, reset, hidden."""
    ours, past = numpy.split(x @ w.T + bias[0], 3, axis=1), numpy.split(hidden @ r.T + bias[1], 3, axis=1)
    update, reset = _sigmoid(ours[0] + past[0]), _sigmoid(ours[1] + past[1])
    if node.integer("linear_before_reset", 0):
        fresh = numpy.tanh(ours[2] + reset * past[2])
    else:
        units = hidden.shape[1]
        fresh = numpy.tanh(ours[2] + (reset * hidden) @ r[2 * units :].T + bias[1][2 * units :])
    return (1 - update) * fresh + update * hidden, memory


def _rnn(node: Node, x: Array, w: Array, r: Array, bias: Any, hidden: Array, memory: Array) -> Any:
    return numpy.tanh(x @ w.T + hidden @ r.T + bias[0] + bias[1]), memory


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + numpy.exp(-x))


_CELLS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
RECURRENT = dict.fromkeys(_CELLS, recurrent)

"""ONNX's matrix products and recurrent operators as TFLite's."""

from typing import Any

import numpy

from mlia.errors import ModelError
from mlia.graph.formats.keras_recurrent import MOST_STEPS
from mlia.graph.formats.onnx_flow import Array, Flow, Value, plain
from mlia.graph.formats.onnx_model import Node
from mlia.graph.formats.onnx_reference_recurrent import GATES, directions
from mlia.graph.graph import OptionValue


def gemm(flow: Flow, node: Node) -> Value:
    """Gemm: FULLY_CONNECTED with constant weights, BATCH_MATMUL else."""
    weights, alpha, beta = flow.constant(node, 1), node.number("alpha", 1.0), node.number("beta", 1.0)
    turned = bool(node.integer("transA", 0))
    x = flow.ordered(node.inputs[0], (1, 0)) if turned else flow.plain(node.inputs[0])
    bias = flow.constant(node, 2)
    if weights is None:
        other = flow.plain(node.inputs[1])
        y = product(flow, x, other, bool(node.integer("transB", 0)), node.name)
        y = y if alpha == 1 else flow.net.scaled(y, alpha, node.name)
    else:
        matrix = (weights if node.integer("transB", 0) else weights.T) * numpy.float32(alpha)
        fits = bias is not None and bias.size == matrix.shape[0] and bias.shape[-1] == bias.size
        offset = flow.net.constant(f"{node.name}/bias", bias.reshape(-1) * numpy.float32(beta)) if fits else None
        y = dense(flow, node, x, matrix, offset)
        if fits:
            return Value(y, plain(2))
    if not flow.has(node, 2):
        return Value(y, plain(2))
    if bias is not None:
        term = flow.net.constant(f"{node.name}/bias", bias * numpy.float32(beta))
    else:
        shape = flow.shape(node.inputs[2])
        term = flow.net.reshape(
            flow.plain(node.inputs[2]), (*[1] * (2 - len(shape)), *shape), f"{node.name}/wide", extra=True
        )
        term = term if beta == 1 else flow.net.scaled(term, beta, f"{node.name}/bias")
    return Value(flow.net.binary("ADD", y, term, node.name), plain(2))


def dense(flow: Flow, node: Node, x: int, matrix: Array, bias: int | None) -> int:
    """FULLY_CONNECTED; weights of an image that was turned and flattened before are turned instead of it."""
    net = flow.net
    makers = {op.outputs[0]: op for op in net.operators}
    flat = makers.get(x)
    turn = makers.get(flat.inputs[0]) if flat and flat.kind == "RESHAPE" else None
    if flat and turn and turn.kind == "TRANSPOSE" and turn.outputs[0] in net.extra and len(net.shape(x)) == 2:
        moves = numpy.frombuffer(net.tensors[turn.inputs[1]].data, numpy.int32).tolist()
        shape, before = net.shape(turn.outputs[0]), net.shape(turn.inputs[0])
        if moves[0] == 0 and shape[0] == net.shape(x)[0]:
            back = [0, *(1 + moves[1:].index(axis) for axis in range(1, len(moves)))]
            matrix = matrix.reshape(len(matrix), *shape[1:]).transpose(back).reshape(len(matrix), -1)
            x = net.reshape(turn.inputs[0], (before[0], int(numpy.prod(before[1:]))), f"{node.name}/flat", extra=True)
    weights = net.weight(f"{node.name}/weights", matrix)
    if node.number("alpha", 1.0) == 1:
        flow.weighed(node, weights)
    return net.dense(x, weights, bias, node.name)


def product(flow: Flow, x: int, y: int, turned: bool, name: str) -> int:
    """BATCH_MATMUL; `turned` says that the second has its last two axes exchanged."""
    net = flow.net
    left, right = net.shape(x), net.shape(y)
    columns, depth = (right[-2], right[-1]) if turned else (right[-1], right[-2])
    if left[-1] != depth:
        raise ModelError(f"it multiplies {left} and {right}")
    shape = (*numpy.broadcast_shapes(left[:-2], right[:-2]), left[-2], columns)
    options: dict[str, OptionValue] = {"adj_x": False, "adj_y": turned}
    return net.emit("BATCH_MATMUL", [x, y], shape, name, "BatchMatMulOptions", options)


def matmul(flow: Flow, node: Node) -> Value:
    """MatMul: FULLY_CONNECTED along the last axis with a constant matrix, BATCH_MATMUL else."""
    left, right = (flow.shape(name) for name in node.inputs)
    weights = flow.constant(node, 1)
    if weights is not None and len(right) == 2 and len(left) >= 2:
        value = flow.value(node.inputs[0])
        if value.order[-1] != len(left) - 1:
            order = (*(axis for axis in value.order if axis != len(left) - 1), len(left) - 1)
            order = plain(len(left)) if len(left) == 2 else order
            value = Value(flow.turned(value, order), order)
        return Value(dense(flow, node, value.index, weights.T, None), value.order)
    operands = []
    turned = False
    for place, (name, shape) in enumerate(zip(node.inputs, (left, right), strict=True)):
        rank = len(shape)
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        if place and rank > 2 and name not in flow.trace.constants and flow.value(name).order == swapped:
            operands.append(flow.value(name).index)
            turned = True
            continue
        x = flow.plain(name)
        if rank == 1:
            x = flow.net.reshape(x, (1, *shape) if not place else (*shape, 1), f"{node.name}/wide", extra=True)
        operands.append(x)
    y = product(flow, operands[0], operands[1], turned, node.name)
    target = flow.shape(node.outputs[0])
    if len(left) == 1 or len(right) == 1:
        y = flow.net.reshape(y, target, node.name, extra=True)
    return Value(y, plain(len(target)))


class _Direction:
    """One direction of a recurrent operator: its weights, made once."""

    def __init__(self, flow: Flow, node: Node, way: int, w: Array, r: Array, b: Array) -> None:
        self.net, self.node, self.units = flow.net, node, r.shape[-1]
        count = GATES[node.kind]
        bias = numpy.zeros(2 * count * self.units, numpy.float32) if b is None else b
        inputs, states = numpy.split(bias, 2)
        if node.kind != "GRU":  # one sum for both
            inputs, states = inputs + states, numpy.zeros_like(states)
        name = f"{node.name}/way_{way}"
        self.kernel = [self._make(f"{name}/kernel_{i}", each) for i, each in enumerate(numpy.split(w, count))]
        self.state = [self._make(f"{name}/state_{i}", each) for i, each in enumerate(numpy.split(r, count))]
        self._states, self._shifts = numpy.split(r, count), numpy.split(states, count)
        self.bias = [self._make(f"{name}/bias_{i}", each) for i, each in enumerate(numpy.split(inputs, count))]
        self.shift = [self._make(f"{name}/shift_{i}", each) for i, each in enumerate(numpy.split(states, count))]

    def _make(self, name: str, values: Array) -> int:
        return self.net.constant(name, values)

    def past(self, gate: int, hidden: "int | Array", name: str) -> int:
        """What the state adds to a gate; of a state that is constant, as the first one often is, it is known."""
        if isinstance(hidden, int):
            return self.net.dense(hidden, self.state[gate], self.shift[gate], f"{name}/state_{gate}")
        known = hidden @ self._states[gate].T + self._shifts[gate]
        return self._make(f"{name}/state_{gate}", known.astype(numpy.float32))

    def sum(self, gate: int, x: int, hidden: "int | Array", name: str) -> int:
        """What input and state add up to."""
        ours = self.net.dense(x, self.kernel[gate], self.bias[gate], f"{name}/input_{gate}")
        return self.net.binary("ADD", ours, self.past(gate, hidden, name), f"{name}/sum_{gate}")

    def _tensor(self, state: "int | Array", name: str) -> int:
        return state if isinstance(state, int) else self._make(name, state)

    def step(self, x: int, hidden: "int | Array", memory: "int | Array", name: str) -> "tuple[int, int | Array]":
        """The next state and memory, (batch, units) both."""
        net = self.net
        if self.node.kind == "RNN":
            return net.unary("TANH", self.sum(0, x, hidden, name), name), memory
        if self.node.kind == "LSTM":  # gates: input, output, forget, cell
            taken, shown, kept = (
                net.unary("LOGISTIC", self.sum(gate, x, hidden, name), f"{name}/gate_{gate}") for gate in range(3)
            )
            fresh = net.unary("TANH", self.sum(3, x, hidden, name), f"{name}/gate_3")
            new = net.binary("MUL", taken, fresh, f"{name}/taken")
            if isinstance(memory, int) or memory.any():
                held = net.binary("MUL", kept, self._tensor(memory, f"{name}/first"), f"{name}/kept")
                new = net.binary("ADD", held, new, f"{name}/memory")
            memory = new
            return net.binary("MUL", shown, net.unary("TANH", memory, f"{name}/shown"), name), memory
        # GRU, gates: update, reset, hidden
        update, reset = (
            net.unary("LOGISTIC", self.sum(gate, x, hidden, name), f"{name}/gate_{gate}") for gate in range(2)
        )
        ours = net.dense(x, self.kernel[2], self.bias[2], f"{name}/input_2")
        if self.node.integer("linear_before_reset", 0):
            past = net.binary("MUL", reset, self.past(2, hidden, name), f"{name}/past")
        elif isinstance(hidden, int) or hidden.any():
            selected = net.binary("MUL", reset, self._tensor(hidden, f"{name}/first"), f"{name}/selected")
            past = self.past(2, selected, name)
        else:
            past = self.past(2, hidden, name)
        fresh = net.unary("TANH", net.binary("ADD", ours, past, f"{name}/sum_2"), f"{name}/fresh")
        if not isinstance(hidden, int) and not hidden.any():
            return net.binary("SUB", fresh, net.binary("MUL", update, fresh, f"{name}/held"), name), memory
        gap = net.binary("SUB", self._tensor(hidden, f"{name}/first"), fresh, f"{name}/gap")
        return net.binary("ADD", fresh, net.binary("MUL", update, gap, f"{name}/held"), name), memory


def recurrent(flow: Flow, node: Node) -> list[Value]:
    """LSTM, GRU and RNN, unrolled step by step."""
    net, (steps, batch, _) = flow.net, flow.shape(node.inputs[0])
    turned = directions(node)
    if steps > MOST_STEPS:
        node.refuse(f"it has {steps} time steps, and at most {MOST_STEPS} are unrolled")
    w, r, b = (flow.settled(node, place, "weights") for place in (1, 2, 3))
    lengths, holes = flow.settled(node, 4, "sequence_lens"), flow.settled(node, 7, "peepholes")
    if (lengths is not None and (lengths != steps).any()) or (holes is not None and holes.any()):
        node.refuse("it has peepholes, or sequences with lengths of their own")
    units = r.shape[-1]
    x = flow.plain(node.inputs[0])
    inputs = [
        net.sliced(x, [time, 0, 0], [time + 1, batch, net.shape(x)[2]], f"{node.name}/at_{time}", drop=[0])
        for time in range(steps)
    ]
    outputs: list[list[int]] = []
    last, memories = [], []
    for way, backwards in enumerate(turned):
        cell = _Direction(flow, node, way, w[way], r[way], None if b is None else b[way])
        hidden, memory = (_state(flow, node, place, way, batch, units) for place in (5, 6))
        made = []
        for time in reversed(range(steps)) if backwards else range(steps):
            hidden, memory = cell.step(inputs[time], hidden, memory, f"{node.name}/way_{way}/step_{time}")
            made.append(hidden)
        outputs.append(made[::-1] if backwards else made)
        last.append(hidden)
        memories.append(memory)
    rows = [
        net.reshape(hidden, (1, 1, batch, units), f"{node.name}/row", extra=True)
        for time in range(steps) for hidden in (way[time] for way in outputs)
    ]  # fmt: skip
    y = _stacked(flow, rows, node.name)
    shaped = net.reshape(y, (steps, len(turned), batch, units), node.name, extra=True)
    results = [Value(shaped, plain(4))]
    for place, finals in enumerate((last, memories), start=1):
        if place < len(node.outputs) and node.outputs[place]:
            parts = [
                net.reshape(_known(flow, each, node.name), (1, batch, units), f"{node.name}/last", extra=True)
                for each in finals
            ]
            results.append(Value(_stacked(flow, parts, f"{node.name}/last_{place}"), plain(3)))
        else:
            results.append(Value(shaped, plain(4)))
    return results[: max(len(node.outputs), 1)]


def _known(flow: Flow, state: "int | Array", name: str) -> int:
    """A state as a tensor."""
    return state if isinstance(state, int) else flow.net.constant(f"{name}/first", state)


def _stacked(flow: Flow, parts: list[int], name: str) -> int:
    return parts[0] if len(parts) == 1 else flow.net.concatenation(parts, 0, name)


def _state(flow: Flow, node: Node, place: int, way: int, batch: int, units: int) -> "int | Array":
    """The first state: zeros, constants, or what the model is given."""
    if not flow.has(node, place):
        return numpy.zeros((batch, units), numpy.float32)
    given = flow.constant(node, place)
    if given is not None:
        return given[way]
    x = flow.plain(node.inputs[place])
    return flow.net.sliced(x, [way, 0, 0], [way + 1, batch, units], f"{node.name}/first_{place}", drop=[0])


MATRIX: dict[str, Any] = {
    "Gemm": gemm, "MatMul": matmul, "LSTM": recurrent, "GRU": recurrent, "RNN": recurrent,
}  # fmt: skip

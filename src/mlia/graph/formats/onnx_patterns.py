"""Operators of ONNX that exporters write as several nodes, put together again where TFLite has one of its own."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from mlia.graph.formats.onnx_model import Node

Array = Any


def with_patterns(nodes: Sequence[Node], constants: Mapping[str, Array], outputs: Sequence[str]) -> list[Node]:
    """The nodes with each GELU by Erf as one Gelu, and each x * HardSigmoid(x) as one HardSwish."""
    return _Patterns(nodes, constants, outputs).nodes


class _Patterns:
    def __init__(self, nodes: Sequence[Node], constants: Mapping[str, Array], outputs: Sequence[str]) -> None:
        self.nodes = list(nodes)
        self._constants, self._outputs = constants, set(outputs)
        self._maker = {name: node for node in nodes for name in node.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)
        gone: set[int] = set()
        for node in tuple(self.nodes):
            found = self._gelu(node) or self._hard_swish(node)
            if found:
                x, kind, parts = found
                name = parts[-1].outputs[0]
                place = next(i for i, each in enumerate(self.nodes) if name in each.outputs)
                gone |= {i for i, each in enumerate(self.nodes) if any(each is part for part in parts) and i != place}
                self.nodes[place] = Node(kind, parts[-1].name, (x,), (name,), {}, 20)
        self.nodes = [node for i, node in enumerate(self.nodes) if i not in gone]

    def _only_reader(self, name: str) -> Node | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def _figure(self, node: Node, name: str) -> tuple[str, float] | None:
        """The other operand and the number, of an operator on a tensor and one number."""
        if len(node.inputs) != 2:
            return None
        for one, other in (node.inputs, node.inputs[::-1]):
            array = self._constants.get(other)
            if array is not None and array.size == 1 and (not name or one == name):
                return one, float(array.reshape(-1)[0])
        return None

    def _gelu(self, node: Node) -> tuple[str, str, list[Node]] | None:
        """x * 0.5 * (1 + erf(x / sqrt(2))), in any order of the three products."""
        if node.kind != "Erf":
            return None
        scale = self._maker.get(node.inputs[0])
        found = self._figure(scale, "") if scale and scale.kind in ("Div", "Mul") else None
        if scale is None or found is None:
            return None
        x, figure = found
        if abs(figure - (sqrt(2) if scale.kind == "Div" else sqrt(0.5))) > 1e-4 or scale.inputs[0] != x:
            return None
        plus = self._only_reader(node.outputs[0])
        more = self._figure(plus, node.outputs[0]) if plus and plus.kind == "Add" else None
        if plus is None or more is None or more[1] != 1:
            return None
        # What is left are two products, with x and with one half, or one with a half of x.
        parts, current, half, whole = [scale, node, plus], plus.outputs[0], False, False
        while not (half and whole):
            times = self._only_reader(current)
            if times is None or times.kind != "Mul":
                return None
            number = self._figure(times, current)
            other = next((name for name in times.inputs if name != current), "")
            if number is not None and number[1] == 0.5 and not half:
                half = True
            elif other == x and not whole:
                whole = True
            elif not half and not whole and self._is_half(other, x):
                half = whole = True
                parts.append(self._maker[other])
            else:
                return None
            parts.append(times)
            current = times.outputs[0]
        return (x, "Gelu", parts) if self._inside(parts) else None

    def _is_half(self, name: str, x: str) -> bool:
        maker = self._maker.get(name)
        found = self._figure(maker, x) if maker and maker.kind == "Mul" else None
        return found is not None and found[1] == 0.5

    def _hard_swish(self, node: Node) -> tuple[str, str, list[Node]] | None:
        if node.kind != "HardSigmoid":
            return None
        if abs(node.number("alpha", 0.2) - 1 / 6) > 1e-6 or node.number("beta", 0.5) != 0.5:
            return None
        times = self._only_reader(node.outputs[0])
        if times is None or times.kind != "Mul" or set(times.inputs) != {node.inputs[0], node.outputs[0]}:
            return None
        return node.inputs[0], "HardSwish", [node, times]

    def _inside(self, parts: Sequence[Node]) -> bool:
        """Whether nothing else reads what is computed on the way."""
        return all(
            all(any(reader is part for part in parts) for reader in self._readers.get(name, []))
            and name not in self._outputs
            for part in parts[:-1]
            for name in part.outputs
        )

"""Operators that an Ethos-U does not have, written with some that it has. Results round otherwise than before."""

from collections.abc import Callable

import numpy
from msgspec.structs import replace

from mlia.graph.graph import Graph, Operator, OptionValue, Quantization
from mlia.transforms.remedies.local import at_each, is_fixed
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, operator

_WIDE = 32767  # codes of int16 on each side of zero
_DEEPEST = 16.0  # LOG_SOFTMAX of int8 has the scale 16 / 256


def substituted(graph: Graph) -> Graph:
    """L2_NORMALIZATION, LOG_SOFTMAX and ARG_MIN of int8 by other operators, the first two in int16 inside.

    Raises:
        TransformError: there is none on int8.
    """
    return at_each(graph, _substituted, "no L2_NORMALIZATION, LOG_SOFTMAX or ARG_MIN reads int8 with one scale")


def _substituted(network: Network, found: Operator) -> Edit | None:
    if found.kind not in _FORMS or not is_fixed(network, found.inputs[0], *found.outputs):
        return None
    source = network.tensor(found.inputs[0])
    if source.dtype != "int8" or not source.shape or source.quantization is None:
        return None
    if len(source.quantization.scale) != 1 or source.is_constant:
        return None
    form = _Form(network, found)
    if not _FORMS[found.kind](form):
        return None
    form.edit.put(found, *form.made)
    return form.edit


class _Form:
    """The operators that stand for one."""

    def __init__(self, network: Network, found: Operator) -> None:
        self.edit = Edit(network, found, f"{found.kind} in operators of the NPU")
        self.found, self.name = found, network.name(found)
        self.source, self.after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
        self.network = network
        self.made: list[Operator] = []

    @property
    def reach(self) -> float:
        """The largest number that the input can stand for."""
        assert self.source.quantization is not None
        zero = (*self.source.quantization.zero_point, 0)[0]
        return self.source.quantization.scale[0] * max(128 + zero, 127 - zero)

    def wide(self) -> int:
        """The input as int16."""
        return self.add("QUANTIZE", [self.found.inputs[0]], self.source.shape, self.reach / _WIDE, "QuantizeOptions")

    def add(
        self,
        kind: str,
        inputs: list[int],
        shape: tuple[int, ...],
        scale: float,
        table: str = "",
        options: dict[str, OptionValue] | None = None,
        version: int = 1,
    ) -> int:
        """One more operator, with an int16 output of this scale."""
        name = f"{self.name}/{len(self.made)}"
        like = replace(self.source, name=name, shape=shape, dtype="int16", quantization=Quantization((scale,), (0,)))
        output = self.edit.tensor(like)
        self.made.append(replace(operator(kind, inputs, output, table, options), version=version))
        return output

    def narrow(self, index: int) -> None:
        """That tensor as what the operator had written."""
        self.made.append(operator("QUANTIZE", [index], self.found.outputs[0], "QuantizeOptions"))


def _l2_normalization(form: _Form) -> bool:
    """x * rsqrt(sum(x * x)) over the last axis."""
    if form.found.options.get(ACTIVATION, NONE) != NONE:
        return False
    shape, reach = form.source.shape, form.reach
    channels = shape[-1]
    wide = form.wide()
    multiplying: dict[str, OptionValue] = {ACTIVATION: NONE}
    squares = form.add("MUL", [wide, wide], shape, reach**2 / _WIDE, "MulOptions", multiplying, version=2)
    axes = form.edit.constant(f"{form.name}/axes", numpy.array([len(shape) - 1], numpy.int32))
    one = (*shape[:-1], 1)
    keeping: dict[str, OptionValue] = {"keep_dims": True}
    unit = channels * reach**2 / _WIDE
    added = form.add("SUM", [squares, axes], one, unit, "ReducerOptions", keeping, version=2)
    inverse = form.add("RSQRT", [added], one, unit**-0.5 / _WIDE, version=2)
    form.narrow(form.add("MUL", [wide, inverse], shape, 1 / _WIDE, "MulOptions", multiplying, version=2))
    return True


def _log_softmax(form: _Form) -> bool:
    """log(softmax(x))."""
    shape = form.source.shape
    beta: dict[str, OptionValue] = {"beta": 1.0}
    shares = form.add("SOFTMAX", [form.wide()], shape, 1 / (_WIDE + 1), "SoftmaxOptions", beta, version=3)
    form.narrow(form.add("LOG", [shares], shape, _DEEPEST / (_WIDE + 1), version=2))
    return True


def _arg_min(form: _Form) -> bool:
    """argmax(-x), by int16, which has room for the negative of each int8 code."""
    if len(form.found.inputs) != 2 or form.network.constant(form.found.inputs[1]) is None:
        return False
    wide = form.wide()
    negative = form.add("NEG", [wide], form.source.shape, form.reach / _WIDE, "NegOptions", version=2)
    kind: dict[str, OptionValue] = {"output_type": form.found.options.get("output_type", "INT32")}
    inputs = [negative, form.found.inputs[1]]
    form.made.append(replace(operator("ARG_MAX", inputs, form.found.outputs[0], "ArgMaxOptions", kind), version=2))
    return True


_FORMS: dict[str, Callable[[_Form], bool]] = {
    "L2_NORMALIZATION": _l2_normalization,
    "LOG_SOFTMAX": _log_softmax,
    "ARG_MIN": _arg_min,
}

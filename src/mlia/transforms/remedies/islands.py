"""Operators on float32 between DEQUANTIZE and QUANTIZE, computed in integers."""

from collections.abc import Callable

import numpy
from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Quantization
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.forms import BINARY, INTEGER_FORMS, MOVING, SHARED_SCALE
from mlia.transforms.remedies.quantizing import quantized_values
from mlia.transforms.rewrites.network import ACTIVATION, NONE, Edit, Network, named_outside, operator, same_numbers

# LiteRT's integer kernels of these want one scale only, by type of the output.
FIXED = {
    "LOGISTIC": {"int8": Quantization((1 / 256,), (-128,)), "int16": Quantization((1 / 32768,), (0,))},
    "SOFTMAX": {"int8": Quantization((1 / 256,), (-128,)), "int16": Quantization((1 / 32768,), (0,))},
    "TANH": {"int8": Quantization((1 / 128,), (0,)), "int16": Quantization((1 / 32768,), (0,))},
}


def _leaky(values: Array, found: Operator) -> Array:
    alpha = found.options.get("alpha", 0.0)
    return numpy.where(values < 0, values * (alpha if isinstance(alpha, int | float) else 0.0), values)


_CURVES: dict[str, Callable[[Array, Operator], Array]] = {
    "ABS": lambda values, found: numpy.abs(values),
    "ELU": lambda values, found: numpy.where(values < 0, numpy.expm1(numpy.minimum(values, 0)), values),
    "EXP": lambda values, found: numpy.exp(values),
    "GELU": lambda values, found: values / (1 + numpy.exp(-1.702 * values)),  # close enough for a range
    "HARD_SWISH": lambda values, found: values * numpy.clip(values + 3, 0, 6) / 6,
    "LEAKY_RELU": _leaky,
    "NEG": lambda values, found: -values,
    "SQUARE": lambda values, found: numpy.square(values),
}


class _Code(Struct, frozen=True):
    """An integer tensor that stands for a float one."""

    index: int
    dtype: str
    quantization: Quantization

    @property
    def range(self) -> tuple[float, float]:
        limits = numpy.iinfo(self.dtype)
        zero, scale = self.quantization.zero_point[0], self.quantization.scale[0]
        return (int(limits.min) - zero) * scale, (int(limits.max) - zero) * scale


def islands_in_integers(graph: Graph) -> Graph:
    """Float operators whose inputs are all dequantized, and whose results are quantized again, on integers.

    Scales come from the QUANTIZE behind, or from the bounds of what the operator can compute.

    Raises:
        TransformError: no operator is between DEQUANTIZE and QUANTIZE and has an integer form.
    """
    network = Network(graph.main, named_outside(graph))
    inside = _convertible(network)
    if not inside:
        raise TransformError("no float operator between DEQUANTIZE and QUANTIZE has an integer form that is sure")
    edit = Edit(network, network.operators[min(inside)], "computed in integers")
    codes: dict[int, _Code] = {}
    for found in network.operators:
        if found.kind == "DEQUANTIZE" and _is_code(network, found.inputs[0]):
            source = network.tensor(found.inputs[0])
            assert source.quantization is not None
            codes[found.outputs[0]] = _Code(found.inputs[0], source.dtype, source.quantization)
        elif found.index in inside:
            _convert(network, edit, found, codes)
        elif found.kind == "QUANTIZE" and found.inputs[0] in codes:
            _requantize(network, edit, found, codes)
    return replace(graph, subgraphs=(edit.result(), *graph.subgraphs[1:]))


def _convertible(network: Network) -> set[int]:
    """The largest set of operators whose float inputs and readers are all inside, or at its edge."""
    inside = {found.index for found in network.operators if _has_form(network, found)}
    while True:
        kept = {index for index in inside if _is_surrounded(network, network.operators[index], inside)}
        if kept == inside:
            return kept
        inside = kept


def _has_form(network: Network, found: Operator) -> bool:
    if found.kind not in INTEGER_FORMS or len(found.outputs) != 1 or not found.inputs or min(found.inputs) < 0:
        return False
    if found.options.get(ACTIVATION, NONE) != NONE:
        return False
    if found.kind == "DIV" and not _divides_by_constant(network, found):
        return False
    computed = [index for index in found.inputs if network.tensor(index).dtype == "float32"]
    is_float = network.tensor(found.outputs[0]).dtype == "float32" and bool(computed)
    return is_float and (len(computed) == 1 or found.kind in (*BINARY, "DIV")) and len(computed) <= 2


def _divides_by_constant(network: Network, found: Operator) -> bool:
    values = network.real(found.inputs[1]) if len(found.inputs) == 2 else None
    return values is not None and bool((values != 0).all()) and network.constant(found.inputs[0]) is None


def _is_surrounded(network: Network, found: Operator, inside: set[int]) -> bool:
    sources = [index for index in found.inputs if network.tensor(index).dtype == "float32"]
    constants = [index for index in sources if network.constant(index) is not None]
    if len(constants) == len(sources) or any(network.tensor(index).quantization for index in constants):
        return False
    for index in sources:
        maker = network.maker(index)
        is_code = maker is not None and maker.kind == "DEQUANTIZE" and _is_code(network, maker.inputs[0])
        if index not in constants and not is_code and (maker is None or maker.index not in inside):
            return False
    (output,) = found.outputs
    readers = network.readers(output)
    is_read = all(reader.kind == "QUANTIZE" or reader.index in inside for reader in readers)
    if output in network.seen:
        return is_read and output in network.subgraph.outputs
    return bool(readers) and is_read


def _is_code(network: Network, index: int) -> bool:
    tensor = network.tensor(index) if index >= 0 else None
    quantization = tensor.quantization if tensor is not None else None
    return (
        tensor is not None
        and tensor.dtype in ("int8", "int16")
        and quantization is not None
        and len(quantization.scale) == len(quantization.zero_point) == 1
    )


def _convert(network: Network, edit: Edit, found: Operator, codes: dict[int, _Code]) -> None:
    (output,) = found.outputs
    tensor, name = network.tensor(output), network.name(found)
    dtype = next(codes[index].dtype for index in found.inputs if index in codes)
    made, sources = [], []
    for position, index in enumerate(found.inputs):
        code = codes.get(index)
        if code is None and network.tensor(index).dtype == "float32":
            values = network.real(index)
            assert values is not None  # looked at by _is_surrounded
            code = _constant(edit, f"{name}/{position}", 1 / values if found.kind == "DIV" else values, dtype)
        sources.append(code)
    quantization = _output_quantization(network, found, [code for code in sources if code is not None], dtype)
    if found.kind in SHARED_SCALE:
        for position, code in enumerate(sources):
            assert code is not None
            if code.quantization != quantization or code.dtype != dtype:
                fresh = _Code(
                    edit.tensor(
                        replace(
                            network.tensor(found.inputs[position]),
                            name=f"{name}/{position}/requantized", dtype=dtype, quantization=quantization,
                        )
                    ), dtype, quantization,
                )  # fmt: skip
                made.append(operator("QUANTIZE", [code.index], fresh.index, "QuantizeOptions"))
                sources[position] = fresh
    result = edit.tensor(replace(tensor, name=f"{name}/{dtype}", dtype=dtype, quantization=quantization))
    indexes = [code.index if code is not None else index for code, index in zip(sources, found.inputs, strict=True)]
    if found.kind == "NEG":  # which the NPU does not have, on any type
        indexes.append(edit.constant(f"{name}/minus_one", numpy.array([-1], dtype), Quantization((1.0,), (0,))))
    made.append(_in_integers(found, indexes, result))
    codes[output] = _Code(result, dtype, quantization)
    if output in network.seen:
        made.append(operator("DEQUANTIZE", [result], output, "DequantizeOptions"))
    edit.put(found, *made)


def _in_integers(found: Operator, indexes: list[int], result: int) -> Operator:
    if found.kind == "SQUARE":
        return operator("MUL", [indexes[0], indexes[0]], result, "MulOptions", {ACTIVATION: NONE})
    if found.kind in ("DIV", "NEG"):
        return operator("MUL", indexes, result, "MulOptions", {ACTIVATION: NONE})
    return replace(found, inputs=tuple(indexes), outputs=(result,))


def _output_quantization(network: Network, found: Operator, sources: list[_Code], dtype: str) -> Quantization:
    if found.kind in FIXED:
        return FIXED[found.kind][dtype]
    if found.kind in MOVING:
        return sources[0].quantization
    wanted = [network.tensor(reader.outputs[0]) for reader in network.readers(found.outputs[0])]
    known = [tensor.quantization for tensor in wanted if tensor.dtype == dtype and tensor.quantization is not None]
    if known and all(quantization == known[0] for quantization in known) and len(known) == len(wanted):
        return known[0]
    return _quantization_of(*_bounds(found, sources), dtype)


def _bounds(found: Operator, sources: list[_Code]) -> tuple[float, float]:
    """What the operator can compute from all codes of its inputs."""
    if found.kind in _CURVES:
        values = _CURVES[found.kind](numpy.linspace(*sources[0].range, 1025), found)
        return float(values.min()), float(values.max())
    if found.kind == "MEAN" or len(sources) < 2:
        return sources[0].range
    (low, high), (other_low, other_high) = sources[0].range, sources[1].range
    if found.kind == "ADD":
        return low + other_low, high + other_high
    if found.kind == "SUB":
        return low - other_high, high - other_low
    if found.kind in ("MUL", "DIV"):
        ends = [one * other for one in (low, high) for other in (other_low, other_high)]
        return min(ends), max(ends)
    return min(low, other_low), max(high, other_high)


def _quantization_of(low: float, high: float, dtype: str) -> Quantization:
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == "int16":
        return Quantization(((max(high, -low) or 1.0) / 32767,), (0,))
    scale = ((high - low) or 1.0) / 255
    return Quantization((scale,), (int(numpy.clip(numpy.round(-128 - low / scale), -128, 127)),))


def _constant(edit: Edit, name: str, values: Array, dtype: str) -> _Code:
    quantization = _quantization_of(float(values.min(initial=0.0)), float(values.max(initial=0.0)), dtype)
    return _Code(edit.constant(name, quantized_values(values, dtype, quantization), quantization), dtype, quantization)


def _requantize(network: Network, edit: Edit, found: Operator, codes: dict[int, _Code]) -> None:
    code, after = codes[found.inputs[0]], network.tensor(found.outputs[0])
    before = replace(after, dtype=code.dtype, quantization=code.quantization)
    made = replace(found, inputs=(code.index,))
    if same_numbers(before, after) and found.outputs[0] not in network.seen:
        edit.put(found)
        edit.read_instead(found.outputs[0], code.index)
    else:
        edit.put(found, made)

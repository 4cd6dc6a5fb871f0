"""Quantization parameters that an Ethos-U does not take, as some that it takes."""

import numpy
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, Quantization, Tensor
from mlia.transforms.calibration import Array
from mlia.transforms.remedies.local import at_each
from mlia.transforms.rewrites.network import Edit, Network, operator, same_numbers

CODES = ("int8", "uint8", "int16")
# What these compute has the scale of what they read.
KEEPING = (
    "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "PAD", "MIRROR_PAD", "MAX_POOL_2D",
    "TILE", "REVERSE_V2", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "SPLIT", "SPLIT_V", "UNPACK", "PACK",
    "CONCATENATION", "AVERAGE_POOL_2D", "GATHER", "MAXIMUM", "MINIMUM",
)  # fmt: skip
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "UNIDIRECTIONAL_SEQUENCE_LSTM")
_EIGHT_BIT_FORMS = ("ELU", "GELU", "LOG", "RSQRT")


def quantized_values(real: Array, dtype: str, quantization: Quantization) -> Array:
    """Real numbers as codes, rounded and clipped; one scale for all."""
    limits = numpy.iinfo(dtype)
    codes = numpy.round(real / quantization.scale[0]) + quantization.zero_point[0]
    return numpy.clip(codes, limits.min, limits.max).astype(dtype)


def real_values(tensor: Tensor) -> Array | None:
    """A constant in real numbers (float64), with scales per tensor or per channel; None where that cannot be told."""
    quantization = tensor.quantization
    if not tensor.is_constant or tensor.is_sparse or tensor.dtype not in (*CODES, "int32", "int64"):
        return None
    values = numpy.frombuffer(tensor.data, tensor.dtype)[: tensor.elements].reshape(tensor.shape).astype(numpy.float64)
    if quantization is None:
        return None
    scale, zero = numpy.array(quantization.scale), numpy.array(quantization.zero_point or (0,))
    if scale.size > 1:
        if not 0 <= quantization.axis < values.ndim or values.shape[quantization.axis] != scale.size:
            return None
        aligned = [-1 if axis == quantization.axis else 1 for axis in range(values.ndim)]
        scale = scale.reshape(aligned)
        zero = zero.reshape(aligned) if zero.size == scale.size else zero[:1]
    return numpy.asarray((values - zero) * scale)


def scale_for(real: Array, dtype: str) -> Quantization:
    """One symmetric scale that has room for these numbers."""
    largest = float(numpy.abs(real).max(initial=0.0))
    zero_point = 128 if dtype == "uint8" else 0
    most = {"uint8": 127, "int8": 127, "int16": 32767}[dtype]
    return Quantization((largest / most if largest else 1.0,), (zero_point,))


def extremes_requantized(graph: Graph) -> Graph:
    """MAXIMUM and MINIMUM whose inputs get the scale of the output, by a QUANTIZE or a new constant.

    LiteRT compares the codes and looks at no scale, so that what these models compute is not what they say.

    Raises:
        TransformError: all of them have one scale already.
    """
    return at_each(graph, _requantized, "every MAXIMUM and MINIMUM has one scale already")


def _requantized(network: Network, found: Operator) -> Edit | None:
    if found.kind not in ("MAXIMUM", "MINIMUM") or len(found.inputs) != 2 or min(found.inputs) < 0:
        return None
    after = network.tensor(found.outputs[0])
    wrong = [index for index in found.inputs if not same_numbers(network.tensor(index), after)]
    if not wrong or after.quantization is None or len(after.quantization.scale) != 1 or after.dtype not in CODES:
        return None
    edit = Edit(network, found, "inputs have the scale of the output")
    instead: dict[int, int] = {}
    made = []
    for index in dict.fromkeys(wrong):
        tensor = network.tensor(index)
        real = real_values(tensor)
        name = f"{network.name(found)}/{len(instead)}"
        if real is not None:
            codes = quantized_values(real, after.dtype, after.quantization)
            instead[index] = edit.constant(name, codes, after.quantization)
            continue
        if tensor.quantization is None or tensor.dtype not in CODES:
            return None
        instead[index] = edit.tensor(replace(tensor, name=name, dtype=after.dtype, quantization=after.quantization))
        made.append(operator("QUANTIZE", [index], instead[index], "QuantizeOptions"))
    edit.put(found, *made, replace(found, inputs=tuple(instead.get(index, index) for index in found.inputs)))
    return edit


def forms_of_8_bits(graph: Graph) -> Graph:
    """ELU, GELU, LOG and RSQRT of other types as int8 between two QUANTIZEs.

    Raises:
        TransformError: there is none.
    """
    return at_each(graph, _in_8_bits, "no ELU, GELU, LOG or RSQRT has another type")


def _in_8_bits(network: Network, found: Operator) -> Edit | None:
    if found.kind not in _EIGHT_BIT_FORMS or len(found.inputs) != 1:
        return None
    before, after = network.tensor(found.inputs[0]), network.tensor(found.outputs[0])
    narrow = [_narrow(tensor) for tensor in (before, after)]
    if before.dtype == after.dtype == "int8" or None in narrow:
        return None
    edit, name = Edit(network, found, "computed in int8"), network.name(found)
    source = edit.tensor(replace(before, name=f"{name}/input", dtype="int8", quantization=narrow[0]))
    result = edit.tensor(replace(after, name=f"{name}/output", dtype="int8", quantization=narrow[1]))
    edit.put(
        found,
        operator("QUANTIZE", found.inputs, source, "QuantizeOptions"),
        replace(found, inputs=(source,), outputs=(result,)),
        operator("QUANTIZE", [result], found.outputs[0], "QuantizeOptions"),
    )
    return edit


def _narrow(tensor: Tensor) -> Quantization | None:
    """The int8 quantization with the range of a tensor's own."""
    quantization = tensor.quantization
    if quantization is None or len(quantization.scale) != 1 or tensor.dtype not in CODES:
        return None
    zero_point = (*quantization.zero_point, 0)[0]
    if tensor.dtype == "int16":
        return Quantization((quantization.scale[0] * 256,), (0,)) if not zero_point else None
    return Quantization(quantization.scale, (zero_point - 128 if tensor.dtype == "uint8" else zero_point,))


def scales_passed_on(graph: Graph) -> Graph:
    """Tensors without quantization parameters get those of what they are copied or selected from.

    Raises:
        TransformError: no scale follows from a neighbor's.
    """
    tensors = list(graph.main.tensors)
    is_changing, count = True, 0
    while is_changing:
        is_changing = False
        for found in graph.operators:
            if found.kind not in KEEPING:
                continue
            ends = [index for index in (*found.inputs, *found.outputs) if index >= 0 and tensors[index].dtype in CODES]
            known = next((tensors[index] for index in ends if tensors[index].quantization is not None), None)
            for index in ends:
                if known is not None and tensors[index].quantization is None and tensors[index].dtype == known.dtype:
                    tensors[index] = replace(tensors[index], quantization=known.quantization)
                    is_changing, count = True, count + 1
    if not count:
        raise TransformError("no missing scale follows from that of a neighbor")
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)), *graph.subgraphs[1:]))


def one_scale_per_tensor(graph: Graph) -> Graph:
    """Constants and equal scales per channel as one scale, outside of the weights of convolutions.

    Raises:
        TransformError: nothing else has scales per channel, or the scales of what is computed differ.
    """
    weights = {index for found in graph.operators if found.kind in WEIGHTED for index in found.inputs[1:] if index >= 0}
    tensors = list(graph.main.tensors)
    changed = 0
    for index, tensor in enumerate(tensors):
        quantization = tensor.quantization
        if index in weights or quantization is None or len(quantization.scale) < 2 or tensor.dtype not in CODES:
            continue
        real = real_values(tensor)
        if len({*quantization.scale}) == 1 and len({*quantization.zero_point}) <= 1:
            single = Quantization(quantization.scale[:1], quantization.zero_point[:1] or (0,))
            tensors[index] = replace(tensor, quantization=single)
        elif real is not None:
            single = scale_for(real, tensor.dtype)
            data = memoryview(quantized_values(real, tensor.dtype, single).tobytes())
            tensors[index] = replace(tensor, quantization=single, data=data)
        else:
            continue
        changed += 1
    if not changed:
        raise TransformError("what is computed has scales that differ by channel: only calibration finds one for all")
    return replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)), *graph.subgraphs[1:]))


def wide_zero_points_dropped(graph: Graph) -> Graph:
    """int32 tensors with the zero point 0: LiteRT computes with their codes as they are.

    Raises:
        TransformError: every one has it already.
    """

    def plain(tensor: Tensor) -> Tensor:
        quantization = tensor.quantization
        if tensor.dtype not in ("int32", "int64") or quantization is None or not any(quantization.zero_point):
            return tensor
        return replace(tensor, quantization=replace(quantization, zero_point=(0,) * len(quantization.zero_point)))

    tensors = tuple(map(plain, graph.main.tensors))
    if all(map(lambda one, other: one is other, tensors, graph.main.tensors)):
        raise TransformError("no int32 tensor has a zero point")
    return replace(graph, subgraphs=(replace(graph.main, tensors=tensors), *graph.subgraphs[1:]))

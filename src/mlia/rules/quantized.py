"""What rules about quantization look at: activations, weights, and how an operator rescales its sums."""

from collections.abc import Iterator

from msgspec import Struct

from mlia.graph.graph import Operator, Quantization, Subgraph, Tensor
from mlia.results import Compatibility, OperatorId
from mlia.rules.rule import Case, NpuRule

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
LOWEST = {"int8": -128, "uint8": 0, "int16": -32768}


class Weighted(Struct, frozen=True):
    """An operator that multiplies a quantized input with quantized constants. `bias` is None where there is none."""

    operator: Operator
    source: Tensor
    weights: Tensor
    bias: Tensor | None
    output: Tensor
    input_scale: float
    weight_scales: tuple[float, ...]
    output_scale: float

    @property
    def id(self) -> OperatorId:
        return OperatorId(0, self.operator.index)

    @property
    def bias_values(self) -> memoryview:
        """The bias as numbers; none unless it is a constant of int32."""
        if self.bias is None or self.bias.dtype != "int32":
            return memoryview(b"")
        data = bytes(self.bias.data)
        return memoryview(data[: len(data) // 4 * 4]).cast("i")

    @property
    def depth(self) -> int:
        """How many products are added up for each output."""
        rows = self.weights.shape[-1] if self.operator.kind == "DEPTHWISE_CONV_2D" else self.weights.shape[0]
        return self.weights.elements // rows if rows else 0


class ActivationsRule(NpuRule):
    """A rule about quantized activations."""

    reads = Compatibility

    def skip(self, case: Case) -> str:
        return "" if activations(case) else "no activation is quantized"


class WeightsRule(NpuRule):
    """A rule about operators with quantized weights."""

    reads = Compatibility

    def skip(self, case: Case) -> str:
        return "" if next(weighted(case), None) is not None else "the model has no quantized weights"


def weighted(case: Case) -> Iterator[Weighted]:
    """Those operators of the main subgraph, where all that is needed is there and sound."""
    main = case.graph.main
    for operator in main.operators:
        if operator.kind not in WEIGHTED or len(operator.inputs) < 2 or not operator.outputs:
            continue
        source, weights = main.tensor(operator.inputs[0]), main.tensor(operator.inputs[1])
        output = main.tensors[operator.outputs[0]]
        if source is None or weights is None or not weights.is_constant or not weights.shape:
            continue
        scales = [_scales(tensor) for tensor in (source, weights, output)]
        if all(scales):
            bias = main.tensor(operator.inputs[2]) if len(operator.inputs) > 2 else None
            yield Weighted(operator, source, weights, bias, output, scales[0][0], scales[1], scales[2][0])


def activations(case: Case) -> list[Tensor]:
    """The quantized tensors of the main subgraph that operators compute or that are given, in order."""
    main = case.graph.main
    used = dict.fromkeys((*main.inputs, *(index for operator in main.operators for index in operator.outputs)))
    tensors = [main.tensors[index] for index in used]
    return [tensor for tensor in tensors if tensor.dtype in LOWEST and scale_of(tensor) is not None]


def scale_of(tensor: Tensor | None) -> float | None:
    """The scale of an activation; None where it has none."""
    quantization = tensor.quantization if tensor is not None else None
    return quantization.scale[0] if quantization is not None and quantization.scale else None


def zero_point_of(tensor: Tensor) -> int:
    """Its zero point; 0 where it has none."""
    quantization = tensor.quantization
    return quantization.zero_point[0] if quantization is not None and quantization.zero_point else 0


def inputs_of(subgraph: Subgraph, operator: Operator) -> list[Tensor]:
    """The tensors that it reads, without those left out."""
    tensors = (subgraph.tensor(index) for index in operator.inputs)
    return [tensor for tensor in tensors if tensor is not None]


def _scales(tensor: Tensor) -> tuple[float, ...]:
    quantization: Quantization | None = tensor.quantization
    scales = quantization.scale if quantization is not None else ()
    return scales if scales and min(scales) > 0 and max(scales) < float("inf") else ()

"""Rules about scales and zero points."""

from collections.abc import Iterator

from mlia.graph.graph import Tensor
from mlia.results import OperatorId
from mlia.rules.compatibility.refusals import finding, kinds, places, to_validate
from mlia.rules.phrases import named
from mlia.rules.rule import Case, ConstraintRule, Finding, Refused, Rule, later

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def _tensors(refused: list[Refused]) -> list[Tensor]:
    """The tensors of these operators, each once."""
    found: dict[tuple[int, int], Tensor] = {}
    for each in refused:
        for index in (*each.operator.inputs, *each.operator.outputs):
            tensor = each.subgraph.tensor(index)
            if tensor is not None:
                found[each.subgraph.index, index] = tensor
    return list(found.values())


class MissingScale(ConstraintRule):
    """Integer tensors have no quantization parameters, so that nobody can tell what their codes mean.

    ## Why it matters
    The NPU needs the scales of inputs, outputs and weights to compute; without one of them the operator and its
    neighbors run on the Cortex-M, where the result is often meaningless too.

    ## How it is found
    The compiler misses quantization parameters of an operator; the tensors without them are named.

    ## What to do
    Quantize the model as a whole, with one tool. Where a neighbor's scale says what a missing one must be, because
    the operator between them only moves numbers, it is tried.

    ## Limits
    A scale that is lost cannot be told from the codes.

    ## Source
    Vela 5.2's published constraints for all three families.
    """

    code = "CMP010"
    name = "missing-scale"
    sentences = ("Input(s), Output and Weight tensors must have quantization",)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused and not case.graph.computes_in_float:
            missing = [tensor.name for tensor in _tensors(refused) if _needs_scale(tensor)]
            evidence = f"no scale of {named(missing)}: {kinds(refused)} on the CPU" if missing else places(refused)
            remedy = "Quantize the model again as a whole; a lost scale cannot be told from the codes."
            yield finding(
                case,
                refused,
                evidence,
                remedy,
                to_validate("scales of neighbors", later("quantizing.scales_passed_on")),
            )


def _needs_scale(tensor: Tensor) -> bool:
    return tensor.quantization is None and tensor.dtype in ("int8", "uint8", "int16", "float32")


class UnusableScale(ConstraintRule):
    """A tensor has a scale that is zero or negative.

    ## Why it matters
    Every number of a tensor with scale 0 is 0, and no runtime agrees with another on negative scales. Such a scale
    comes from a calibration in which the tensor was zero throughout, or from a defect of a converter.

    ## How it is found
    Each tensor with one scale is looked at, and each negative scale; constants whose codes are all zero may have any.

    ## What to do
    Calibrate with samples for which the tensor is not zero throughout, or take it out of the model.

    ## Limits
    Vela 5.2 compiles some of these models all the same, so that the operators may well be on the NPU.

    ## Source
    Vela 5.2's published constraints for all three families, which it does not enforce (tried with constants and
    activations of ten operators).
    """

    code = "CMP011"
    name = "unusable-scale"
    sentences = ("Quantization scale of any tensor must be positive",)

    def check(self, case: Case) -> Iterator[Finding]:
        operators = dict.fromkeys(refused.id for refused in self.refusals(case))
        names: dict[str, None] = {}
        for subgraph in case.graph.called_subgraphs():
            wrong = {index for index, tensor in enumerate(subgraph.tensors) if _has_unusable_scale(tensor)}
            for operator in subgraph.operators if wrong else ():
                if found := [index for index in (*operator.inputs, *operator.outputs) if index in wrong]:
                    operators[OperatorId(subgraph.index, operator.index)] = None
                    names |= dict.fromkeys(subgraph.tensors[index].name for index in found)
        if operators:
            evidence = f"the scale of {named(list(names))} is not above 0" if names else "a scale is not above 0"
            remedy = "Calibrate with samples for which these tensors are not zero throughout."
            yield Finding(tuple(operators), evidence, remedy, why_not_tried="the right scale is not known")


def _has_unusable_scale(tensor: Tensor) -> bool:
    scales = tensor.quantization.scale if tensor.quantization is not None else ()
    if not scales or min(scales) > 0 or (len(scales) > 1 and min(scales) == 0):
        return False
    return not tensor.is_constant or bytes(tensor.data).count(0) < len(tensor.data)


class ScalesPerChannel(ConstraintRule):
    """A tensor other than the weights of a convolution has one scale for each channel.

    ## Why it matters
    The NPU has scales per channel for weights only; any other operator with them runs on the Cortex-M.

    ## How it is found
    The compiler refuses the operator, and a tensor of it has several scales.

    ## What to do
    Quantize activations and constants of arithmetic per tensor. Constants, and scales that are all equal, are tried.

    ## Limits
    One scale for all channels is coarser: check the accuracy.

    ## Source
    Vela 5.2's published constraints for all three families.
    """

    code = "CMP012"
    name = "scales-per-channel"
    sentences = ("Per-axis quantization is not supported",)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            several = [
                tensor for tensor in _tensors(refused) if tensor.quantization and len(tensor.quantization.scale) > 1
            ]
            count = max((len(tensor.quantization.scale) for tensor in several if tensor.quantization), default=0)
            evidence = f"{count} scales in {named([tensor.name for tensor in several])}, read by {kinds(refused)}"
            remedy = "Quantize activations and constants of arithmetic per tensor."
            yield finding(
                case,
                refused,
                evidence,
                remedy,
                to_validate("one scale per tensor", later("quantizing.one_scale_per_tensor")),
            )


class ZeroPointOutOfRange(ConstraintRule):
    """A tensor has a zero point that its type cannot have.

    ## Why it matters
    Zero points are -128..127 for int8, 0..255 for uint8 and 0 for int16 and int32; with another the operator runs
    on the Cortex-M.

    ## How it is found
    The compiler refuses the zero point; it is told with its tensor.

    ## What to do
    Quantize int16 and int32 symmetrically. LiteRT does not look at the zero point of int32, so leaving it out is tried.

    ## Limits
    For int8, uint8 and int16 the model has to be quantized again.

    ## Source
    Vela 5.2's published constraints, of inputs and outputs, for all three families.
    """

    code = "CMP013"
    name = "zero-point-out-of-range"
    sentences = ("Zero-points must be 0", "IFM Zero-points must be", "OFM Zero-points must be")

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if not refused:
            return
        wrong = [tensor for tensor in _tensors(refused) if _is_out(tensor)]
        told = [
            f"{max(tensor.quantization.zero_point, key=abs)} of '{tensor.name}' ({tensor.dtype})"
            for tensor in wrong[:2]
            if tensor.quantization
        ]
        evidence = f"zero point {', '.join(told) or 'out of range'}: {kinds(refused)} on the CPU"
        remedy = "Quantize int16 and int32 with the zero point 0, int8 within -128..127, uint8 within 0..255."
        if any(tensor.dtype == "int32" for tensor in wrong):
            fix = to_validate("zero point 0 for int32", later("quantizing.wide_zero_points_dropped"))
            yield finding(case, refused, evidence, remedy, fix)
        else:
            reason = "the numbers behind these codes are not known"
            yield finding(case, refused, evidence, remedy, why_not_tried=reason)


def _is_out(tensor: Tensor) -> bool:
    if tensor.quantization is None or not tensor.quantization.zero_point:
        return False
    low, high = _LIMITS.get(tensor.dtype, (0, 0))
    return min(tensor.quantization.zero_point) < low or max(tensor.quantization.zero_point) > high


class MismatchedScales(ConstraintRule):
    """MAXIMUM or MINIMUM has inputs whose scale or zero point is not that of its output.

    ## Why it matters
    The operator compares codes, so that they must mean the same. LiteRT compares them as they are, and the result
    is not what the scales say; the NPU refuses.

    ## How it is found
    The compiler refuses the operator; the scales are told.

    ## What to do
    Give the inputs the scale of the output: a QUANTIZE in front, which runs on the NPU, or another constant.

    ## Limits
    The outputs change, toward what the scales say.

    ## Source
    Vela 5.2's published constraints for all three families; LiteRT's kernel reads no scales.
    """

    code = "CMP014"
    name = "mismatched-scales"
    sentences = ("Both Input quantization parameters must match",)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            inputs = sorted({_scale(refused[0].tensor(position)) for position in (0, 1)})
            evidence = (
                f"{kinds(refused)} in {places(refused)}: inputs with scale {' and '.join(inputs)},"
                f" output with {_scale(refused[0].output)}"
            )
            remedy = "Give the inputs the output's scale and zero point, by a QUANTIZE in front of them."
            yield finding(
                case,
                refused,
                evidence,
                remedy,
                to_validate("inputs requantized", later("quantizing.extremes_requantized")),
            )


def _scale(tensor: Tensor | None) -> str:
    if tensor is None or tensor.quantization is None or not tensor.quantization.scale:
        return "none"
    zero_point = (*tensor.quantization.zero_point, 0)[0]
    return f"{tensor.quantization.scale[0]:.4g} ({zero_point:+d})"


RULES: tuple[type[Rule], ...] = (MissingScale, UnusableScale, ScalesPerChannel, ZeroPointOutOfRange, MismatchedScales)

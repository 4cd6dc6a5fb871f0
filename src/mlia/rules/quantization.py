"""Rules about how activations are quantized. Those about weights are in quantization_weights."""

import math
from collections.abc import Iterator

from mlia.advice import Severity
from mlia.results import Compatibility, OperatorId
from mlia.rules import quantization_weights
from mlia.rules.phrases import named, percent
from mlia.rules.quantized import LOWEST, ActivationsRule, activations, inputs_of, scale_of, zero_point_of
from mlia.rules.rule import Case, Finding, NpuRule, Rule

SMALLEST, LARGEST = 1e-10, 1e6  # of a scale that a measured range can give
UNUSED = 0.25  # of all codes
UNLIKE = 64.0  # the smaller one then has two of eight bits left
BITS = 8  # of an activation, as most are
JOINED = ("ADD", "SUB", "CONCATENATION", "MAXIMUM", "MINIMUM")
POSITIVE = ("RELU", "RELU6")
AGAIN = "it must be quantized again, from the float model"


class NotCalibrated(ActivationsRule):
    """Most activations have the scale 1 and the zero point 0, which no calibration gives.

    ## Why it matters
    With a scale of 1 all numbers are rounded to whole ones. Such a model runs as fast as a good one, and computes
    nonsense.

    ## How it is found
    More than half of the quantized activations, and at least two, have this very pair.

    ## What to do
    Quantize the float model again with calibration data.

    ## Limits
    Models whose inputs are whole numbers on purpose look the same, if nearly all of their tensors are such.

    ## Source
    TFLite's quantization specification: real = scale * (stored - zero_point).
    """

    code = "QNT001"
    name = "not-calibrated"
    severity = Severity.WARNING

    def check(self, case: Case) -> Iterator[Finding]:
        all_of_them = activations(case)
        plain = [tensor for tensor in all_of_them if scale_of(tensor) == 1 and zero_point_of(tensor) == 0]
        if len(plain) >= 2 and len(plain) > len(all_of_them) / 2:
            yield Finding(
                (),
                f"{len(plain)} of {len(all_of_them)} activations have scale 1 and zero point 0, as"
                f" {named([tensor.name for tensor in plain], 2)}",
                "Quantize the float model again, with calibration data.",
                why_not_tried=AGAIN,
            )


class ImplausibleScale(ActivationsRule):
    """An activation has a scale that no range of real numbers gives.

    ## Why it matters
    A tensor that was always zero while the model was calibrated, or a range with infinities in it, gives such scales.
    Whatever passes through that tensor is lost.

    ## How it is found
    Scales that are no positive finite number, or are below 1e-10 or above 1e6.

    ## What to do
    Look at what the float model computes there (a dead branch, a division by zero), and calibrate again.

    ## Limits
    A wrong scale in between cannot be told from the model alone.

    ## Source
    TFLite's quantization specification: a scale is the range divided by the number of codes.
    """

    code = "QNT002"
    name = "implausible-scale"
    severity = Severity.WARNING

    def check(self, case: Case) -> Iterator[Finding]:
        odd = {}
        for tensor in activations(case):
            scale = scale_of(tensor)
            if scale is not None and not SMALLEST <= scale <= LARGEST:
                odd[tensor.name] = scale
        if odd:
            yield Finding(
                (),
                f"{named([*odd])}: scale {next(iter(odd.values())):.3g}",
                "See what the float model computes there, and calibrate again with samples that reach it.",
                why_not_tried=AGAIN,
            )


class UnusedCodes(ActivationsRule):
    """Activations that are never negative have codes for negative numbers.

    ## Why it matters
    Behind a RELU all codes below the zero point stay unused: with a zero point of 0 half of the 256, so that each
    number has one bit less than it could have.

    ## How it is found
    int8 outputs with a fused or a separate RELU or RELU6, whose zero point leaves a quarter of the codes or more below.

    ## What to do
    Quantize with asymmetric activations; calibration then puts the zero point at -128.

    ## Limits
    It costs accuracy, no time. Some frameworks choose symmetric activations on purpose.

    ## Source
    TFLite's quantization specification: int8 activations are asymmetric, with zero points of -128 to 127.
    """

    code = "QNT003"
    name = "unused-codes"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        found = []
        for operator in main.operators:
            is_positive = operator.kind in POSITIVE or operator.options.get("fused_activation_function") in POSITIVE
            output = main.tensors[operator.outputs[0]] if operator.outputs else None
            if is_positive and output is not None and output.dtype in ("int8", "uint8") and scale_of(output):
                unused = (zero_point_of(output) - LOWEST[output.dtype]) / 256
                if unused >= UNUSED:
                    found.append((operator, unused))
        if found:
            yield Finding(
                tuple(OperatorId(main.index, operator.index) for operator, _ in found),
                f"{percent(max(unused for _, unused in found))} of the codes of"
                f" {named([main.operator_name(operator) for operator, _ in found], 2)} are for negative numbers behind"
                " a RELU",
                "For a bit more precision, quantize with asymmetric activations.",
                why_not_tried=AGAIN,
            )


class Int16ZeroPoint(NpuRule):
    """An int16 activation has a zero point other than 0.

    ## Why it matters
    Kernels for int16 take the zero point for 0: they refuse such a model, or compute something else.

    ## How it is found
    Quantized int16 activations with a zero point that is not 0.

    ## What to do
    Quantize with symmetric int16 activations (TFLite's 16x8 mode).

    ## Limits
    Zero points per channel do not occur for activations, and are not looked at.

    ## Source
    TFLite's quantization specification: int16 activations are symmetric.
    """

    code = "QNT004"
    name = "int16-zero-point"
    severity = Severity.WARNING
    reads = Compatibility

    def skip(self, case: Case) -> str:
        has = any(tensor.dtype == "int16" for tensor in activations(case))
        return "" if has else "no activation is int16"

    def check(self, case: Case) -> Iterator[Finding]:
        odd = [tensor for tensor in activations(case) if tensor.dtype == "int16" and zero_point_of(tensor)]
        if odd:
            yield Finding(
                (),
                f"{named([tensor.name for tensor in odd])}: zero point {zero_point_of(odd[0])}",
                "Quantize int16 activations symmetrically, as TFLite's 16x8 mode does.",
                why_not_tried=AGAIN,
            )


class UnlikeScales(ActivationsRule):
    """Tensors that are joined have scales of very different size.

    ## Why it matters
    The result has one scale, which the larger tensor decides. Of the smaller one only the highest bits are left: at a
    ratio of 64 two of eight.

    ## How it is found
    ADD, SUB, CONCATENATION, MAXIMUM and MINIMUM whose quantized inputs' scales differ by a factor of 64 or more.
    Constants are no inputs here.

    ## What to do
    Bring both to a like range in the float model (a normalization in front), or keep them apart.

    ## Limits
    Whether the small one matters is not seen from the model.

    ## Source
    Arithmetic: log2 of the ratio of the scales is the number of bits that are lost.
    """

    code = "QNT005"
    name = "unlike-scales"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        found = []
        for operator in main.operators:
            if operator.kind not in JOINED:
                continue
            computed = [tensor for tensor in inputs_of(main, operator) if not tensor.is_constant]
            scales = [scale for tensor in computed if (scale := scale_of(tensor)) and scale > 0]
            ratio = max(scales) / min(scales) if len(scales) > 1 else 1.0
            if UNLIKE <= ratio < math.inf:
                found.append((operator, ratio))
        if found:
            ratio = max(ratio for _, ratio in found)
            lost = math.log2(ratio)
            bits = f"{lost:.0f} bits" if lost < BITS else "all of its bits"
            yield Finding(
                tuple(OperatorId(main.index, operator.index) for operator, _ in found),
                f"{named([main.operator_name(operator) for operator, _ in found])}: scales differ by {ratio:,.0f}, so"
                f" that the smaller input loses {bits}",
                "Bring both inputs to a like range in the float model, for example by a normalization.",
                why_not_tried="the float model must change",
            )


RULES: tuple[type[Rule], ...] = (
    NotCalibrated,
    ImplausibleScale,
    UnusedCodes,
    Int16ZeroPoint,
    UnlikeScales,
    *quantization_weights.RULES,
)

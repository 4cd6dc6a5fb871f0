"""Rules about how weights and biases are quantized, and how their sums are rescaled."""

from collections.abc import Iterator

from mlia.advice import Severity
from mlia.rules.phrases import named, percent
from mlia.rules.quantized import Weighted, WeightsRule, weighted
from mlia.rules.rule import Case, Finding, Rule

NARROW = 32  # codes below: two of seven bits are never used
NARROW_CODES = bytes(code % 256 for code in range(1 - NARROW, NARROW))
NARROW_ROWS = 0.5  # of all rows with one scale
FEWEST_ROWS, MOST_ROWS = 4, 64
FIRST = 512  # codes
NEAR_LIMIT = 1 << 30  # half of what an int32 accumulator holds
WRONG_SCALE = 0.01
LOOKED_AT = 16  # channels, for a mistake that all of them have
WIDEST = 128 * 255  # the largest product of an int8 weight and an int8 activation less its zero point
AGAIN = "the model must be quantized again, from the float model"


def _names(found: list[Weighted], case: Case) -> str:
    return named([case.graph.main.operator_name(each.operator) for each in found])


class NarrowWeights(WeightsRule):
    """int8 weights use less than a quarter of their codes.

    ## Why it matters
    Weights whose codes stay below 32 are quantized to 6 bits or less: precision is lost that costs nothing. One row
    with large weights forces this on all others where they share a scale.

    ## How it is found
    int8 weights whose codes are all between -31 and 31; or, where one scale is for all, at least half of the rows.

    ## What to do
    Quantize with a scale for each channel, or leave out the clipping that made the scale too large.

    ## Limits
    It costs accuracy, no time; narrow codes even compress better. All-zero rows are counted as narrow.

    ## Source
    TFLite's quantization specification: weights use -127 to 127.
    """

    code = "QNT006"
    name = "narrow-weights"

    def check(self, case: Case) -> Iterator[Finding]:
        found = {}
        for each in weighted(case):
            if each.weights.dtype == "int8" and (share := _narrow_rows(each)) >= NARROW_ROWS:
                found[each.operator.index] = (each, share)
        if found:
            share = max(share for _, share in found.values())
            operators = [each for each, _ in found.values()]
            yield Finding(
                tuple(each.id for each in operators),
                f"{_names(operators, case)}: in {percent(share)} of the rows no code is beyond {NARROW - 1}, of 127",
                "For precision, quantize with a scale per channel, and without clipping.",
                why_not_tried=AGAIN,
            )


def _narrow_rows(each: Weighted) -> float:
    """The share of rows without any code that is not narrow; 1 or 0 where rows have scales of their own."""
    data, rows = each.weights.data, each.weights.shape[0]
    if _is_narrow(data):
        return 1.0
    size = len(data) // rows if rows else 0
    if len(each.weight_scales) > 1 or each.operator.kind == "DEPTHWISE_CONV_2D" or rows < FEWEST_ROWS or not size:
        return 0.0
    looked_at = range(0, rows, -(-rows // MOST_ROWS))
    return sum(_is_narrow(data[row * size : (row + 1) * size]) for row in looked_at) / len(looked_at)


def _is_narrow(data: memoryview) -> bool:
    """Whether all codes are narrow; most weights show in their first few that they are not."""
    return all(not bytes(part).translate(None, NARROW_CODES) for part in (data[:FIRST], data[FIRST:]))


class WeightZeroPoint(WeightsRule):
    """int8 weights have a zero point other than 0.

    ## Why it matters
    Kernels for int8 take it for 0: CMSIS-NN and LiteRT then compute something else than the compiler does, or refuse
    the model. Pruned weights do not compress either, because zero is not at code 0.

    ## How it is found
    Constant int8 weights with any zero point that is not 0.

    ## What to do
    Quantize weights symmetrically, as every converter of today does for int8.

    ## Limits
    Old models with uint8 weights are asymmetric by design, and are left alone.

    ## Source
    TFLite's quantization specification: int8 weights are symmetric.
    """

    code = "QNT007"
    name = "weight-zero-point"
    severity = Severity.WARNING

    def check(self, case: Case) -> Iterator[Finding]:
        found = []
        for each in weighted(case):
            quantization = each.weights.quantization
            if each.weights.dtype == "int8" and quantization is not None and any(quantization.zero_point):
                found.append(each)
        if found:
            quantization = found[0].weights.quantization
            zero_points = quantization.zero_point if quantization is not None else ()
            yield Finding(
                tuple(each.id for each in found),
                f"weights of {_names(found, case)}: zero point {next(filter(None, zero_points), 0)}",
                "Quantize weights symmetrically (zero point 0).",
                why_not_tried=AGAIN,
            )


class BiasNearLimit(WeightsRule):
    """A bias is so large that sums may overflow 32 bits.

    ## Why it matters
    Products are added to the bias in 32 bits. A bias beyond half of that range leaves no room that is sure to be
    enough, and an overflow turns a large number into a negative one.

    ## How it is found
    int32 biases with a value beyond 2^30, in either direction.

    ## What to do
    Look at the channel: its weights are nearly all zero, so that their scale is tiny. Prune the channel, or give the
    weights one scale for all.

    ## Limits
    Whether it overflows depends on the inputs.

    ## Source
    TFLite's quantization specification: a bias is int32, with the scale of the input times that of the weights.
    """

    code = "QNT008"
    name = "bias-near-limit"
    severity = Severity.WARNING

    def check(self, case: Case) -> Iterator[Finding]:
        found, largest = [], 0
        for each in weighted(case):
            values = each.bias_values
            most = max(max(values), -min(values)) if len(values) else 0
            if most > NEAR_LIMIT:
                found.append(each)
                largest = max(largest, most)
        if found:
            yield Finding(
                tuple(each.id for each in found),
                f"bias of {_names(found, case)}: {largest:,} of at most 2,147,483,647",
                "Remove channels whose weights are nearly zero, or use one scale for all of them.",
                why_not_tried=AGAIN,
            )


class WrongBiasScale(WeightsRule):
    """The scale of a bias is not that of the input times that of the weights.

    ## Why it matters
    A bias is added to the sum of products as it stands. With another scale it is larger or smaller than it was in the
    float model, and no kernel corrects that.

    ## How it is found
    Biases whose scale is off by more than 1 %, at up to 16 channels.

    ## What to do
    Convert the model again; a tool that edits scales must change the bias with them.

    ## Limits
    The int64 biases of int16 models are looked at as well.

    ## Source
    TFLite's quantization specification: bias_scale = input_scale * weight_scale.
    """

    code = "QNT009"
    name = "wrong-bias-scale"
    severity = Severity.WARNING

    def check(self, case: Case) -> Iterator[Finding]:
        found, factors = [], []
        for each in weighted(case):
            own = each.bias.quantization.scale if each.bias is not None and each.bias.quantization is not None else ()
            if len(own) != len(each.weight_scales):
                continue
            step = -(-len(own) // LOOKED_AT)
            pairs = zip(own[::step], each.weight_scales[::step], strict=True)
            worst = max((bias / (each.input_scale * weight) for bias, weight in pairs), key=lambda part: abs(part - 1))
            if abs(worst - 1) > WRONG_SCALE:
                found.append(each)
                factors.append(worst)
        if found:
            yield Finding(
                tuple(each.id for each in found),
                f"bias of {_names(found, case)}: its scale is {factors[0]:.3g} times what it must be",
                "Convert the model again, or correct the bias where its scale was changed.",
                why_not_tried="what the bias was meant to be is not known",
            )


class LostSums(WeightsRule):
    """An operator's output can never differ from its zero point, or is finer than its sums.

    ## Why it matters
    Sums are rescaled by input scale x weight scale / output scale. Where the largest possible sum is rescaled to less
    than half a code, the output is constant. Where the factor is above 1, the output has codes that never occur.

    ## How it is found
    That factor is computed for each operator with weights; bounds come from their shape and bias.

    ## What to do
    Calibrate again: the range of the output does not fit what the operator computes.

    ## Limits
    It is a bound for int8 inputs; a factor that is only somewhat too small is not seen.

    ## Source
    TFLite's quantization specification, and arithmetic.
    """

    code = "QNT010"
    name = "lost-sums"
    severity = Severity.WARNING

    def check(self, case: Case) -> Iterator[Finding]:
        constant, fine = [], []
        for each in weighted(case):
            if each.source.dtype != "int8":
                continue
            factor = each.input_scale * max(each.weight_scales) / each.output_scale
            values = each.bias_values
            bias = max(max(values), -min(values)) if len(values) else 0
            if factor * (WIDEST * each.depth + bias) < 0.5:
                constant.append(each)
            elif factor > 1:
                fine.append((each, factor))
        if constant:
            yield Finding(
                tuple(each.id for each in constant),
                f"{_names(constant, case)}: the largest possible sum is rescaled to less than half a code",
                "Calibrate again: the scale of the output is too large.",
                why_not_tried=AGAIN,
            )
        if fine:
            yield Finding(
                tuple(each.id for each, _ in fine),
                f"{_names([each for each, _ in fine], case)}: a step of the sum is {fine[0][1]:.3g} output codes",
                "Calibrate again: the output's scale is too small, so that it saturates.",
                why_not_tried=AGAIN,
            )


RULES: tuple[type[Rule], ...] = (
    NarrowWeights,
    WeightZeroPoint,
    BiasNearLimit,
    WrongBiasScale,
    LostSums,
)

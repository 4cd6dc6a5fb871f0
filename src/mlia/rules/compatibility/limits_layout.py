"""Rules about slices, transposes, reversals and matrix products that the NPU does not take."""

from collections.abc import Iterator

from mlia.rules.compatibility.limits import LimitRule, places_of, shapes
from mlia.rules.compatibility.refusals import finding, lossless, places, to_validate
from mlia.rules.rule import Case, Finding, Rule, later


class Slice(LimitRule):
    """A slice steps through channels or batches, or goes backwards.

    ## Why it matters
    The NPU steps through height and width only, and forwards; the CPU copies element by element.

    ## How it is found
    The compiler refuses the STRIDED_SLICE because of its strides.

    ## What to do
    Reshape so that the axis is the width, and mirror what goes backwards: the same numbers. Where channels are picked,
    change the order of the filters in front instead, and slice without stride.

    ## Limits
    Mirroring copies an axis piece by piece: over many channels that takes long.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85.
    """

    code = "CMP041"
    name = "unsupported-slice"
    sentences = ("Slice must represent a volume",)

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"STRIDED_SLICE of {shapes(refused)} steps backwards or not along height or width"
            advice = (
                "Step through the width of a reshaped tensor, or sort the filters in front and slice without stride."
            )
            fix = lossless("slices along the width", later("slices.forward_slices", places_of(refused)))
            yield finding(case, refused, evidence, advice, fix)


class TransposeRank(LimitRule):
    """A transpose moves a tensor of more than 8 axes.

    ## Why it matters
    No NPU takes it, and LiteRT does not run it either.

    ## How it is found
    The compiler refuses the TRANSPOSE because of its rank.

    ## What to do
    Join axes that stay next to each other by RESHAPE.

    ## Limits
    Not where more than 8 axes move by themselves. LiteRT cannot prove that the outputs are equal, as it refuses the
    model before.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85.
    """

    code = "CMP042"
    name = "transpose-of-many-axes"
    sentences = ("Tensor dimension must be",)

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            fix = to_validate("joined axes", later("transposing.merged_transposes_in_parts", places_of(refused)))
            evidence = f"TRANSPOSE of {shapes(refused)}; at most 8 axes"
            yield finding(case, refused, evidence, "Join axes that stay next to each other by RESHAPE.", fix)


class LargeTranspose(LimitRule):
    """A transpose is too large for the NPU, or moves 32-bit numbers in a way that it has not.

    ## Why it matters
    The CPU moves the elements one by one.

    ## How it is found
    The compiler refuses the TRANSPOSE because of its shape or permutation.

    ## What to do
    Join axes that stay next to each other, and transpose in parts; or transpose 32-bit numbers in steps. Best of all,
    train or export the model so that it needs none.

    ## Limits
    Up to 32 parts, and int32 with blocks of up to 65,536.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`. Estimated with Vela 5.2 on
    ethos-u55-128: 2x300x300x4 to NCHW, 10.9 ms before, 6.5 ms after.
    """

    code = "CMP043"
    name = "too-large-transpose"
    sentences = ("IF IFM is Int32", "IF IFM is Int8 or Int16")
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            advice = "Transpose in parts or in steps, or export the model in the order that the next operator reads."
            fix = lossless("parts of fewer axes", later("transposing.merged_transposes_in_parts", places_of(refused)))
            types = sorted({tensor.dtype for each in refused if (tensor := each.tensor(0)) is not None})
            evidence = f"TRANSPOSE of {' and '.join(types)} {shapes(refused)}; two axes together can have 65,536"
            if "int32" in types:
                evidence = (
                    f"TRANSPOSE of {' and '.join(types)} {shapes(refused)}; int32 only as height/width or width/depth"
                )
            yield finding(case, refused, evidence, advice, fix)


class Reverse(LimitRule):
    """A tensor is turned around along an axis.

    ## Why it matters
    Ethos-U55 and U65 cannot read backwards. Bidirectional recurrent layers and flipped images need it.

    ## How it is found
    The compiler refuses the REVERSE_V2, which it does along any axis.

    ## What to do
    Mirror the tensor by MIRROR_PAD and keep the mirrored half: the same numbers. Behind or in front of a convolution,
    turn the kernel around instead.

    ## Limits
    Mirroring copies an axis piece by piece: over many channels that takes long.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`. Estimated with Vela 5.2 on
    ethos-u55-128: 96x96x16 upside down, 2.23 ms before, 1.05 ms after.
    """

    code = "CMP044"
    name = "unsupported-reverse"
    sentences = ("Axis attribute is not supported",)
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"REVERSE_V2 of {shapes(refused)}; the NPU cannot read backwards"
            fix = lossless("MIRROR_PAD and SLICE", later("slices.mirrored", places_of(refused)))
            yield finding(case, refused, evidence, "Mirror by MIRROR_PAD, or turn the next kernel around.", fix)


class LargeMatmul(LimitRule):
    """A product of two computed matrices is longer or deeper than the NPU takes.

    ## Why it matters
    The CPU multiplies element by element.

    ## How it is found
    The compiler refuses the BATCH_MATMUL or FULLY_CONNECTED: it sums over, or has as output depth, more than 65,536.

    ## What to do
    Multiply some columns at a time, which changes no number; sum over parts of a long axis.

    ## Limits
    A sum over parts rounds each part and is not tried.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`.
    """

    code = "CMP045"
    name = "too-large-matmul"
    sentences = (
        "IF Matmul or (FC with dynamic weights): Reduced axis",
        "IF Matmul or (FC with dynamic weights): OFM depth",
    )
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        deep = [each for each in refused if "OFM depth" in each.constraint.rule]
        long = [each for each in refused if each not in deep]
        if deep:
            fix = lossless("some columns at a time", later("transposing.matmul_in_columns", places_of(deep)))
            evidence = f"{shapes(deep, 1)} as second matrix; the output can be 65,536 deep"
            yield finding(case, deep, evidence, "Multiply some columns at a time.", fix)
        if long:
            evidence = f"{shapes(long)} times a computed matrix; a sum can have 65,536 terms"
            advice = "Sum over parts of the long axis, with a scale that all sums fit."
            reason = "each part needs a scale of its own"
            yield finding(case, long, evidence, advice, why_not_tried=reason)


class WideMatmul(LimitRule):
    """Two computed matrices of int16 are multiplied.

    ## Why it matters
    Ethos-U55 and U65 multiply computed matrices in int8 only; attention of 16 bits runs on the CPU.

    ## How it is found
    The compiler refuses the BATCH_MATMUL, or the FULLY_CONNECTED whose weights are computed, because of its type.

    ## What to do
    Quantize around the product to int8, or keep the whole of the attention in int8.

    ## Limits
    8 bits of precision go; look at the accuracy. Scales are 256 times the ones of int16: a calibration for int8 may
    find better ones.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`.
    """

    code = "CMP046"
    name = "matmul-of-int16"
    sentences = ("IF Matmul or (FC with dynamic weights): IFM precision",)
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            fix = to_validate("QUANTIZE to int8 around it", later("transposing.matmul_of_int8", places_of(refused)))
            evidence = f"int16 product in {places(refused)}; {case.target.npu.name} multiplies computed int8 only"
            yield finding(case, refused, evidence, "Compute the product in int8.", fix)


RULES: tuple[type[Rule], ...] = (Slice, TransposeRank, LargeTranspose, Reverse, LargeMatmul, WideMatmul)

"""Rules about weights and biases."""

from collections.abc import Iterator

from mlia.graph.graph import Tensor
from mlia.rules.compatibility.refusals import finding, follows_from_constants, lossless, places, to_validate
from mlia.rules.phrases import sizes
from mlia.rules.rule import Case, ConstraintRule, Finding, Refused, Rule, later

_MOST = 127 * 65536  # of the absolute codes that one output adds up; of int16 activations on Ethos-U85 more
_MOST_INT16_ON_U85 = 32767 * 65536


class WideWeights(ConstraintRule):
    """Weights are not of 8 bits.

    ## Why it matters
    The MAC array multiplies by 8-bit weights only. Convolutions with other weights run on the Cortex-M.

    ## How it is found
    The compiler refuses a convolution or FULLY_CONNECTED because of the type of its weights.

    ## What to do
    Store weights as int8 with a scale for each output channel; activations may be int8 or int16.

    ## Limits
    Rounded weights change the outputs: check the accuracy. Weights that are computed are not tried.

    ## Source
    Vela 5.2's published constraints for all three families.
    """

    code = "CMP015"
    name = "wide-weights"
    sentences = ("Weight tensors must be 8-bit",)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            widths = {weights.dtype for each in refused if (weights := each.tensor(1)) is not None}
            evidence = f"{' and '.join(sorted(widths))} weights in {places(refused)}; the NPU takes int8 and uint8"
            remedy = "Quantize the weights to int8, with a scale for each output channel."
            yield finding(
                case, refused, evidence, remedy, to_validate("weights as int8", later("weights.weights_of_8_bits"))
            )


class HeavyWeights(ConstraintRule):
    """The weights of one output add up to more than the NPU's accumulator has room for.

    ## Why it matters
    Sums of products must fit into the accumulator, whatever the input is. With very many inputs, as behind a FLATTEN
    of a large tensor, they might not.

    ## How it is found
    The compiler adds up the absolute codes of each output channel.

    ## What to do
    Pool the tensor before it is flattened, or use fewer inputs. Larger scales of these weights, which make their
    codes smaller, are tried.

    ## Limits
    Smaller codes are coarser: check the accuracy.

    ## Source
    Vela 5.2's published constraints: 8,323,072 (127 x 2^16), and 2,130,706,432 for 16-bit inputs on Ethos-U85.
    """

    code = "CMP016"
    name = "heavy-weights"
    sentences = ("Weigth sum constraints", "Weight sum constraints")

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            source = refused[0].tensor(0)
            is_wide = case.target.npu.family == "ethos-u85" and source is not None and source.dtype == "int16"
            most = _MOST_INT16_ON_U85 if is_wide else _MOST
            violation = refused[0].constraint.violation.rstrip(".")
            evidence = f"{places(refused)}: {violation[:1].lower()}{violation[1:]}"
            remedy = "Pool before flattening, or use fewer inputs; or make the weights' scales larger."
            fix = to_validate("larger scales of these weights", later("weights.weights_with_coarser_scales", most))
            yield finding(case, refused, evidence, remedy, fix)


class UnsupportedBias(ConstraintRule):
    """A bias is computed, or has a type, a size or a shape that the NPU does not take.

    ## Why it matters
    The NPU adds the bias from a constant vector of int32 or int64 (at most 40 bits on Ethos-U55 and U65, 48 on
    Ethos-U85); otherwise the whole convolution runs on the Cortex-M.

    ## How it is found
    The compiler refuses the bias; its type and shape are told.

    ## What to do
    Store the bias as a constant vector of int32 (int64 for int16 activations), in units of input scale times weight
    scale.

    ## Limits
    A bias that depends on the input must be an ADD behind the convolution. One that is too large shows scales that
    are too small: quantize again.

    ## Source
    Vela 5.2's published constraints for all three families.
    """

    code = "CMP017"
    name = "unsupported-bias"
    sentences = ("Bias values must be", "Bias tensors must be", "Bias tensors precision", "Int64 bias must be")

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        stored = [each for each in refused if (bias := _bias(each)) is not None and bias.is_constant]
        computed = [each for each in refused if each not in stored]
        large = [each for each in stored if each.constraint.rule.startswith("Int64 bias")]
        odd = [each for each in stored if each not in large]
        if odd:
            bias = _bias(odd[0])
            shape = sizes(bias.shape) if bias is not None else ""
            evidence = (
                f"{bias.dtype if bias else ''} bias of shape {shape} in {places(odd)}; int32 of one axis is taken"
            )
            remedy = "Store the bias as a vector of int32 (int64 for int16 activations)."
            changes_nothing = all(
                (bias := _bias(each)) is not None and bias.dtype in ("int32", "int64") for each in odd
            )
            kind = lossless if changes_nothing else to_validate
            yield finding(
                case, odd, evidence, remedy, kind("biases as vectors of int32", later("weights.biases_as_stored"))
            )
        if large:
            evidence = f"{places(large)}: {large[0].constraint.violation.rstrip('.')}"
            remedy = "Quantize again: scales of the input or the weights are far too small for this bias."
            yield finding(case, large, evidence, remedy, why_not_tried="the right scales are not known")
        if computed:
            evidence = f"the bias of {places(computed)} is computed, and the NPU takes constants only"
            remedy = "Add it behind the operator, as an ADD, or make it a constant."
            if follows_from_constants(computed):
                fix = lossless("constants computed beforehand", later("sizes.with_constants_folded"))
                yield finding(case, computed, evidence, remedy, fix)
            else:
                reason = "the scale of the sum without the bias is not known"
                yield finding(case, computed, evidence, remedy, why_not_tried=reason)


def _bias(refused: Refused) -> Tensor | None:
    return refused.tensor(3 if refused.operator.kind == "TRANSPOSE_CONV" else 2)


RULES: tuple[type[Rule], ...] = (WideWeights, HeavyWeights, UnsupportedBias)

"""Rules about reductions over axes and sizes that the NPU does not take."""

from collections.abc import Iterator

from mlia.rules.compatibility.limits import LimitRule, places_of, shapes
from mlia.rules.compatibility.refusals import finding, lossless, to_validate
from mlia.rules.rule import Case, Finding, Rule, later


class SoftmaxRows(LimitRule):
    """A softmax has more rows than the NPU takes at once.

    ## Why it matters
    The CPU computes an exponential for every element; over a whole image that takes long.

    ## How it is found
    The compiler refuses the SOFTMAX, whose height times width is above 65,536.

    ## What to do
    Reshape the rows into several batches: the same numbers. Where only the largest class is needed, leave the softmax
    out and compare its inputs.

    ## Limits
    On the NPU a softmax has many steps: look at the time that the trial tells.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85; it was seen
    to take 65,536 itself.
    """

    code = "CMP036"
    name = "too-many-softmax-rows"
    sentences = ("The product of IFM width and height",)

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"SOFTMAX over {shapes(refused)}; height times width can be 65,536"
            advice = "Reshape the rows into several batches, or leave SOFTMAX out where only the largest is needed."
            fix = lossless("rows in several batches", later("reductions.softmax_in_batches", places_of(refused)))
            yield finding(case, refused, evidence, advice, fix)


class MeanOverDepth(LimitRule):
    """A mean is taken over the channels of a feature map.

    ## Why it matters
    The NPU reduces height and width; channels only where one of the three sizes is 1. Attention and normalization
    layers have such means, often many.

    ## How it is found
    The compiler refuses the MEAN because it reduces depth.

    ## What to do
    Reshape the input so that what is reduced becomes height or width: the same numbers.

    ## Limits
    A TRANSPOSE is added where an axis that stays lies between those that are reduced.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85.
    """

    code = "CMP037"
    name = "mean-over-depth"
    sentences = ("Reduction over depth",)

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"MEAN over the channels of {shapes(refused)}; only if height, width or depth is 1"
            advice = "Reshape the input so that what is reduced is height or width."
            fix = lossless("RESHAPE around the MEAN", later("reductions.means_of_another_shape", places_of(refused)))
            yield finding(case, refused, evidence, advice, fix)


class LongMean(LimitRule):
    """A mean is taken over more elements than the NPU can add up.

    ## Why it matters
    Long averages over time or over an image run on the CPU then.

    ## How it is found
    The compiler refuses the MEAN: an axis is longer than 4,096, or there are more elements in all than its sums hold.

    ## What to do
    Reshape a long axis into two, which changes no number; or average twice.

    ## Limits
    A length without suitable factors (a prime) must be padded or cut. Averaging twice rounds twice. LiteRT itself
    overflows on an int16 mean of more than 65,536 elements.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85.
    """

    code = "CMP038"
    name = "too-long-mean"
    sentences = ("Reduced axis must be less than 4096", "Amount of reduced elements")

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"MEAN of {shapes(refused)}; an axis can have 4,096, and int16 65,536 elements in all"
            advice = "Reshape the long axis into two, or average over a part first."
            shaped = lossless("a long axis as two", later("reductions.means_of_another_shape", places_of(refused)))
            twice = to_validate("two means in a row", later("reductions.means_in_two_steps", places_of(refused)))
            yield finding(case, refused, evidence, advice, shaped, twice)


class ArgmaxAxis(LimitRule):
    """The largest element is looked for along another axis than the channels.

    ## Why it matters
    The CPU does it then, and reads all of the tensor.

    ## How it is found
    The compiler refuses the ARG_MAX because of its axis.

    ## What to do
    Move the axis to the end by TRANSPOSE, or train the model with its classes as channels.

    ## Limits
    The axis must have at most 127 elements, see `too-deep-argmax`.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`.
    """

    code = "CMP039"
    name = "argmax-over-other-axis"
    sentences = ("Operation must be performed along",)
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"ARG_MAX over an inner axis of {shapes(refused)}; only over the last one"
            fix = lossless("TRANSPOSE in front", later("reductions.argmax_over_depth", places_of(refused)))
            yield finding(case, refused, evidence, "Move the axis to the end, or put the classes there.", fix)


class DeepArgmax(LimitRule):
    """The largest of more than 127 classes is looked for.

    ## Why it matters
    Of more classes than 127 the CPU must find the largest.

    ## How it is found
    The compiler refuses the ARG_MAX because of its depth.

    ## What to do
    Return the scores and find the largest in the program: this is one comparison for each.

    ## Limits
    Not tried, because the model's output is another one then.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`.
    """

    code = "CMP040"
    name = "too-deep-argmax"
    sentences = ("IFM depth must be less than or equal to 127",)
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"ARG_MAX over {shapes(refused)}; at most 127 classes"
            reason = "the model would have another output"
            advice = "Return the scores, and find the largest in the program."
            yield finding(case, refused, evidence, advice, why_not_tried=reason)


RULES: tuple[type[Rule], ...] = (SoftmaxRows, MeanOverDepth, LongMean, ArgmaxAxis, DeepArgmax)

"""Rules about kernels: strides, pooling, transposed convolutions and resizing that the NPU does not take."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from mlia.rules.compatibility.refusals import IntegerRule, finding, lossless, places, to_validate
from mlia.rules.phrases import named, quoted, sizes
from mlia.rules.rule import Case, Finding, Refused, Rule, later
from mlia.transforms.remedies.places import Place, place_of

_POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


class LimitRule(IntegerRule):
    """A rule about what one operator may be like. `is_on_u85` tells whether Ethos-U85 has the limit too."""

    is_on_u85: ClassVar[bool] = True

    def skip(self, case: Case) -> str:
        """Why the rule does not apply."""
        if not self.is_on_u85 and case.target.npu.family == "ethos-u85":
            return "only Ethos-U55 and U65 have this limit"
        return super().skip(case)


def places_of(refused: Sequence[Refused]) -> tuple[Place, ...]:
    """Where operators of the main subgraph are, for remedies that are told of which operators they are."""
    found = (place_of(each.subgraph, each.operator) for each in refused if not each.subgraph.index)
    return tuple(place for place in found if place is not None)


def shapes(refused: Sequence[Refused], position: int = 0, most: int = 2) -> str:
    """The shapes of an input and where they are, "8x8x16 in 'a'", the first few."""
    told = []
    for each in refused[:most]:
        tensor = each.tensor(position)
        size = sizes(tensor.shape) if tensor is not None else "?"
        told.append(f"{size} in {quoted(each.placement.name)}")
    return ", ".join(told) + (f" and {len(refused) - most} more" if len(refused) > most else "")


def _sides(each: Refused, height: str, width: str) -> str:
    operator = each.operator
    return f"{operator.number(height, 1)}x{operator.number(width, 1)}"


def _told(refused: Sequence[Refused], height: str, width: str) -> str:
    """Values of two options and where they are, each value once."""
    values: dict[str, list[str]] = {}
    for each in refused:
        values.setdefault(_sides(each, height, width), []).append(each.placement.name)
    first = [f"{value} in {named(names, 2)}" for value, names in list(values.items())[:2]]
    return ", ".join(first) + (" and others" if len(values) > 2 else "")


def _kinds(refused: Sequence[Refused], *kinds: str) -> list[Refused]:
    return [each for each in refused if each.operator.kind in kinds]


class Stride(LimitRule):
    """A kernel moves by more than 3 in a form that the NPU has not.

    ## Why it matters
    Ethos-U55 and U65 run a stride above 3 only in CONV_2D and pooling without padding and dilation; else the CPU does.

    ## How it is found
    The compiler refuses the operator, and its stride is above 3.

    ## What to do
    Pad explicitly and use VALID padding, write dilation into the weights, or compute with a stride of 2 or 3 and drop
    rows. All of these give the same numbers. A model designed with two strides of 2 is cheaper still.

    ## Limits
    Where SAME padding adds nothing, the compiler takes the operator as it is. Ethos-U85 has no such limit.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`. That Vela refuses a PAD directly
    in front of such a convolution was found with Vela 5.2 on ethos-u55-128; the remedy pads in another shape.
    """

    code = "CMP030"
    name = "unsupported-stride"
    sentences = ("Kernel stride must be", "Stride>3 is only supported")
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        convolutions, depthwise = _kinds(refused, "CONV_2D"), _kinds(refused, "DEPTHWISE_CONV_2D")
        pools = _kinds(refused, *_POOLS)
        if convolutions:
            evidence = (
                f"stride {_told(convolutions, 'stride_h', 'stride_w')}; above 3 only without padding and dilation"
            )
            advice = "Pad before the convolution and use VALID padding; write the zeros of dilation into the weights."
            fix = lossless(
                "explicit padding and dilation", later("kernels.plain_convolutions", places_of(convolutions))
            )
            yield finding(case, convolutions, evidence, advice, fix)
        if depthwise:
            evidence = (
                f"depthwise stride {_told(depthwise, 'stride_h', 'stride_w')}; at most 3 on {case.target.npu.name}"
            )
            advice = "Use strides of 2 or 3, one after the other; or compute with a smaller stride and drop rows."
            smaller = lossless(
                "a smaller stride, then STRIDED_SLICE", later("kernels.subsampled_depthwise", places_of(depthwise))
            )
            dense = lossless(
                "CONV_2D instead of depthwise", later("kernels.depthwise_as_convolution", places_of(depthwise))
            )
            yield finding(case, depthwise, evidence, advice, smaller, dense)
        if pools:
            evidence = f"pooling stride {_told(pools, 'stride_h', 'stride_w')} with SAME padding; above 3 only VALID"
            advice = "Use VALID padding, or a size that the stride divides; or pool the edges by themselves."
            parts = lossless("edges pooled by themselves", later("pooling.pools_in_parts", places_of(pools)))
            highest = _kinds(pools, "MAX_POOL_2D")
            padded = (
                [lossless("PADV2 of the lowest value", later("pooling.padded_max_pools", places_of(highest)))]
                if highest
                else []
            )
            yield finding(case, pools, evidence, advice, parts, *padded)


class PoolKernel(LimitRule):
    """A pool looks at a larger window than the NPU can.

    ## Why it matters
    The CPU computes it then, and a pool over large windows is slow there.

    ## How it is found
    The compiler refuses the pool, and its kernel is taller than 256, larger than 65,536 in all, or, in an average with
    SAME padding that adds something, above 8.

    ## What to do
    Pool twice with smaller windows. For a pool over everything, another shape of the tensor will do; a maximum can be
    split in steps; edges can be pooled by themselves: with the same numbers.

    ## Limits
    An average over many overlapping windows with SAME padding becomes a convolution and a multiplication, which round
    twice: differences of 2 codes were seen in int8.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85.
    """

    code = "CMP031"
    name = "unsupported-pool-kernel"
    sentences = ("Kernel constraints:", "kernel product must be")

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if not refused:
            return
        averages, highest = _kinds(refused, "AVERAGE_POOL_2D"), _kinds(refused, "MAX_POOL_2D")
        fixes = [
            lossless("the same pool in another shape", later("pooling.pools_of_another_shape", places_of(refused)))
        ]
        if averages:
            fixes.append(lossless("edges pooled by themselves", later("pooling.pools_in_parts", places_of(averages))))
            fixes.append(
                to_validate("DEPTHWISE_CONV_2D and MUL", later("pooling.averages_by_convolution", places_of(averages)))
            )
        if highest:
            fixes.append(lossless("maxima of maxima", later("pooling.max_pools_in_steps", places_of(highest))))
        evidence = (
            f"kernel {_told(refused, 'filter_height', 'filter_width')}; at most 256 high, and 8x8 with SAME averages"
        )
        yield finding(case, refused, evidence, "Pool twice with smaller windows, or use VALID padding.", *fixes)


class TransposedStride(LimitRule):
    """A transposed convolution has a stride that the NPU does not take.

    ## Why it matters
    The CPU is slow at it: the network's decoder waits for one operator.

    ## How it is found
    The compiler refuses the TRANSPOSE_CONV, whose stride is neither 1x1 nor 2x2.

    ## What to do
    Compute the interleaved rows and columns by one convolution for each row of the stride: the same numbers. Or
    upsample by 2 several times.

    ## Limits
    Weights and bias must be constants. Ethos-U85 takes all strides.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`. Estimated with Vela 5.2 on
    ethos-u55-128: 6.77 ms before, 0.66 ms after for 16x16x32, stride 4, kernel 8x8.
    """

    code = "CMP032"
    name = "unsupported-transposed-stride"
    sentences = ("Stride values WxH must be",)
    is_on_u85 = False

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"TRANSPOSE_CONV with stride {_told(refused, 'stride_h', 'stride_w')}; the NPU has 1x1 and 2x2"
            advice = "Use one convolution for each row of the stride and interleave them, or upsample by 2 in steps."
            fix = lossless("interleaved convolutions", later("upsampling.convolutions_interleaved", places_of(refused)))
            yield finding(case, refused, evidence, advice, fix)


class TransposedSize(LimitRule):
    """A transposed convolution makes an output of another size than the NPU can.

    ## Why it matters
    The NPU makes input times stride (SAME), or that plus kernel minus stride (VALID); the CPU computes all else.

    ## How it is found
    The compiler refuses the TRANSPOSE_CONV because of its shapes.

    ## What to do
    Interleave convolutions and crop the result: the same numbers. Or make the output as large as the NPU does, and
    crop it.

    ## Limits
    Weights and bias must be constants.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")`, alike for Ethos-U85.
    """

    code = "CMP033"
    name = "unsupported-transposed-size"
    sentences = ("Shape constraints:",)

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            made = [sizes(each.output.shape[1:3]) for each in refused if each.output is not None]
            stride = _sides(refused[0], "stride_h", "stride_w")
            evidence = f"{shapes(refused, 2)} with stride {stride} becomes {' and '.join(made[:2])}"
            advice = "Make the output input times stride and crop it, or interleave convolutions."
            fix = lossless("interleaved convolutions", later("upsampling.convolutions_interleaved", places_of(refused)))
            yield finding(case, refused, f"{evidence}; the NPU makes input times stride", advice, fix)


class Resize(LimitRule):
    """A feature map is resized by a factor that the NPU does not have.

    ## Why it matters
    Resizing sits in the middle of a network; on the CPU it splits the NPU's part, and bilinear is slow there.

    ## How it is found
    The compiler refuses the operator because of its factor. Ethos-U55 and U65 take 2, 4 and 8, the same for both axes,
    and 2 only for bilinear with half-pixel centers; Ethos-U85 takes powers of two for bilinear.

    ## What to do
    Resize by 2, in steps. Nearest neighbor of any factor can be made of copies with the same numbers. Bilinear can be
    made of small convolutions, one for each position between two pixels.

    ## Limits
    Copies of the nearest pixel are bit-identical to LiteRT's reference kernels. Its optimized ones, the default on a
    PC, round positions and pick a neighbor here and there at large factors (62 of 4096 codes at a factor of 2048).
    Convolutions round otherwise than LiteRT, whose weights have 10 bits: up to 4 codes on noise in int8. Bilinear
    factors with a long period (7/4) are not tried.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU55")` and `("EthosU85")`. Measured with
    Vela 5.2 on ethos-u55-128: bilinear 8x8x32 to 24x24, 1.40 ms before, 0.14 ms after.
    """

    code = "CMP034"
    name = "unsupported-resize"
    sentences = ("IF not (IFM H", "IF NOT (IFM H", "Scale-factor")

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        legal = (
            "a power of two up to 1024" if case.target.npu.family == "ethos-u85" else "2, 4 or 8, alike in both axes"
        )
        nearest, bilinear = _kinds(refused, "RESIZE_NEAREST_NEIGHBOR"), _kinds(refused, "RESIZE_BILINEAR")
        if nearest:
            fix = lossless("copies", later("resizing.copies", places_of(nearest)))
            yield finding(case, nearest, _resized(nearest, legal), "Resize by 2 in steps, or make it of copies.", fix)
        if bilinear:
            change = later("resizing.interpolating_convolutions", places_of(bilinear))
            fix = to_validate("one convolution for each position between pixels", change)
            advice = "Resize by 2 in steps without align_corners, or interpolate by convolutions."
            yield finding(case, bilinear, _resized(bilinear, legal), advice, fix)


def _resized(refused: Sequence[Refused], legal: str) -> str:
    told = []
    for each in refused[:2]:
        before, after = each.tensor(0), each.output
        both = [sizes(tensor.shape[1:3]) for tensor in (before, after) if tensor is not None]
        flags = [flag for flag in ("align_corners", "half_pixel_centers") if each.operator.options.get(flag)]
        with_flags = f" with {' and '.join(flags)}" if flags else ""
        told.append(f"{' to '.join(both)}{with_flags} in {quoted(each.placement.name)}")
    more = f" and {len(refused) - 2} more" if len(refused) > 2 else ""
    return f"{', '.join(told)}{more}; the factor can be {legal}"


class ContradictoryResize(LimitRule):
    """A resize asks for aligned corners and for half-pixel centers at once.

    ## Why it matters
    The two contradict each other. No NPU takes it, and LiteRT does not run such a bilinear resize either.

    ## How it is found
    The compiler refuses the operator because both flags are set.

    ## What to do
    Say which one the model was trained with, and convert it again with that one alone.

    ## Limits
    The trial keeps half-pixel centers, which is what PyTorch and TensorFlow 2 resize with.

    ## Source
    Vela 5.2's published constraints, `regor.tflite_operator_constraints("EthosU85")`.
    """

    code = "CMP035"
    name = "contradictory-resize"
    sentences = ("align_corners and half_pixel",)

    def check(self, case: Case) -> Iterator[Finding]:
        """What is wrong."""
        refused = self.refusals(case)
        if refused:
            evidence = f"align_corners and half_pixel_centers are both set in {places(refused)}"
            fix = to_validate("half-pixel centers only", later("resizing.half_pixel_centers_only", places_of(refused)))
            yield finding(case, refused, evidence, "Convert the model with the one that it was trained with.", fix)


RULES: tuple[type[Rule], ...] = (Stride, PoolKernel, TransposedStride, TransposedSize, Resize, ContradictoryResize)

"""Rules about kinds of operators that the NPU does not have."""

from collections.abc import Iterator

from mlia.results import Constraint
from mlia.rules.compatibility.control import CONTROL
from mlia.rules.compatibility.refusals import (
    FLOAT,
    KindRule,
    finding,
    follows_from_constants,
    kinds,
    lossless,
    places,
    to_validate,
    types_of,
)
from mlia.rules.rule import Case, Finding, Rule, later

_SPACE = ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
# What Ethos-U85 has and Ethos-U55 and U65 have not, apart from GATHER and variables, which have rules of their own.
ONLY_U85 = (
    "CAST", "DIV", "EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_NOT",
    "LOGICAL_OR", "NOT_EQUAL", "REDUCE_ALL", "REDUCE_ANY", "SCATTER_ND", "SELECT", "SELECT_V2",
)  # fmt: skip
_WRITTEN_OTHERWISE = ("BROADCAST_TO", "LOG_SOFTMAX", "ARG_MIN")
_ELSEWHERE = (
    *_SPACE, *ONLY_U85, *_WRITTEN_OTHERWISE, *CONTROL, "GATHER", "CUSTOM", "VAR_HANDLE", "READ_VARIABLE",
    "ASSIGN_VARIABLE", "CALL_ONCE", "SHAPE", "RANK", "DEQUANTIZE",
)  # fmt: skip


class SpaceRearranged(KindRule):
    """Space is moved to depth or to the batch, or back, by an operator that the NPU does not have.

    ## Why it matters
    These operators only move numbers, but on the Cortex-M, with a hand-over before and after.

    ## How it is found
    SPACE_TO_DEPTH, DEPTH_TO_SPACE, SPACE_TO_BATCH_ND or BATCH_TO_SPACE_ND run on the CPU.

    ## What to do
    Write them as RESHAPE, TRANSPOSE and RESHAPE (and PAD or SLICE), which move the same bytes on the NPU. Around
    a convolution, SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND mean dilation: export it as such.

    ## Limits
    Large TRANSPOSEs are slow on Ethos-U55 and U65; blocks and sizes must be known.

    ## Source
    Vela 5.2 has none of the four for any family. Measured with 1x8x8x8 on ethos-u55-128: 0.022 -> 0.015 ms.
    """

    code = "CMP023"
    name = "space-rearranged"

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.on_integers(case, *_SPACE)
        if refused:
            evidence = f"{kinds(refused)} ({places(refused)}): no such operator on {case.target.npu.name}"
            remedy = "Write them as RESHAPE, TRANSPOSE and RESHAPE, which move the same bytes on the NPU."
            fix = lossless("RESHAPE, TRANSPOSE, RESHAPE", later("rearranging.space_moved_by_transposes"))
            yield finding(case, refused, evidence, remedy, fix)


class GatherOffNpu(KindRule):
    """GATHER picks parts of a tensor on the CPU.

    ## Why it matters
    Picking is cheap, but not the two hand-overs around it.

    ## How it is found
    GATHER runs on the CPU because the NPU lacks it, or because its axis is not its number of batch dimensions.

    ## What to do
    With constant indexes, write it as SLICEs, one for each run of indexes, and a CONCATENATION.

    ## Limits
    Up to 16 runs; indexes that are computed need an Ethos-U85.

    ## Source
    Vela 5.2's published constraints: Ethos-U85 has GATHER with `axis` equal to `batch_dims`, the others have none.
    """

    code = "CMP024"
    name = "gather-off-npu"
    sentences = ("axis must be equal to batch_dims",)

    @classmethod
    def is_about(cls, constraint: Constraint) -> bool:
        return super().is_about(constraint) or constraint.rule.startswith(cls.sentences)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.on_integers(case, "GATHER")
        fixed = [each for each in refused if (indexes := each.tensor(1)) is not None and indexes.is_constant]
        computed = [each for each in refused if each not in fixed]
        if fixed:
            evidence = f"{places(fixed)} picks by constant indexes along axis {fixed[0].operator.number('axis')}"
            remedy = "Write it as SLICEs, one for each run of indexes, and a CONCATENATION."
            yield finding(
                case,
                fixed,
                evidence,
                remedy,
                lossless("SLICE and CONCATENATION", later("rearranging.gathers_as_slices")),
            )
        if computed:
            evidence = f"{places(computed)} picks by computed indexes"
            remedy = "Pick in the program, or use an Ethos-U85 with the axis equal to the number of batch dimensions."
            yield finding(case, computed, evidence, remedy, why_not_tried="the indexes are computed")


class WrittenOtherwise(KindRule):
    """An operator that the NPU does not have can be written with operators that it has.

    ## Why it matters
    The Cortex-M computes it, with a hand-over before and after.

    ## How it is found
    BROADCAST_TO, ARG_MIN or LOG_SOFTMAX run on the CPU.

    ## What to do
    BROADCAST_TO is TILE, and ARG_MIN is ARG_MAX of the negative: no bit changes. LOG_SOFTMAX at the end of the model is
    replaced by SOFTMAX, which has the same order, or left out.

    ## Limits
    With SOFTMAX the output has shares instead of logarithms: whoever reads it must know.

    ## Source
    Vela 5.2's lists of operators; bit-identity by LiteRT's reference kernels.
    """

    code = "CMP025"
    name = "written-otherwise"

    def check(self, case: Case) -> Iterator[Finding]:
        remedies = {
            "BROADCAST_TO": (
                "Use TILE, or leave the broadcast to the arithmetic behind it.",
                lossless("TILE", later("rearranging.broadcasts_as_tiles")),
            ),
            "ARG_MIN": (
                "Use ARG_MAX of the negative.",
                lossless("ARG_MAX of the negative", later("substitutes.smallest_as_largest")),
            ),
            "LOG_SOFTMAX": (
                "Use SOFTMAX, or no activation: the order of the classes is the same.",
                to_validate("SOFTMAX instead", later("substitutes.softmax_at_the_end")),
            ),
        }
        for kind, (remedy, fix) in remedies.items():
            refused = self.on_integers(case, kind)
            if refused:
                evidence = f"{kind} ({places(refused)}): no such operator on {case.target.npu.name}"
                yield finding(case, refused, evidence, remedy, fix)


class OnlyOnU85(KindRule):
    """An operator runs on Ethos-U85, but not on this NPU.

    ## Why it matters
    Comparisons, selections and casts between convolutions stop the NPU each time.

    ## How it is found
    The compiler knows no such operator for this family, and Ethos-U85 has it.

    ## What to do
    Replace it: a mask by MUL, a SELECT against a constant by MAXIMUM or MINIMUM, DIV by a constant by MUL. Or do it in
    the program, before or behind the model. Or choose an Ethos-U85.

    ## Limits
    What it stands for is not known, so that no replacement is tried.

    ## Source
    Vela 5.2's lists of operators: 55 for Ethos-U55 and U65, 74 for Ethos-U85.
    """

    code = "CMP022"
    name = "only-on-u85"

    def skip(self, case: Case) -> str:
        return "the target is an Ethos-U85" if case.target.npu.family == "ethos-u85" else super().skip(case)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = [each for each in self.on_integers(case, *ONLY_U85) if not follows_from_constants([each])]
        if refused:
            evidence = f"{kinds(refused)} ({places(refused)}): {case.target.npu.name} has none, Ethos-U85 has"
            remedy = "Replace by MUL, MAXIMUM or MINIMUM where that does the same, or do it in the program."
            yield finding(case, refused, evidence, remedy, why_not_tried="what stands for it depends on the model")


class NoSuchOperator(KindRule):
    """The NPU has no such operator, and nothing that computes the same is known.

    ## Why it matters
    The operator runs on the Cortex-M, with a hand-over before and after.

    ## How it is found
    The compiler knows no such operator for this family, and no other rule is about it.

    ## What to do
    At the end of the model, cut it off and compute it in the program. In the middle, use another operator when the
    model is made.

    ## Limits
    Where the operator takes little time and the NPU has little to do, it may stay.

    ## Source
    Vela 5.2's list of operators, `regor.tflite_operator_constraints`.
    """

    code = "CMP029"
    name = "no-such-operator"

    def check(self, case: Case) -> Iterator[Finding]:
        only = () if case.target.npu.family == "ethos-u85" else ONLY_U85
        elsewhere = {*_ELSEWHERE, *only}
        refused = [
            each for each in self.refusals(case) if each.operator.kind not in elsewhere and FLOAT not in types_of(each)
        ]
        if refused:
            evidence = f"{kinds(refused)} ({places(refused)}): no such operator on {case.target.npu.name}"
            is_last = all({*each.operator.outputs} <= {*each.subgraph.outputs} for each in refused)
            remedy = "Cut it off and compute it in the program." if is_last else "Use another operator in the model."
            reason = "no operators of the NPU are known to compute the same"
            yield finding(case, refused, evidence, remedy, why_not_tried=reason)


RULES: tuple[type[Rule], ...] = (OnlyOnU85, SpaceRearranged, GatherOffNpu, WrittenOtherwise, NoSuchOperator)

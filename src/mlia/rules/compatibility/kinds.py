"""Rules about kinds of operators that the NPU does not have."""

from collections.abc import Iterator

from mlia.graph.graph import Graph, Tensor
from mlia.results import Constraint
from mlia.rules.compatibility.control import CONTROL
from mlia.rules.compatibility.refusals import KindRule, finding, kinds, lossless, places, to_validate
from mlia.rules.rule import Case, Finding, Refused, Rule

_SPACE = ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")
# What Ethos-U85 has and Ethos-U55 and U65 have not, apart from GATHER and variables, which have rules of their own.
ONLY_U85 = (
    "CAST", "DIV", "EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_NOT",
    "LOGICAL_OR", "NOT_EQUAL", "REDUCE_ALL", "REDUCE_ANY", "SCATTER_ND", "SELECT", "SELECT_V2",
)  # fmt: skip
_WRITTEN_OTHERWISE = ("BROADCAST_TO", "L2_NORMALIZATION", "LOG_SOFTMAX", "ARG_MIN")
_ELSEWHERE = (
    *_SPACE, *ONLY_U85, *_WRITTEN_OTHERWISE, *CONTROL, "GATHER", "CUSTOM", "VAR_HANDLE", "READ_VARIABLE",
    "ASSIGN_VARIABLE", "CALL_ONCE", "SHAPE", "RANK", "DEQUANTIZE",
)  # fmt: skip


def space_moved(graph: Graph) -> Graph:
    """Space, depth and batch moved by RESHAPE and TRANSPOSE."""
    from mlia.transforms.remedies.rearranging import space_moved_by_transposes

    return space_moved_by_transposes(graph)


def gathers_as_slices(graph: Graph) -> Graph:
    """GATHER as SLICE and CONCATENATION."""
    from mlia.transforms.remedies.rearranging import gathers_as_slices as change

    return change(graph)


def broadcasts_as_tiles(graph: Graph) -> Graph:
    """BROADCAST_TO as TILE."""
    from mlia.transforms.remedies.rearranging import broadcasts_as_tiles as change

    return change(graph)


def written_otherwise(graph: Graph) -> Graph:
    """L2_NORMALIZATION, LOG_SOFTMAX and ARG_MIN in operators that the NPU has."""
    from mlia.transforms.remedies.substitutes import substituted

    return substituted(graph)


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
        refused = self.of_kinds(case, *_SPACE)
        if refused:
            evidence = f"{kinds(refused)} ({places(refused)}): no such operator on {case.target.npu.name}"
            remedy = "Write them as RESHAPE, TRANSPOSE and RESHAPE, which move the same bytes on the NPU."
            fix = lossless("RESHAPE, TRANSPOSE, RESHAPE", space_moved)
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
        refused = self.of_kinds(case, "GATHER")
        fixed = [each for each in refused if (indexes := each.tensor(1)) is not None and indexes.is_constant]
        computed = [each for each in refused if each not in fixed]
        if fixed:
            evidence = f"{places(fixed)} picks by constant indexes along axis {fixed[0].operator.number('axis')}"
            remedy = "Write it as SLICEs, one for each run of indexes, and a CONCATENATION."
            yield finding(case, fixed, evidence, remedy, lossless("SLICE and CONCATENATION", gathers_as_slices))
        if computed:
            evidence = f"{places(computed)} picks by computed indexes"
            remedy = "Pick in the program, or use an Ethos-U85 with the axis equal to the number of batch dimensions."
            yield finding(case, computed, evidence, remedy, why_not_tried="the indexes are computed")


class WrittenOtherwise(KindRule):
    """An operator that the NPU does not have can be written with operators that it has.

    ## Why it matters
    The Cortex-M computes it, with a hand-over before and after.

    ## How it is found
    BROADCAST_TO, L2_NORMALIZATION, LOG_SOFTMAX or ARG_MIN run on the CPU.

    ## What to do
    BROADCAST_TO is TILE, and changes no bit. L2_NORMALIZATION is MUL, SUM, RSQRT and MUL in int16, LOG_SOFTMAX is
    SOFTMAX and LOG in int16, and ARG_MIN is NEG and ARGMAX.

    ## Limits
    Apart from TILE, results round otherwise: check the accuracy. LOG_SOFTMAX ends at about -10.4, the logarithm of
    the smallest int16 code.

    ## Source
    Vela 5.2's list of operators for all three families.
    """

    code = "CMP025"
    name = "written-otherwise"

    def check(self, case: Case) -> Iterator[Finding]:
        tiled = self.of_kinds(case, "BROADCAST_TO")
        if tiled:
            evidence = f"BROADCAST_TO ({places(tiled)}): no such operator on {case.target.npu.name}"
            remedy = "Use TILE, or leave the broadcast to the arithmetic behind it."
            yield finding(case, tiled, evidence, remedy, lossless("TILE", broadcasts_as_tiles))
        others = [each for each in self.of_kinds(case, *_WRITTEN_OTHERWISE) if each not in tiled]
        if others:
            evidence = f"{kinds(others)} ({places(others)}): no such operator on {case.target.npu.name}"
            remedy = f"Write {'it' if len(others) == 1 else 'them'} with operators that the NPU has."
            yield finding(case, others, evidence, remedy, to_validate("operators of the NPU", written_otherwise))


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
        refused = self.of_kinds(case, *ONLY_U85)
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
        refused = [each for each in self.refusals(case) if each.operator.kind not in elsewhere and not _is_float(each)]
        if refused:
            evidence = f"{kinds(refused)} ({places(refused)}): no such operator on {case.target.npu.name}"
            is_last = all({*each.operator.outputs} <= {*each.subgraph.outputs} for each in refused)
            remedy = "Cut it off and compute it in the program." if is_last else "Use another operator in the model."
            reason = "no operators of the NPU are known to compute the same"
            yield finding(case, refused, evidence, remedy, why_not_tried=reason)


def _is_float(refused: Refused) -> bool:
    """Whether it computes in float32, which has a rule of its own."""
    tensors = map(refused.subgraph.tensor, (*refused.operator.inputs, *refused.operator.outputs))
    return any(isinstance(tensor, Tensor) and tensor.dtype == "float32" for tensor in tensors)


RULES: tuple[type[Rule], ...] = (OnlyOnU85, SpaceRearranged, GatherOffNpu, WrittenOtherwise, NoSuchOperator)

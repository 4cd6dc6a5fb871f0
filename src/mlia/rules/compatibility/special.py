"""Rules about variants of single operators, and about operators that contradict themselves."""

from collections.abc import Iterator

from mlia.results import Constraint
from mlia.rules.compatibility.refusals import finding, is_type_of_variable, kinds, lossless, places
from mlia.rules.rule import Case, ConstraintRule, Finding, Rule, later


class LstmVariant(ConstraintRule):
    """An LSTM has a variant that the NPU does not compute: coupled gates, peepholes, projection or normalization.

    ## Why it matters
    A whole LSTM runs on the Cortex-M; it is often most of the model.

    ## How it is found
    The compiler refuses UNIDIRECTIONAL_SEQUENCE_LSTM for its inputs.

    ## What to do
    Use the plain LSTM of Keras (`keras.layers.LSTM`, without peepholes and projection); put a Dense behind it for a
    projection.

    ## Limits
    The model has to be trained again.

    ## Source
    Vela 5.2's published constraints for all three families.
    """

    code = "CMP026"
    name = "lstm-variant"
    sentences = (
        "Implicit gate calculation", "Peephole variant", "Projection is not supported", "Gate normalization",
    )  # fmt: skip

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            asked = dict.fromkeys(each.constraint.rule.split(" is not")[0].lower() for each in refused)
            evidence = f"{', '.join(asked)} in {places(refused)}; the NPU computes the plain LSTM"
            remedy = "Use the plain LSTM; put a Dense behind it for a projection."
            yield finding(case, refused, evidence, remedy, why_not_tried="a plain LSTM must be trained")


class ScatterVariant(ConstraintRule):
    """SCATTER_ND has computed, repeated or long indexes, which Ethos-U85 does not take.

    ## Why it matters
    The operator runs on the Cortex-M, with a hand-over before and after.

    ## How it is found
    The compiler refuses its shape or its indexes.

    ## What to do
    Scatter along the first axis with constant indexes that do not repeat, or build the tensor with CONCATENATION
    and PAD.

    ## Limits
    Only what is computed from constants is tried.

    ## Source
    Vela 5.2's published constraints of SCATTER_ND for Ethos-U85.
    """

    code = "CMP027"
    name = "scatter-variant"
    sentences = ("Shape tensor must be constant", "Index tensor must", "Index tensor elements must")

    def skip(self, case: Case) -> str:
        return "" if case.target.npu.family == "ethos-u85" else "only Ethos-U85 has SCATTER_ND"

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if not refused:
            return
        rules = dict.fromkeys(each.constraint.violation.rstrip(".") for each in refused)
        evidence = f"SCATTER_ND in {places(refused)}: {'; '.join(rules)}"
        remedy = "Use constant indexes of one axis that do not repeat, or build the tensor by CONCATENATION and PAD."
        if all("constant" in each.constraint.rule for each in refused) and not any(
            {*each.operator.inputs} & {*each.subgraph.inputs} for each in refused
        ):
            yield finding(
                case,
                refused,
                evidence,
                remedy,
                lossless("constants computed before", later("sizes.with_constants_folded")),
            )
        else:
            yield finding(case, refused, evidence, remedy, why_not_tried="the indexes belong to the model")


class BrokenOperator(ConstraintRule):
    """An operator contradicts itself: its inputs, outputs or options do not fit each other.

    ## Why it matters
    Such a model was damaged or written wrongly. Runtimes refuse it or compute something else.

    ## How it is found
    The compiler finds an operator without inputs or outputs, a SPLIT into other numbers of parts than it says, weights
    of FULLY_CONNECTED that are no matrix, or handles that are no resources.

    ## What to do
    Convert the model again, with the newest converter.

    ## Limits
    Most broken models are refused as a whole, before rules see them.

    ## Source
    Vela 5.2's published constraints, of inputs and outputs, for all three families.
    """

    code = "CMP028"
    name = "broken-operator"
    sentences = (
        "Operations must have at least one", "num_splits must match", "FullyConnected weights must be on the form",
        "IFM and OFM shapes must match", "Variable handle tensors must be",
    )  # fmt: skip

    @classmethod
    def is_about(cls, constraint: Constraint) -> bool:
        """Whether a refusal is about what contradicts itself; a variable of another type does not."""
        return super().is_about(constraint) and not is_type_of_variable(constraint)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            told = "; ".join(dict.fromkeys(each.constraint.violation.rstrip(".") for each in refused))
            evidence = f"{kinds(refused)} ({places(refused)}): {told}"
            remedy = "Convert the model again; it contradicts itself."
            yield finding(case, refused, evidence, remedy, why_not_tried="which of the two is right is not known")


RULES: tuple[type[Rule], ...] = (LstmVariant, ScatterVariant, BrokenOperator)

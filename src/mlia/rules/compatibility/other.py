"""Refusals that no other rule knows: a compiler of another version may have more."""

from collections import defaultdict
from collections.abc import Iterator

from mlia.advice import Severity
from mlia.results import Compatibility, OperatorId
from mlia.rules.rule import Case, ConstraintRule, Finding, NpuRule, Rule


class OtherConstraint(NpuRule):
    """An operator breaks a constraint of the NPU that no other rule is about.

    ## Why it matters
    The operator runs on the Cortex-M, and the NPU has to stop and hand over.

    ## How it is found
    The compiler refuses the operator, and the sentence that it quotes is none that another rule knows.

    ## What to do
    Change the operator so that it keeps the constraint, or replace it.

    ## Limits
    The values and the constraint are the compiler's own words.

    ## Source
    The log of the installed compiler.
    """

    code = "CMP061"
    name = "other-constraint"
    severity = Severity.WARNING
    reads = Compatibility

    def check(self, case: Case) -> Iterator[Finding]:
        from mlia.rules.catalog import all_rules

        known = [rule for rule in all_rules() if issubclass(rule, ConstraintRule)]
        found: dict[tuple[str, str], list[OperatorId]] = defaultdict(list)
        for refused in case.refused:
            if not any(rule.is_about(refused.constraint) for rule in known):
                found[refused.constraint.violation, refused.constraint.rule].append(refused.id)
        for (violation, sentence), operators in found.items():
            yield Finding(
                tuple(operators),
                violation.rstrip("."),
                f"Keep to: {sentence.rstrip('.')}." if sentence else "Replace the operator, or leave it to the CPU.",
                why_not_tried="the rule of the hardware is not known to mlia",
                at_stake_ms=case.milliseconds(operators),
            )


RULES: tuple[type[Rule], ...] = (OtherConstraint,)

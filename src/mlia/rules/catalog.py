"""All rules, by code."""

from collections.abc import Sequence

from mlia.errors import RuleError
from mlia.rules import cortex_m, memory, optimization, quantization
from mlia.rules.compatibility import compiled, other
from mlia.rules.performance import activations, bounds, layout, shape
from mlia.rules.rule import CpuRule, NpuRule, Rule

_FAMILIES = (compiled, other, bounds, shape, layout, activations, memory, optimization, quantization, cortex_m)
RULES: tuple[type[Rule], ...] = tuple(
    sorted((rule for family in _FAMILIES for rule in family.RULES), key=lambda rule: rule.code)
)


def find_rule(code: str) -> type[Rule]:
    """The rule with that code or name.

    Raises:
        RuleError: there is none.
    """
    wanted = code.lower()
    for rule in RULES:
        if wanted in (rule.code.lower(), rule.name):
            return rule
    from difflib import get_close_matches

    near = get_close_matches(code.upper(), [rule.code for rule in RULES], n=3, cutoff=0.5)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    raise RuleError(f"no rule '{code}'{hint}; `mlia rule list` shows them all")


def chosen(select: Sequence[str], ignore: Sequence[str]) -> tuple[type[Rule], ...]:
    """The rules whose codes begin with one of `select` (all when empty) and with none of `ignore`.

    Raises:
        RuleError: a beginning that no code has.
    """
    for beginning in (*select, *ignore):
        if not beginning or not any(rule.code.startswith(beginning.upper()) for rule in RULES):
            raise RuleError(f"no rule's code begins with '{beginning}'; `mlia rule list` shows them all")
    wanted = tuple(beginning.upper() for beginning in select) or ("",)
    unwanted = tuple(beginning.upper() for beginning in ignore)
    return tuple(rule for rule in RULES if rule.code.startswith(wanted) and not rule.code.startswith(unwanted))


def npu_rules(rules: Sequence[type[Rule]]) -> list[NpuRule]:
    """Those about an Ethos-U, ready to check."""
    return [rule() for rule in rules if issubclass(rule, NpuRule)]


def cpu_rules(rules: Sequence[type[Rule]]) -> list[CpuRule]:
    """Those about a Cortex-M alone, ready to check."""
    return [rule() for rule in rules if issubclass(rule, CpuRule)]

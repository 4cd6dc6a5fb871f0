"""All rules, by code. Importing them takes longer than asking them, so each is imported when it is first asked."""

from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module

from msgspec import Struct

from mlia.advice import Severity
from mlia.errors import RuleError
from mlia.rules.rule import Rule


class About(StrEnum):
    """What a rule speaks of, so that the others need not be imported."""

    NPU = "a model on an Ethos-U"
    REFUSED = "operators that an Ethos-U leaves to its host"
    COMPILED = "a model that is compiled already"
    CPU = "a model on a Cortex-M alone"


# Which module of this package has which rules, and what they are about.
_HOMES = (
    ("compatibility.floats", About.REFUSED, ("CMP001", "CMP002", "CMP003")),
    ("compatibility.types", About.REFUSED, ("CMP004", "CMP005", "CMP018")),
    ("compatibility.shapes", About.REFUSED, ("CMP006", "CMP007", "CMP008", "CMP009")),
    ("compatibility.quantization", About.REFUSED, ("CMP010", "CMP012", "CMP013", "CMP014")),
    ("compatibility.quantization", About.NPU, ("CMP011",)),
    ("compatibility.weights", About.REFUSED, ("CMP015", "CMP016", "CMP017")),
    ("compatibility.control", About.REFUSED, ("CMP019", "CMP020", "CMP021")),
    ("compatibility.kinds", About.REFUSED, ("CMP022", "CMP023", "CMP024", "CMP025", "CMP029")),
    ("compatibility.special", About.REFUSED, ("CMP026", "CMP027", "CMP028")),
    ("compatibility.limits", About.REFUSED, ("CMP030", "CMP031", "CMP032", "CMP033", "CMP034", "CMP035")),
    ("compatibility.limits_reductions", About.REFUSED, ("CMP036", "CMP037", "CMP038", "CMP039", "CMP040")),
    ("compatibility.limits_layout", About.REFUSED, ("CMP041", "CMP042", "CMP043", "CMP044", "CMP045", "CMP046")),
    ("compatibility.cuts", About.REFUSED, ("CMP050",)),
    ("compatibility.compiled", About.COMPILED, ("CMP060",)),
    ("compatibility.other", About.REFUSED, ("CMP061",)),
    ("performance.bounds", About.NPU, ("PER001",)),
    ("performance.shape", About.NPU, ("PER002", "PER003", "PER004", "PER005", "PER006")),
    ("performance.host", About.NPU, ("PER030",)),
    ("performance.layout", About.NPU, ("PER010", "PER011", "PER012")),
    ("performance.edges", About.NPU, ("PER013", "PER014")),
    ("performance.activations", About.NPU, ("PER020", "PER021", "PER022", "PER023", "PER024", "PER025")),
    ("memory", About.NPU, ("MEM001", "MEM002", "MEM003", "MEM004", "MEM005")),
    ("optimization", About.NPU, ("OPT001", "OPT002", "OPT003", "OPT004", "OPT005", "OPT006")),
    ("quantization", About.NPU, ("QNT001", "QNT002", "QNT003", "QNT004", "QNT005")),
    ("quantization_weights", About.NPU, ("QNT006", "QNT007", "QNT008", "QNT009", "QNT010")),
    ("verification", About.NPU, ("VER001", "VER002")),
    ("cortex_m", About.CPU, ("CPU001", "CPU002", "CPU003")),
)
CODES = tuple(sorted(code for _, _, codes in _HOMES for code in codes))
ABOUT = {code: about for _, about, codes in _HOMES for code in codes}
_HOME_OF = {code: home for home, _, codes in _HOMES for code in codes}


class RuleSummary(Struct, frozen=True):
    """A rule in one sentence, for people who choose what to ask."""

    code: str
    name: str
    severity: Severity
    summary: str

    def __str__(self) -> str:
        return f"{self.code} {self.name} ({self.severity}): {self.summary}"


def load_rule(code: str) -> type[Rule]:
    """The rule with that code, which must be one of CODES."""
    module = import_module(f"mlia.rules.{_HOME_OF[code]}")
    rules: tuple[type[Rule], ...] = module.RULES
    return next(rule for rule in rules if rule.code == code)


def all_rules() -> tuple[type[Rule], ...]:
    """Every rule, in the order of the codes."""
    return tuple(map(load_rule, CODES))


def summaries() -> tuple[RuleSummary, ...]:
    """Every rule in one sentence, in the order of the codes."""
    return tuple(RuleSummary(rule.code, rule.name, rule.severity, rule.summary()) for rule in all_rules())


def find_rule(name: str) -> type[Rule]:
    """The rule with that code or name.

    Raises:
        RuleError: there is none.
    """
    if name.upper() in CODES:
        return load_rule(name.upper())
    for rule in all_rules():
        if rule.name == name.lower():
            return rule
    from difflib import get_close_matches

    known = [word for rule in all_rules() for word in (rule.code, rule.name)]
    near = get_close_matches(name.upper(), known, n=3, cutoff=0.5) or get_close_matches(name.lower(), known, n=3)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    raise RuleError(f"no rule '{name}'{hint}; `mlia rule list` shows them all")


def chosen(select: Sequence[str], ignore: Sequence[str]) -> tuple[str, ...]:
    """The codes that begin with one of `select` (all when empty) and with none of `ignore`; names stand for codes.

    Raises:
        RuleError: a beginning that no code has, or nothing is left.
    """
    wanted = tuple(map(_beginning, select)) or ("",)
    unwanted = tuple(map(_beginning, ignore))
    codes = tuple(code for code in CODES if code.startswith(wanted) and not code.startswith(unwanted))
    if not codes:
        raise RuleError("all rules that are selected are ignored")
    return codes


def _beginning(given: str) -> str:
    """What a code begins with, for that or for the name of a rule."""
    beginning = given.upper()
    if beginning and any(code.startswith(beginning) for code in CODES):
        return beginning
    if "-" in given:
        return find_rule(given).code
    raise RuleError(f"no rule's code begins with '{given}'; `mlia rule list` shows them all")

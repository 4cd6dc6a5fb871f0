"""All rules, by code. Importing them takes longer than asking them, so each is imported when it is first asked."""

from collections.abc import Sequence
from importlib import import_module

from mlia.errors import RuleError
from mlia.rules.rule import Rule

# Which module of this package has which rules.
_HOMES = {
    "compatibility.floats": ("CMP001", "CMP002", "CMP003"),
    "compatibility.types": ("CMP004", "CMP005", "CMP018"),
    "compatibility.shapes": ("CMP006", "CMP007", "CMP008", "CMP009"),
    "compatibility.quantization": ("CMP010", "CMP011", "CMP012", "CMP013", "CMP014"),
    "compatibility.weights": ("CMP015", "CMP016", "CMP017"),
    "compatibility.control": ("CMP019", "CMP020", "CMP021"),
    "compatibility.kinds": ("CMP022", "CMP023", "CMP024", "CMP025", "CMP029"),
    "compatibility.special": ("CMP026", "CMP027", "CMP028"),
    "compatibility.limits": ("CMP030", "CMP031", "CMP032", "CMP033", "CMP034", "CMP035"),
    "compatibility.limits_reductions": ("CMP036", "CMP037", "CMP038", "CMP039", "CMP040"),
    "compatibility.limits_layout": ("CMP041", "CMP042", "CMP043", "CMP044", "CMP045", "CMP046"),
    "compatibility.cuts": ("CMP050",),
    "compatibility.compiled": ("CMP060",),
    "compatibility.other": ("CMP061",),
    "performance.bounds": ("PER001",),
    "performance.shape": ("PER002", "PER003", "PER004", "PER005", "PER006"),
    "performance.host": ("PER030",),
    "performance.layout": ("PER010", "PER011", "PER012"),
    "performance.activations": ("PER020", "PER021", "PER022", "PER023", "PER024", "PER025"),
    "memory": ("MEM001", "MEM002", "MEM003", "MEM004", "MEM005"),
    "optimization": ("OPT001", "OPT002", "OPT003", "OPT004", "OPT005", "OPT006"),
    "quantization": ("QNT001", "QNT002", "QNT003", "QNT004", "QNT005"),
    "quantization_weights": ("QNT006", "QNT007", "QNT008", "QNT009", "QNT010"),
    "verification": ("VER001", "VER002"),
    "cortex_m": ("CPU001", "CPU002", "CPU003"),
}
COMPILED = "CMP060"
# What the compiler takes although it should not; all other rules about compatibility are about operators on the CPU.
WHEREVER_IT_RUNS = ("CMP011",)
CODES = tuple(sorted(code for codes in _HOMES.values() for code in codes))
_HOME_OF = {code: home for home, codes in _HOMES.items() for code in codes}


def load_rule(code: str) -> type[Rule]:
    """The rule with that code, which must be one of CODES."""
    module = import_module(f"mlia.rules.{_HOME_OF[code]}")
    rules: tuple[type[Rule], ...] = module.RULES
    return next(rule for rule in rules if rule.code == code)


def all_rules() -> tuple[type[Rule], ...]:
    """Every rule, in the order of the codes."""
    return tuple(map(load_rule, CODES))


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

"""Rules about types of tensors."""

from collections import Counter
from collections.abc import Iterator

from mlia.rules.compatibility.refusals import (
    FLOAT,
    finding,
    follows_from_constants,
    kinds,
    lossless,
    places,
    to_validate,
    types_of,
)
from mlia.rules.compatibility.shapes import size_operators
from mlia.rules.rule import Case, ConstraintRule, Finding, Refused, Rule, later

_TAKEN = ("int8", "uint8", "int16", "int32", "int64", FLOAT)


def _types_told(refused: list[Refused]) -> str:
    """The types that occur, the most frequent first."""
    counted = Counter(dtype for each in refused for dtype in {*types_of(each)})
    return " and ".join(dtype for dtype, _ in counted.most_common())


class UnsupportedType(ConstraintRule):
    """Tensors have a type that the NPU does not know, such as uint32, float16, int4 or string.

    ## Why it matters
    All operators that read or write such a tensor run on the Cortex-M.

    ## How it is found
    The compiler refuses the operator because of its types, and a tensor of it has none of those that are taken.
    float32 has rules of its own.

    ## What to do
    Use int8 or int16 for what is computed, and int32 for indexes.

    ## Limits
    Not every operator takes every type that the NPU knows.

    ## Source
    Vela 5.2's published constraints (types of feature maps).
    """

    code = "CMP004"
    name = "unsupported-type"
    sentences = ("Feature-map dataTypes must be",)

    def check(self, case: Case) -> Iterator[Finding]:
        taken = (*_TAKEN, "bool") if case.target.npu.family == "ethos-u85" else _TAKEN
        refused = [each for each in self.refusals(case) if {*types_of(each)} - {*taken}]
        if refused:
            wrong = " and ".join(
                dict.fromkeys(dtype for each in refused for dtype in types_of(each) if dtype not in taken)
            )
            evidence = f"{wrong} in {kinds(refused)} ({places(refused)})"
            remedy = "Use int8 or int16 for what is computed, and int32 for indexes."
            reason = "another type needs another model: no scale is known for it"
            yield finding(case, refused, evidence, remedy, why_not_tried=reason)


class WideIntegers(ConstraintRule):
    """Operators compute with int32 or int64 where the NPU has 8 and 16 bits only.

    ## Why it matters
    Such operators often come from indexes and sizes that are computed at run time; each one stops the NPU.

    ## How it is found
    The compiler refuses the operator because its tensors have 32 or 64 bits.

    ## What to do
    Compute indexes in the program or make them constants; quantize what is left to int8 or int16.

    ## Limits
    Ethos-U55 and U65 take int32 in a few operators (ADD, SUB, MUL, RESHAPE, some TRANSPOSEs); Ethos-U85 in most.

    ## Source
    Vela 5.2's published constraints for Ethos-U55 and U65.
    """

    code = "CMP005"
    name = "wide-integers"
    sentences = ("32-bit feature-maps", "64-bit feature-maps")

    def skip(self, case: Case) -> str:
        return "only Ethos-U55 and U65 have this limit" if case.target.npu.family == "ethos-u85" else ""

    def check(self, case: Case) -> Iterator[Finding]:
        sizes = size_operators(case)  # they have a rule of their own
        refused = [each for each in self.refusals(case) if each.id not in sizes]
        if refused:
            wide = [each for each in types_of_all(refused) if each in ("int32", "int64", "uint32", "uint64")]
            told = " and ".join(dict.fromkeys(wide)) or "32 or 64 bits"
            evidence = f"{told} in {kinds(refused)} ({places(refused)})"
            remedy = "Make the values constants or compute them in the program; use int8 or int16 for what is left."
            if follows_from_constants(refused):
                fix = lossless("constants computed beforehand", later("sizes.with_constants_folded"))
                yield finding(case, refused, evidence, remedy, fix)
            else:
                reason = "no scale is known with which fewer bits would do"
                yield finding(case, refused, evidence, remedy, why_not_tried=reason)


def types_of_all(refused: list[Refused]) -> list[str]:
    """All types that occur, in their order."""
    return [dtype for each in refused for dtype in types_of(each)]


class MissingForm(ConstraintRule):
    """An operator has a type for which the NPU lacks a form, although it has the operator.

    ## Why it matters
    A model with 16-bit activations loses its activation functions to the Cortex-M, one hand-over each.

    ## How it is found
    The compiler refuses ELU, GELU, LOG, RSQRT or MEAN because of the type of their tensors.

    ## What to do
    Compute these few operators in int8 between two QUANTIZEs, which the NPU has, or use another activation function.

    ## Limits
    int8 has 256 levels: check the accuracy. A MEAN of int32 needs a quantized model.

    ## Source
    Vela 5.2's published constraints: ELU takes int8, GELU int8 and uint8, LOG and RSQRT int8 and int16.
    """

    code = "CMP018"
    name = "missing-form"
    sentences = ("IFM and OFM datatypes must match", "IFM must be Int8 or Int16", "IFM precision must be one of")

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        narrow = [each for each in refused if each.operator.kind in _EIGHT_BIT_FORMS and _has_codes(each)]
        others = [each for each in refused if each not in narrow]
        if narrow:
            remedy = "Compute them in int8 between two QUANTIZEs, or use another activation function."
            fix = to_validate("these operators in int8", later("quantizing.forms_of_8_bits"))
            yield finding(case, narrow, f"{_types_told(narrow)} in {kinds(narrow)} ({places(narrow)})", remedy, fix)
        if others:
            evidence = f"{_types_told(others)} in {kinds(others)} ({places(others)})"
            remedy = "Give them one type for input and output: int8, or int16 where the NPU has it."
            yield finding(case, others, evidence, remedy, why_not_tried="no scale is known for another type")


_EIGHT_BIT_FORMS = ("ELU", "GELU", "LOG", "RSQRT")


def _has_codes(refused: Refused) -> bool:
    return {*types_of(refused)} <= {"int8", "uint8", "int16"}


RULES: tuple[type[Rule], ...] = (UnsupportedType, WideIntegers, MissingForm)

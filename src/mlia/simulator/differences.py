"""Where LiteRT's reference kernels and the NPU differ although both are right, or where Vela asks for something else.

A list in one place: comparisons and the fuzz explain differences by it, and nothing else is explained.
"""

from collections.abc import Collection
from enum import StrEnum

from msgspec import Struct

FAMILIES = ("ethos-u55", "ethos-u65", "ethos-u85")


class Trait(StrEnum):
    """What an operator has to have for a difference, besides its kind and type."""

    PER_CHANNEL = "weights quantized per channel"
    DROPS_AXIS = "a reduced width or depth that is not kept"
    MIRRORS_CHANNELS = "channels that are mirrored"
    SEVERAL_AXES = "several axes that are reduced"


class KnownDifference(Struct, frozen=True):
    """A difference and its reason. `codes` is how many codes (LSB) it may be; None is any number.

    `is_defect` says that the compiled stream does not compute the operator: the NPU's result is wrong, not rounded
    otherwise.
    """

    kind: str
    dtypes: tuple[str, ...]
    codes: int | None
    reason: str
    trait: Trait | None = None
    families: tuple[str, ...] = FAMILIES
    is_defect: bool = False


_BOTH = ("int8", "int16")
_ONE_ROW = "Vela 5.2 reads one row of the input only, with padding to its right, where the reduced axis is not kept"

KNOWN = (
    KnownDifference(
        "FULLY_CONNECTED",
        ("int8",),
        2,
        "LiteRT rounds once and Vela's stream asks for two roundings",
    ),
    KnownDifference(
        "FULLY_CONNECTED", ("int16",), 1, "Vela emits a multiplier of 16 bits where LiteRT multiplies with 32"
    ),
    KnownDifference("ABS", ("int16",), 1, "LiteRT divides the two scales in float32, Vela in float64"),
    KnownDifference(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        ("int8",),
        2,
        "LiteRT computes sigmoid and tanh of the gates with polynomials, the NPU with its table; steps add up",
    ),
    KnownDifference("LOG", ("int16",), 1, "the last entry of Vela's table is one less than that of LiteRT's"),
    *(
        KnownDifference(kind, ("int16",), 1, "LiteRT rounds int16 numbers, by their scale, before it compares them")
        for kind in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
    ),
    KnownDifference("REDUCE_MAX", _BOTH, None, _ONE_ROW, Trait.DROPS_AXIS, is_defect=True),
    KnownDifference("REDUCE_MIN", _BOTH, None, _ONE_ROW, Trait.DROPS_AXIS, is_defect=True),
    KnownDifference(
        "SUM", _BOTH, None, "Vela 5.2 sums over one of several axes only", Trait.SEVERAL_AXES, is_defect=True
    ),
    KnownDifference(
        "MIRROR_PAD",
        _BOTH,
        None,
        "Vela 5.2 puts the input into the first channels and writes none of the mirrored ones",
        Trait.MIRRORS_CHANNELS,
        is_defect=True,
    ),
)


def known_difference(kind: str, dtype: str, family: str, traits: Collection[Trait] = ()) -> KnownDifference | None:
    """What is known about an operator that differs; None if it must not."""
    for known in KNOWN:
        is_meant = known.kind == kind and dtype in known.dtypes and family in known.families
        if is_meant and (known.trait is None or known.trait in traits):
            return known
    return None


def is_explained(known: KnownDifference | None, codes: int) -> bool:
    """Whether a difference of so many codes is one of those that are known and no defect."""
    if known is None or known.is_defect:
        return codes == 0
    return known.codes is None or codes <= known.codes

"""Where LiteRT's reference kernels and the NPU differ although both are right, or where Vela asks for something else.

A list in one place: comparisons and the fuzz explain differences by it, and nothing else is explained.
"""

from collections.abc import Collection
from enum import StrEnum

from msgspec import Struct

FAMILIES = ("ethos-u55", "ethos-u65", "ethos-u85")
WIDEST_CELL = 2.0**-9  # the scale of an LSTM's cell, of 16 bits, with 6 of them before the point
FEW = 4  # different elements say nothing yet of their share


class Trait(StrEnum):
    """What an operator has to have for a difference, besides its kind and type."""

    APPLIES_TANH = "a fused TANH"
    DROPS_AXIS = "a reduced width or depth that is not kept"
    MIRRORS_CHANNELS = "channels that are mirrored"
    SEVERAL_AXES = "several axes that are reduced"
    SHORT_BIAS = "a bias of int32 beside int16"
    WIDE_CELL = "a cell whose scale is above 2^-9"
    TINY_SCALE = "an output scale so small that one code of the inputs is more than all of its codes"


class KnownDifference(Struct, frozen=True):
    """A difference and its reason. `codes` is how many codes (LSB) it may be; None is any number.

    `share` is the largest part of the elements that may differ, where there are enough of them to tell (`FEW`).
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
    share: float = 1.0


_BOTH = ("int8", "int16")
_ONE_ROW = "Vela 5.2 reads one row of the input only, with padding to its right, where the reduced axis is not kept"

_WITH_BIAS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")

KNOWN = (
    *(
        KnownDifference(
            kind,
            ("uint8", *_BOTH),
            None,
            "Vela 5.2 makes the table of a fused TANH without the output's scale; LiteRT's integer kernels apply none",
            Trait.APPLIES_TANH,
            is_defect=True,
        )
        for kind in ("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D", "MUL", "SUB", *_WITH_BIAS)
    ),
    *(
        KnownDifference(
            kind,
            ("uint8", *_BOTH),
            None,
            "the output's scale is so small that no multiplier holds the quotient, and each side cuts it otherwise",
            Trait.TINY_SCALE,
        )
        for kind in ("ADD", "MUL", "SUB", "QUANTIZE", *_WITH_BIAS)
    ),
    *(
        KnownDifference(
            kind,
            ("int16",),
            1,
            "beside a bias of int32 Vela's stream asks for two roundings, and LiteRT rounds once",
            Trait.SHORT_BIAS,
            ("ethos-u55", "ethos-u65"),
            share=0.5,  # measured: 35 of 288
        )
        for kind in _WITH_BIAS
    ),
    *(
        KnownDifference(
            kind,
            ("int16",),
            None,
            "beside a bias of int32 Vela 5.2 writes a scale of 31 bits where the NPU reads 15",
            Trait.SHORT_BIAS,
            ("ethos-u85",),
            is_defect=True,
        )
        for kind in _WITH_BIAS
    ),
    KnownDifference(
        "FULLY_CONNECTED",
        ("int8",),
        2,
        "LiteRT rounds once and Vela's stream asks for two roundings",
        share=0.05,  # measured: 54 of 327,680
    ),
    KnownDifference(
        "FULLY_CONNECTED",
        ("int16",),
        1,
        "Vela emits a multiplier of 16 bits where LiteRT multiplies with 32",
        share=0.5,  # measured: 14 of 56, at the edges
    ),
    KnownDifference("ABS", ("int16",), 1, "LiteRT divides the two scales in float32, Vela in float64", share=0.25),
    KnownDifference(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        ("int8",),
        None,
        "LiteRT's kernels are wrong for a cell beyond 64, by up to 243 codes from a calculation in float; not the NPU",
        Trait.WIDE_CELL,
    ),
    KnownDifference(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        ("int8",),
        2,
        "LiteRT computes sigmoid and tanh of the gates with polynomials, the NPU with its table; steps add up",
        share=0.25,  # measured: 24 of 380
    ),
    # Every element of an input of the largest code differs: one of four samples in the fuzz.
    KnownDifference(
        "LOG", ("int16",), 1, "the last entry of Vela's table is one less than that of LiteRT's", share=0.5
    ),
    *(
        KnownDifference(
            kind, ("int16",), 1, "LiteRT rounds int16 numbers, by their scale, before it compares them", share=0.05
        )
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


def is_explained(known: KnownDifference | None, codes: int, different: int, elements: int) -> bool:
    """Whether so many different elements, by up to so many codes, are of those that are known and no defect."""
    if not different:
        return True
    if known is None or known.is_defect:
        return False
    return (known.codes is None or codes <= known.codes) and different <= max(FEW, known.share * elements)

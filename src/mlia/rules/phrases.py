"""How figures and names are put in the evidence of rules."""

from collections.abc import Iterable, Sequence

KIB = 1024
_LONGEST = 40


def kib(count: int) -> str:
    """Bytes as KiB, with a decimal place where it matters."""
    return f"{count / KIB:,.1f} KiB" if count < 10 * KIB else f"{count / KIB:,.0f} KiB"


def percent(share: float) -> str:
    """A share of 0..1 as whole percent."""
    return f"{100 * share:.0f} %"


def counted(number: int, noun: str) -> str:
    """1 operator, 2 operators."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sizes(shape: Iterable[int]) -> str:
    """A shape, 1x32x32x8."""
    return "x".join(map(str, shape))


def quoted(name: str) -> str:
    """What a reader knows a tensor by, in quotes: the first of the names that a converter joined."""
    first = name.partition(";")[0]
    return f"'{first}'" if len(first) <= _LONGEST else f"'…{first[1 - _LONGEST :]}'"


def named(names: Sequence[str], most: int = 3) -> str:
    """The first few names in quotes, and how many more there are."""
    told = ", ".join(map(quoted, names[:most]))
    return f"{told} and {len(names) - most} more" if len(names) > most else told

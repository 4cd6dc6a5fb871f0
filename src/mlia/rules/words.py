"""How figures and names are put in the evidence of rules."""

KIB = 1024
_LONGEST = 40


def kib(count: int) -> str:
    """Bytes as KiB, with a decimal place where it matters."""
    return f"{count / KIB:,.1f} KiB" if count < 10 * KIB else f"{count / KIB:,.0f} KiB"


def short_name(name: str) -> str:
    """What a reader knows a tensor by: the first of the names that a converter joined."""
    first = name.split(";")[0]
    return first if len(first) <= _LONGEST else f"…{first[1 - _LONGEST :]}"


def named(names: list[str], most: int = 3) -> str:
    """The first few names in quotes, and how many more there are."""
    told = ", ".join(f"'{short_name(name)}'" for name in names[:most])
    return f"{told} and {len(names) - most} more" if len(names) > most else told

"""How figures are written: digits, units, and what stands for a figure that is not there."""

NOTHING = "-"


def count(number: int | None) -> str:
    """An integer with thousands separated."""
    return NOTHING if number is None else f"{number:,}"


def milliseconds(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return NOTHING
    decimals = 3 if value >= 0.0995 else 4 if value >= 0.00995 else 5
    return f"{value:,.{decimals}f}" if value < 100 else f"{value:,.1f}"


def percent(value: float | None) -> str:
    """One decimal. What is not all or nothing never reads 100.0 or 0.0."""
    if value is None:
        return NOTHING
    if 99.95 <= value < 100:
        return ">99.9"
    if 0 < value < 0.05:
        return "<0.1"
    return f"{value:.1f}"


def fraction(value: float | None) -> str:
    """A share from 0 to 1, in percent."""
    return percent(None if value is None else 100 * value)


def kibibytes(size_bytes: int | None) -> str:
    """Bytes in units of 1024, one decimal, without the unit."""
    return NOTHING if size_bytes is None else f"{size_bytes / 1024:,.1f}"


def plural(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

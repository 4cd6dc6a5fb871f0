"""Plain text tables that fit a width: columns are dropped by importance, names shortened in the middle."""

from collections.abc import Sequence

from msgspec import Struct

GAP = "  "
INDENT = "  "
MINIMUM_FLEXIBLE = 12


class Column(Struct, frozen=True):
    """One column. `rank` 0 always stays; of the others the highest goes first when space is short.

    A flexible column takes the space that is left, and its cells are shortened to it.
    """

    heading: str
    rank: int = 0
    align_right: bool = True
    flexible: bool = False


def shorten(text: str, width: int) -> str:
    """The text in at most `width` characters, with an ellipsis in the middle."""
    if len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    head = width // 2
    tail = width - head - 1
    return f"{text[:head]}…{text[len(text) - tail :] if tail else ''}"


def render_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table: a heading, then one line a row. Cells are in the order of the columns."""
    widths = [max(len(column.heading), *(len(row[i]) for row in rows), 1) for i, column in enumerate(columns)]
    kept = list(range(len(columns)))

    def needed() -> int:
        sizes = (min(widths[i], MINIMUM_FLEXIBLE) if columns[i].flexible else widths[i] for i in kept)
        return len(INDENT) + sum(sizes) + len(GAP) * (len(kept) - 1)

    while needed() > width and any(columns[i].rank for i in kept):
        kept.remove(max((i for i in kept if columns[i].rank), key=lambda i: (columns[i].rank, i)))
    fixed = len(INDENT) + sum(widths[i] for i in kept if not columns[i].flexible) + len(GAP) * (len(kept) - 1)
    flexible = [i for i in kept if columns[i].flexible]
    for position, i in enumerate(flexible):
        share = max((width - fixed) // (len(flexible) - position), MINIMUM_FLEXIBLE)
        widths[i] = min(widths[i], share)
        fixed += widths[i]

    def line(cells: Sequence[str]) -> str:
        texts = [shorten(cells[i], widths[i]) for i in kept]
        aligned = [
            text.rjust(widths[i]) if columns[i].align_right else text.ljust(widths[i])
            for i, text in zip(kept, texts, strict=True)
        ]
        return (INDENT + GAP.join(aligned)).rstrip()

    return [line([column.heading for column in columns]), *(line(row) for row in rows)]

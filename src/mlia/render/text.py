"""Text for a terminal: figures, names, and a page of paragraphs and tables that fit its width."""

import textwrap
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from mlia.estimates import Source

LABEL = 14  # where the values of labeled lines begin
NOTHING = "-"  # stands for a figure that is not there
GAP = "  "
INDENT = "  "
MINIMUM_FLEXIBLE = 12  # columns of a shortened name
DEEPEST_SCOPE = 16  # that is taken away
SHARED_BY = 0.6  # of all names, before the scope that they share goes
_BOLD, _GREEN, _YELLOW, _END = "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


def count(number: int | None) -> str:
    """An integer with thousands separated."""
    return NOTHING if number is None else f"{number:,}"


def milliseconds(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if not value:
        return NOTHING if value is None else "0"
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


def milliseconds_band(low_ms: float | None, high_ms: float | None) -> str:
    """From which to which time, without the unit; empty where that is not known."""
    return "" if low_ms is None or high_ms is None else f"{milliseconds(low_ms)}..{milliseconds(high_ms)}"


def plural(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def source_text(source: Source) -> str:
    """Where figures come from, in words."""
    return f"{source.origin} by {source.by} {source.version}"


def display_names(names: Sequence[str]) -> list[str]:
    """The names without what most of them share.

    A converter that fuses operators joins their names with semicolons; the first is the operator's own.
    A scope in front of most names ("functional_1/") says nothing about any of them.
    """
    paths = [(name.partition(";")[0] or name).split("/") for name in names]
    for _ in range(DEEPEST_SCOPE):
        scopes = Counter(path[0] for path in paths if len(path) > 1)
        if not scopes:
            break
        scope, count = scopes.most_common(1)[0]
        if len(paths) < 2 or count < SHARED_BY * len(paths):
            break
        paths = [path[1:] if len(path) > 1 and path[0] == scope else path for path in paths]
    return ["/".join(path) for path in paths]


def identity(subgraph: int, index: int) -> str:
    """An operator's number: 5 in the main subgraph, 1:5 in a further one."""
    return f"{subgraph}:{index}" if subgraph else str(index)


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
        texts = [shorten(printable(cells[i]), widths[i]) for i in kept]
        aligned = [
            text.rjust(widths[i]) if columns[i].align_right else text.ljust(widths[i])
            for i, text in zip(kept, texts, strict=True)
        ]
        return (INDENT + GAP.join(aligned)).rstrip()

    return [line([column.heading for column in columns]), *(line(row) for row in rows)]


def printable(text: str) -> str:
    """On one line and without control characters, which names in a model may have."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


class Page:
    """Collects lines; `text` is all of them."""

    def __init__(self, width: int, color: bool) -> None:
        self.width, self.color = width, color
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    @property
    def height(self) -> int:
        """In lines."""
        return len(self._lines)

    def title(self, text: str) -> None:
        self._lines.append(f"{_BOLD}{printable(text)}{_END}" if self.color else printable(text))

    def heading(self, text: str) -> None:
        self.gap()
        self.title(text)

    def gap(self) -> None:
        self._lines.append("")

    def paragraph(self, text: str, label: str = "", hang: int = 2) -> None:
        """Wrapped text. `label` stands before the first line; further lines are indented by `hang`."""
        first = f"  {label}".ljust(hang) if label else " " * hang
        # Long names must not be torn at their hyphens.
        self._lines += textwrap.wrap(
            printable(text), self.width, initial_indent=first, subsequent_indent=" " * hang, break_on_hyphens=False
        )

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        heading, *lines = render_table(columns, rows, self.width)
        if self.color:
            lines = [
                line.replace(" NPU", f" {_GREEN}NPU{_END}").replace(" CPU", f" {_YELLOW}CPU{_END}") for line in lines
            ]
        self._lines += [heading, *lines]

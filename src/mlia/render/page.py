"""A page of text: headings, paragraphs and tables that fit a width, in color or not."""

import textwrap
from collections.abc import Sequence

from mlia.render.table import Column, render_table

_BOLD, _GREEN, _YELLOW, _END = "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


class Page:
    """Collects lines; `text` is all of them."""

    def __init__(self, width: int, color: bool) -> None:
        self.width, self.color = width, color
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def title(self, text: str) -> None:
        self._lines.append(f"{_BOLD}{text}{_END}" if self.color else text)

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
            text, self.width, initial_indent=first, subsequent_indent=" " * hang, break_on_hyphens=False
        )

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        heading, *lines = render_table(columns, rows, self.width)
        if self.color:
            lines = [
                line.replace(" NPU", f" {_GREEN}NPU{_END}").replace(" CPU", f" {_YELLOW}CPU{_END}") for line in lines
            ]
        self._lines += [heading, *lines]

"""Rules -> text: the list, and the page of one."""

import re
import textwrap

from mlia.render.text import Column, Page


def render_rule_list(rules: list[tuple[str, str, str, str]], width: int) -> str:
    """All rules: code, name, severity and, where there is space, the first sentence of each."""
    page = Page(width, color=False)
    columns = (
        Column("code", align_right=False),
        Column("name", align_right=False),
        Column("severity", align_right=False),
        Column("what it finds", align_right=False, rank=1),
    )
    page.table(columns, rules)
    return page.text.removeprefix("\n")


def render_page(code: str, name: str, severity: str, page: str, width: int) -> str:
    """The page of a rule, wrapped; Markdown headings stand alone on their lines."""
    lines = [f"{code} {name} ({severity})", ""]
    for paragraph in page.split("\n\n"):
        if paragraph.startswith("## "):
            heading, _, paragraph = paragraph.partition("\n")
            lines.append(heading.removeprefix("## "))
        for part in re.split(r"\n(?=- )", paragraph):
            hang = "    " if part.startswith("- ") else "  "
            text = " ".join(part.split())
            lines += textwrap.wrap(text, width, initial_indent="  ", subsequent_indent=hang, break_on_hyphens=False)
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def markdown_page(code: str, name: str, severity: str, page: str) -> str:
    """The page of a rule as a file of the documentation."""
    return f"# {code} {name}\n\nSeverity: {severity}.\n\n{page}\n"

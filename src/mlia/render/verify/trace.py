"""Command streams -> text: every command in words, or a table of what each operation computes and moves."""

from collections.abc import Mapping, Sequence

from mlia.render.text import NOTHING, Column, Page, count, printable
from mlia.simulator.counts import LOOK_UP, Counts, counts, kind_of, total
from mlia.simulator.listing import listing
from mlia.simulator.operation import Compute, Operation, Transfer
from mlia.simulator.stream import Stream

REGIONS = {LOOK_UP: "tables", 0: "read-only", 1: "arena", 2: "fast scratch"}


def render_listing(streams: Sequence[Stream], operators: Mapping[tuple[int, int], str]) -> str:
    """Every command with its fields, and before each operation what it does, and of which operator it is."""
    lines: list[str] = []
    for stream in streams:

        def origin(operation: Operation, number: int = stream.number) -> str:
            found = operators.get((number, operation.offset))
            return f"operator {found}" if found else ""

        lines += [f"command stream {stream.number}", *map(printable, listing(stream.program, origin)), ""]
    return "\n".join(lines)


def render_summary(streams: Sequence[Stream], operators: Mapping[tuple[int, int], str], width: int) -> str:
    """A line for each operation: the least that it has to compute and move, and of which operator it is."""
    page = Page(width, color=False)
    for stream in streams:
        page.title(
            f"Command stream {stream.number} for {stream.program.config.name}: {4 * len(stream.program.words):,} bytes"
        )
        shown = [each for each in stream.operations if isinstance(each, Compute | Transfer)]
        parts = [counts(operation, stream.program.config) for operation in shown]
        rows = [
            _row(operation, part, operators.get((stream.number, operation.offset), ""))
            for operation, part in zip(shown, parts, strict=True)
        ]
        whole = total(parts)
        columns = (
            Column("offset"),
            Column("operation", align_right=False),
            Column("size", align_right=False, rank=2),
            Column("operator", align_right=False, flexible=True),
            Column("MACs"),
            Column("read"),
            Column("written"),
            Column("weights", rank=1),
        )
        page.table(columns, [*rows, ("", "all", "", "", *_figures(whole))])
        for name, moved in (("read", whole.read), ("written", whole.written)):
            told = ", ".join(
                f"{count(moved[region])} bytes of {REGIONS.get(region, region)}" for region in sorted(moved)
            )
            page.paragraph(f"{name}: {told or 'nothing'}")
        page.paragraph(f"by DMA: {count(whole.moved)} bytes")
        page.gap()
    return page.text


def _row(operation: Compute | Transfer, part: Counts, operator: str) -> tuple[str, ...]:
    size = ""
    if isinstance(operation, Compute):
        size = f"{operation.ofm.height}x{operation.ofm.width}x{operation.ofm.depth}"
    return f"{operation.offset:#x}", kind_of(operation), size, operator, *_figures(part)


def _figures(part: Counts) -> tuple[str, ...]:
    numbers = (part.macs, sum(part.read.values()), sum(part.written.values()), part.weights)
    return tuple(count(number) if number else NOTHING for number in numbers)

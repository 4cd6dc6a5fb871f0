"""AccuracyReport -> text: errors by family, and every measurement."""

from collections.abc import Sequence

from mlia.accuracy import AccuracyReport, AccuracyRow, ErrorSummary
from mlia.render.text import Column, Page, count

ROWS_WIDTH = 116  # what a measurement is of is not shortened
_ROWS = (
    Column("NPU", align_right=False),
    Column("of", align_right=False),
    Column("measured"),
    Column("Vela"),
    Column("%"),
    Column("calibrated"),
    Column("%"),
    Column("source"),
    Column("system config", align_right=False, rank=1),
)


def render_accuracy(found: AccuracyReport, width: int, all_rows: bool) -> str:
    """The ledger as text, ending with a newline."""
    page = Page(max(width, ROWS_WIDTH) if all_rows else width, color=False)
    page.title("How far estimates of NPU cycles are from published measurements, in percent")
    page.paragraph("The mean size of the errors, their mean, and the largest.")
    page.gap()
    columns = (
        Column("family", align_right=False),
        Column("of", align_right=False),
        Column("n"),
        Column("Vela"),
        Column("bias", rank=1),
        Column("worst"),
        Column("calibrated"),
        Column("bias"),
        Column("worst"),
        Column("in band"),
    )
    rows = [
        (
            each.family,
            each.plural,
            count(each.measurements),
            *_figures(each.vela),
            *_figures(each.calibrated),
            f"{each.inside_percent:.0f}",
        )
        for each in found.families
    ]
    page.table(columns, rows)
    page.gap()
    page.paragraph(
        "The calibrated estimate, which `mlia check` shows, is here by a fit that had not seen that network or, of"
        ' single operators, that shape. "in band" is how many are within the band that is printed of what is like them,'
        " in percent."
    )
    for each in found.unmeasured:
        page.paragraph(f"No measurements on {each.family} of: {', '.join(each.what)}.")
    for left_out in found.left_out:
        page.paragraph(f"Left out: {left_out}.")
    for number, source in enumerate(found.sources, start=1):
        page.paragraph(f"Source [{number}]: {source}.")
    if all_rows:
        page.heading("Measurements")
        page.table(_ROWS, [_row(row, found.sources) for row in found.rows])
    return page.text


def _row(row: AccuracyRow, sources: Sequence[str]) -> tuple[str, ...]:
    return (
        f"{row.family.removeprefix('ethos-')}-{row.macs}",
        row.what if row.kind == "operator" else row.model if row.kind == "network" else f"{row.model}: {row.what}",
        count(row.measured_cycles),
        count(row.vela_cycles),
        _signed(row.vela_percent),
        count(row.calibrated_cycles),
        _signed(row.calibrated_percent),
        f"[{sources.index(row.source) + 1}]",
        row.system_config,
    )


def _figures(errors: ErrorSummary) -> tuple[str, str, str]:
    return f"{errors.mean_absolute:.1f}", _signed(errors.bias), _signed(errors.worst)


def _signed(percent: float) -> str:
    return f"{percent:+.1f}"

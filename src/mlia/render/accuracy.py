"""Accuracy -> text: errors by family, and every measurement."""

from mlia.accuracy import Accuracy, ErrorSummary
from mlia.render.text import Column, Page, count


def render_accuracy(found: Accuracy, width: int, all_rows: bool) -> str:
    """The ledger as text, ending with a newline."""
    page = Page(width, color=False)
    page.title("How far estimates of NPU cycles are from published measurements, in percent")
    page.paragraph("The mean size of the errors, their mean, and the largest.")
    page.gap()
    columns = (
        Column("family", align_right=False),
        Column("of", align_right=False),
        Column("n"),
        Column("Vela"),
        Column("bias"),
        Column("worst"),
        Column("calibrated"),
        Column("bias"),
        Column("worst"),
    )
    rows = [
        (each.family, f"{each.kind}s", count(each.measurements), *_figures(each.vela), *_figures(each.calibrated))
        for each in found.families
    ]
    page.table(columns, rows)
    page.gap()
    page.paragraph(
        "The calibrated estimate of each row is from a fit that had not seen that network or, of single operators, that"
        " shape. `mlia check` shows Vela's estimate; the calibrated one is not part of it yet."
    )
    for each in found.unmeasured:
        page.paragraph(f"No measurements on {each.family} of: {', '.join(each.what)}.")
    for source in found.sources:
        page.paragraph(f"Source: {source}.")
    if all_rows:
        page.heading("Measurements")
        page.table(
            (
                Column("family", align_right=False),
                Column("MACs"),
                Column("model", align_right=False),
                Column("what", align_right=False, flexible=True),
                Column("measured"),
                Column("Vela"),
                Column("%"),
                Column("calibrated"),
                Column("%"),
                Column("system config", align_right=False, rank=1),
            ),
            [
                (
                    row.family, str(row.macs), row.model, row.what, count(row.measured_cycles), count(row.vela_cycles),
                    _signed(row.vela_percent), count(row.calibrated_cycles), _signed(row.calibrated_percent),
                    row.system_config,
                )
                for row in found.rows
            ],
        )  # fmt: skip
    return page.text


def _figures(errors: ErrorSummary) -> tuple[str, str, str]:
    return f"{errors.mean_absolute:.1f}", _signed(errors.bias), _signed(errors.worst)


def _signed(percent: float) -> str:
    return f"{percent:+.1f}"

"""Refinement -> text: what was measured beside the estimates, before and after."""

from mlia.accuracy import FittedRun, Refinement
from mlia.render.calibration import band_text
from mlia.render.text import LABEL, NOTHING, Column, Page, count, plural

_RUNS = (
    Column("model", align_right=False, flexible=True),
    Column("measured"),
    Column("Vela"),
    Column("%"),
    Column("before"),
    Column("%"),
    Column("unseen"),
    Column("%"),
    Column("after"),
    Column("%"),
)


def render_refinement(found: Refinement, width: int) -> str:
    """The refinement as text, ending with a newline."""
    page = Page(width, color=False)
    page.title(f"{found.target}: {plural(len(found.runs), 'run')} of {plural(found.models, 'model')} measured")
    page.paragraph("NPU cycles, and how far the estimates are from them in percent.")
    page.gap()
    page.table(_RUNS, [_row(run) for run in found.runs])
    page.gap()
    for label, text in _lines(found):
        page.paragraph(text, label, LABEL)
    return page.text


def _lines(found: Refinement) -> list[tuple[str, str]]:
    alone = found.models == 1
    unseen = (
        "with one model there is no other to judge by: the error is that of before"
        if alone
        else f"{found.unseen_percent:.1f} %, each model by a fit to the others: expect that of further models"
    )
    changed = [
        f"{each.name} {each.before:g} -> {each.after:g}" for each in found.parameters if each.before != each.after
    ]
    return [
        ("Vela", f"{found.vela_percent:.1f} % off in the mean"),
        ("before", f"{found.before_percent:.1f} %"),
        ("after", f"{found.after_percent:.1f} %"),
        ("unseen", unseen),
        ("band", band_text(found.coefficients)),
        (
            "parameters",
            "as they were: no fit was better for models that it had not seen"
            if found.is_kept
            else ", ".join(changed) or NOTHING,
        ),
        *([("hint", found.hint)] if found.hint else []),
        ("profile", found.file or "not written"),
    ]


def _row(run: FittedRun) -> tuple[str, ...]:
    figures = (run.vela_cycles, run.before_cycles, run.unseen_cycles, run.after_cycles)
    cells = [cell for cycles in figures for cell in (count(cycles), f"{100 * (cycles / run.measured_cycles - 1):+.1f}")]
    return run.model, count(run.measured_cycles), *cells

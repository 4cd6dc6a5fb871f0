"""CalibrateReport -> text: what was measured beside the estimates, before and after."""

from mlia.accuracy import CalibrateReport, FittedRun
from mlia.render.evidence import band_text
from mlia.render.text import LABEL, Column, Page, count, plural

_RUNS = (
    Column("model", align_right=False, flexible=True),
    Column("measured"),
    Column("Vela"),
    Column("%"),
    Column("shipped"),
    Column("%"),
    Column("unseen"),
    Column("%"),
    Column("fitted"),
    Column("%"),
)


def render_refinement(found: CalibrateReport, width: int) -> str:
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


def _lines(found: CalibrateReport) -> list[tuple[str, str]]:
    changed = [
        f"{each.name} {each.shipped:g} -> {each.fitted:g}" for each in found.parameters if each.shipped != each.fitted
    ]
    kept = "those that ship: no fit was better for models that it had not seen"
    return [
        ("Vela", f"{found.vela_percent:.1f} % off in the mean"),
        ("shipped", f"{found.shipped_percent:.1f} %, by the parameters that ship for this family"),
        ("unseen", f"{found.unseen_percent:.1f} %, {_unseen(found)}: expect that of further models"),
        ("fitted", f"{found.fitted_percent:.1f} %"),
        ("band", band_text(found.coefficients)),
        ("parameters", kept if found.is_kept else ", ".join(changed)),
        *([("hint", found.hint)] if found.hint else []),
        ("profile", found.file or "not written"),
    ]


def _unseen(found: CalibrateReport) -> str:
    if found.models == 1:
        return "by those as well, for there is no other model"
    return "by those as well" if found.is_kept else "each model by a fit to the others"


def _row(run: FittedRun) -> tuple[str, ...]:
    figures = (run.vela_cycles, run.shipped_cycles, run.unseen_cycles, run.fitted_cycles)
    cells = [cell for cycles in figures for cell in (count(cycles), f"{100 * (cycles / run.measured_cycles - 1):+.1f}")]
    return run.model, count(run.measured_cycles), *cells

"""CheckReport -> one HTML file that needs nothing else: no network, no other file."""

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from mlia.difference import CompareReport
from mlia.recipe import describe
from mlia.render.check.budgets import limit_text
from mlia.render.compare.parts import (
    estimate_text,
    groups,
    names_of,
    not_measured,
    operator_rows,
    side_text,
    total_rows,
    unknown_lines,
    verdict_text,
)
from mlia.render.convert import untouched_sentences
from mlia.render.evidence import band_text, evidence_text
from mlia.render.optimize import fidelity_rows, figure_rows
from mlia.render.text import kibibytes, milliseconds, plural, printable, source_text
from mlia.render.web.changes import changes_of
from mlia.render.web.drawing import draw
from mlia.render.web.pictures import trade_off_of
from mlia.render.web.views import TargetView, view_of
from mlia.report import CheckReport, OptimizeReport, TensorSummary

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = os.path.join(os.path.dirname(__file__), "web", "templates")


def render_html(report: CheckReport | OptimizeReport | CompareReport) -> str:
    """The report as a page, ending with a newline. The same report gives the same page."""
    if isinstance(report, CompareReport):
        return _difference(report)
    return _optimization(report) if isinstance(report, OptimizeReport) else _report(report)


def _report(report: CheckReport) -> str:
    views = [view_of(entry) for entry in report.targets]
    return _template("report.html.j2").render(
        report=report,
        untouched=untouched_sentences(report),
        views=views,
        figures=dict.fromkeys((card.label, card.unit) for view in views for card in view.cards),
        drawing=draw(report.model),
        data=_data(views),
        kibibytes=kibibytes,
        ms=milliseconds,
        shape=_shape,
        limit_text=limit_text,
        plural=plural,
    )


def _optimization(report: OptimizeReport) -> str:
    targets = [
        (comparison, figure_rows(comparison.before, comparison.after, comparison.calibration is not None), trade_off)
        for comparison, trade_off in zip(
            report.comparisons,
            (trade_off_of(report, number) for number in range(len(report.comparisons))),
            strict=True,
        )
    ]
    return _template("optimization.html.j2").render(
        report=report,
        targets=targets,
        fidelity=fidelity_rows(report.fidelity_before, report.fidelity_after),
        recipe=describe(report.recipe),
        band=lambda rests: band_text(rests) if rests else "",
        evidence=evidence_text,
        source=source_text,
        kibibytes=kibibytes,
        plural=plural,
    )


def _difference(report: CompareReport) -> str:
    targets = [
        (entry, verdict_text(entry), total_rows(entry), [(each, operator_rows(entry, each)) for each in groups(entry)])
        for entry in report.targets
    ]
    return _template("difference.html.j2").render(
        report=report,
        targets=targets,
        names=names_of(report),
        side=side_text,
        estimate=estimate_text,
        unknown=unknown_lines,
        not_measured=not_measured,
        bars=changes_of,
        limit_text=limit_text,
    )


def _shape(tensor: TensorSummary) -> str:
    return "\u00d7".join("?" if size == -1 else str(size) for size in tensor.shape) or "scalar"


def _data(views: list[TargetView]) -> str:
    """What the script needs to know of each target's operators, as JSON that may stand inside of a page."""
    operators = [
        {
            each.key: _shown((each.unit, each.kind, each.number, each.name, each.time, each.share, each.details))
            for each in view.operators
        }
        for view in views
    ]
    return msgspec.json.encode(operators).decode().replace("<", "\\u003c")


def _shown(value: Any) -> Any:
    """Without control characters, which names in a model may have: a browser obeys those that turn text around."""
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    return tuple(map(_shown, value)) if isinstance(value, tuple) else value


@cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if hasattr(value, "__html__") else _shown(value),
    )
    return environment.get_template(name)

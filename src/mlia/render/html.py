"""Report -> one HTML file that needs nothing else: no network, no other file."""

import os
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from mlia.render.budgets import budget_text
from mlia.render.text import kibibytes, milliseconds, plural
from mlia.render.web.drawing import draw
from mlia.render.web.views import TargetView, view_of
from mlia.report import Report, TensorSummary

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = os.path.join(os.path.dirname(__file__), "web", "templates")


def render_html(report: Report) -> str:
    """The report as a page, ending with a newline. The same report gives the same page."""
    views = [view_of(entry) for entry in report.targets]
    return _template("report.html.j2").render(
        report=report,
        views=views,
        figures=dict.fromkeys((card.label, card.unit) for view in views for card in view.cards),
        drawing=draw(report.model),
        data=_data(views),
        kibibytes=kibibytes,
        ms=milliseconds,
        shape=_shape,
        budget_text=budget_text,
        plural=plural,
    )


def _shape(tensor: TensorSummary) -> str:
    return "\u00d7".join("?" if size == -1 else str(size) for size in tensor.shape) or "scalar"


def _data(views: list[TargetView]) -> str:
    """What the script needs to know of each target's operators, as JSON that may stand inside of a page."""
    operators = [
        {
            each.key: (each.unit, each.kind, each.number, each.name, each.time, each.share, each.details)
            for each in view.operators
        }
        for view in views
    ]
    return msgspec.json.encode(operators).decode().replace("<", "\\u003c")


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
    )
    return environment.get_template(name)

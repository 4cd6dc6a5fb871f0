"""The model's operators as boxes and lines: a picture of its graph."""

from collections.abc import Sequence

from msgspec import Struct

from mlia.render.text import display_names, identity
from mlia.render.web.layout import lay_out
from mlia.report import ModelSummary, OperatorSummary

BOX_WIDTH, BOX_HEIGHT = 152, 34
COLUMN, ROW = 84, 54  # half of what a box takes across, and what it takes down
MARGIN = 10
CHARACTERS = 20  # that fit into a box


class Node(Struct, frozen=True):
    """One operator's box, by its left upper corner. `text` is what it is, in full."""

    key: str
    x: float
    y: float
    kind: str
    name: str
    text: str


class Drawing(Struct, frozen=True):
    """The graph of one subgraph. `paths` are SVG path data, `further` how many other subgraphs there are."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    paths: tuple[str, ...]
    further: int


def draw(model: ModelSummary) -> Drawing | None:
    """The main subgraph; None where the report tells no graph."""
    operators = [each for each in model.graph if not each.subgraph]
    if not operators:
        return None
    edges = [(source, each.index) for each in operators for source in each.reads_from if source < each.index]
    layout = lay_out([each.index for each in operators], edges)
    names = display_names([each.name for each in operators])
    nodes = tuple(_node(each, name, *layout.places[each.index]) for each, name in zip(operators, names, strict=True))
    return Drawing(
        width=layout.columns * COLUMN + 2 * MARGIN,
        height=layout.rows * ROW + 2 * MARGIN,
        nodes=nodes,
        paths=tuple(_path(line) for line in layout.lines),
        further=len({each.subgraph for each in model.graph}) - 1,
    )


def _node(operator: OperatorSummary, name: str, row: int, column: float) -> Node:
    shapes = ", ".join("x".join(map(str, each.shape)) or "scalar" for each in operator.outputs)
    return Node(
        key=f"{operator.subgraph}.{operator.index}",
        x=MARGIN + column * COLUMN - BOX_WIDTH / 2,
        y=MARGIN + row * ROW,
        kind=operator.kind,
        name=name if len(name) <= CHARACTERS else f"…{name[-CHARACTERS + 1 :]}",
        text=f"{identity(operator.subgraph, operator.index)} {operator.kind} {name} -> {shapes}",
    )


def _path(line: Sequence[tuple[int, float]]) -> str:
    """From the lower edge of a box, through the rows between, to the upper edge of another."""
    points = [(MARGIN + column * COLUMN, MARGIN + row * ROW) for row, column in line]
    (x, y), *rest = points
    y += BOX_HEIGHT
    parts = [f"M{x:g} {y:g}"]
    for number, (to_x, to_y) in enumerate(rest, start=1):
        half = (y + to_y) / 2
        parts.append(f"C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {to_y:g}")
        x, y = to_x, to_y
        if number < len(rest):
            y += BOX_HEIGHT
            parts.append(f"V{y:g}")
    return "".join(parts)

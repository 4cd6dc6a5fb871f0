"""Operators that take another time than before, as bars to both sides."""

from msgspec import Struct

from mlia.difference import TargetDifference
from mlia.render.compare.parts import change_text
from mlia.render.text import display_names, identity

SHOWN = 40  # the largest changes


class Change(Struct, frozen=True):
    """One operator; the largest change takes half of the room, `width_percent` 50."""

    number: str
    kind: str
    name: str
    difference_ms: float
    text: str
    width_percent: float


def changes_of(entry: TargetDifference) -> list[Change]:
    """The largest changes first; an operator on one side only counts with its whole time."""
    found = []
    for each in entry.operators:
        known = each.after or each.before
        before, after = (side.latency_ms if side else 0.0 for side in (each.before, each.after))
        if known is not None and before is not None and after is not None and before != after:
            found.append((known, after - before))
    ranked = sorted(found, key=lambda item: -abs(item[1]))[:SHOWN]
    names = display_names([known.name for known, _ in ranked])
    largest = max((abs(difference) for _, difference in ranked), default=1.0)
    return [
        Change(
            number=identity(known.subgraph, known.index),
            kind=known.kind,
            name=name,
            difference_ms=difference,
            text=f"{change_text('_ms', difference)} ms",
            width_percent=round(50 * abs(difference) / largest, 2),
        )
        for (known, difference), name in zip(ranked, names, strict=True)
    ]

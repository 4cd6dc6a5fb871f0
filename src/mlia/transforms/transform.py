"""What every transform returns: a new graph, what was changed, and what was left alone, with the reason."""

from msgspec import Struct

from mlia.graph.graph import Graph
from mlia.results import Change, Skipped


class Transformed(Struct, frozen=True):
    """A changed model. The graph that was given is never touched."""

    graph: Graph
    changes: tuple[Change, ...] = ()
    skipped: tuple[Skipped, ...] = ()

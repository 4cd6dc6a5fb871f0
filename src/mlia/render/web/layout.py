"""A directed graph -> boxes in rows and the lines between them, for a picture.

In layers, as Sugiyama, Tagawa and Toda (1981) do it: each node is one row below the last of what it reads, long edges
get a place in every row that they cross, and rows are ordered by the middle of their neighbors, down and up again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

PASSES = 4  # down and up; more change little


class Layout(Struct, frozen=True):
    """Where nodes are, in rows and in columns of half a node's width, and the points that each edge passes."""

    rows: int
    columns: int
    places: dict[int, tuple[int, float]]
    lines: tuple[tuple[tuple[int, float], ...], ...]


def lay_out(nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> Layout:
    """Places for nodes, which are given so that each edge leads to a later one."""
    depth = _depths(nodes, edges)
    paths = _paths(nodes, edges, depth)
    rows: dict[int, list[int]] = defaultdict(list)
    for path in paths.values():
        for step, each in enumerate(path[1:-1], start=1):
            rows[depth[path[0]] + step].append(each)
    for node in nodes:
        rows[depth[node]].append(node)
    above, below = _neighbors(paths.values())
    order = _ordered(rows, above, below)
    widest = max(map(len, order.values()), default=0)
    places = {
        node: (row, 2 * number + widest - len(members) + 1.0)
        for row, members in order.items()
        for number, node in enumerate(members)
    }
    return Layout(
        rows=len(order),
        columns=2 * widest,
        places={node: places[node] for node in nodes},
        lines=tuple(tuple(places[each] for each in path) for path in paths.values()),
    )


def _depths(nodes: Sequence[int], edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    sources = defaultdict(list)
    for start, end in edges:
        sources[end].append(start)
    depth: dict[int, int] = {}
    for node in nodes:
        depth[node] = max((depth[source] + 1 for source in sources[node]), default=0)
    return depth


def _paths(
    nodes: Sequence[int], edges: Sequence[tuple[int, int]], depth: Mapping[int, int]
) -> dict[tuple[int, int], list[int]]:
    """What each edge passes: its ends, and between them a place in each row, by a number that no node has."""
    further = max(nodes, default=0) + 1
    paths = {}
    for start, end in dict.fromkeys(edges):
        between = depth[end] - depth[start] - 1
        paths[start, end] = [start, *range(further, further + between), end]
        further += between
    return paths


def _neighbors(paths: Iterable[list[int]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    above: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for path in paths:
        for upper, lower in pairwise(path):
            above[lower].append(upper)
            below[upper].append(lower)
    return above, below


def _ordered(
    rows: Mapping[int, list[int]], above: Mapping[int, list[int]], below: Mapping[int, list[int]]
) -> dict[int, list[int]]:
    order = {row: list(rows[row]) for row in sorted(rows)}
    place = {node: float(number) for members in order.values() for number, node in enumerate(members)}
    for number in range(PASSES):
        neighbors = below if number % 2 else above
        for row in sorted(order, reverse=bool(number % 2)):
            members = order[row]
            middles = {node: _middle([place[each] for each in neighbors[node]] or [place[node]]) for node in members}
            members.sort(key=middles.__getitem__)
            for position, node in enumerate(members):
                place[node] = position - len(members) / 2
    return order


def _middle(places: Sequence[float]) -> float:
    return sum(places) / len(places)

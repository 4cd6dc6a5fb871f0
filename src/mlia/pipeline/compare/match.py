"""Which operator of one model is which of another: by name, kind and shape, then by their order, then by name."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeAlias

from msgspec import Struct

from mlia.difference import Match
from mlia.report import OperatorSummary

Looks: TypeAlias = tuple[str, tuple[tuple[int, ...], ...]]


class Matched(Struct, frozen=True):
    """An operator of one model and the one of the other that it is; None where there is none."""

    match: Match
    before: OperatorSummary | None
    after: OperatorSummary | None


def match_operators(before: Sequence[OperatorSummary], after: Sequence[OperatorSummary]) -> tuple[Matched, ...]:
    """Every operator of both exactly once: in the order after, what was removed where it stood.

    Changing the sides changes nothing but the sides.
    """
    pairs: dict[int, tuple[int, Match]] = {}  # place after -> place before
    left, right = list(range(len(before))), list(range(len(after)))
    for find, match in ((_by_identity, Match.SAME), (_by_order, Match.RENAMED), (_by_name, Match.CHANGED)):
        found = find([before[i] for i in left], [after[j] for j in right])
        for i, j in found:
            has_name = before[left[i]].name == after[right[j]].name
            is_same = match == Match.RENAMED and has_name  # nameless, or of another subgraph
            pairs[right[j]] = left[i], Match.SAME if is_same else match
        gone, came = {i for i, _ in found}, {j for _, j in found}
        left = [place for i, place in enumerate(left) if i not in gone]
        right = [place for j, place in enumerate(right) if j not in came]
    return _in_order(before, after, pairs, left)


def _in_order(
    before: Sequence[OperatorSummary],
    after: Sequence[OperatorSummary],
    pairs: dict[int, tuple[int, Match]],
    removed: Sequence[int],
) -> tuple[Matched, ...]:
    made: list[Matched] = []
    waiting = list(reversed(removed))
    for place, operator in enumerate(after):
        if place not in pairs:
            made.append(Matched(Match.ADDED, None, operator))
            continue
        origin, match = pairs[place]
        while waiting and waiting[-1] < origin:
            made.append(Matched(Match.REMOVED, before[waiting.pop()], None))
        made.append(Matched(match, before[origin], operator))
    made += [Matched(Match.REMOVED, before[place], None) for place in reversed(waiting)]
    return tuple(made)


def _looks(operator: OperatorSummary) -> Looks:
    return operator.kind, tuple(tensor.shape for tensor in operator.outputs)


def _by_identity(before: Sequence[OperatorSummary], after: Sequence[OperatorSummary]) -> list[tuple[int, int]]:
    # Without a name, the place in the order tells more than how many of the kind came before.
    return _by_key(before, after, lambda each: (each.subgraph, each.name, _looks(each)) if each.name else None)


def _by_name(before: Sequence[OperatorSummary], after: Sequence[OperatorSummary]) -> list[tuple[int, int]]:
    return _by_key(before, after, lambda each: each.name or None)


def _by_key(
    before: Sequence[OperatorSummary],
    after: Sequence[OperatorSummary],
    key: Callable[[OperatorSummary], Hashable | None],
) -> list[tuple[int, int]]:
    """Those with the same key; of several with it, the first with the first."""
    places = dict(_numbered(map(key, before)))
    return [(places[each], j) for each, j in _numbered(map(key, after)) if each in places]


def _numbered(keys: Iterable[Hashable | None]) -> Iterable[tuple[tuple[Hashable, int], int]]:
    seen: Counter[Hashable] = Counter()
    for place, key in enumerate(keys):
        if key is not None:
            seen[key] += 1
            yield (key, seen[key]), place


def _by_order(before: Sequence[OperatorSummary], after: Sequence[OperatorSummary]) -> list[tuple[int, int]]:
    """Those of the same kind and shape, so that as many as can be are found without one crossing another."""
    left, right = list(map(_looks, before)), list(map(_looks, after))
    # There can be several longest ones. Which is taken must not depend on which side is which.
    if right < left:
        return [(i, j) for j, i in longest_common(right, left)]
    return longest_common(left, right)


def longest_common(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The places of a longest common subsequence in both.

    A row of the usual table is one integer, whose bit j is 0 where right[j] makes the subsequence longer (Hyyrö, "Bit-
    parallel LCS-length computation revisited", 2004): a model of thousands of operators takes a moment, not minutes.
    """
    where: dict[Hashable, int] = {}
    for j, key in enumerate(right):
        where[key] = where.get(key, 0) | 1 << j
    full = (1 << len(right)) - 1
    rows = [full]
    for key in left:
        shared = rows[-1] & where.get(key, 0)
        rows.append(((rows[-1] + shared) | (rows[-1] - shared)) & full)
    pairs: list[tuple[int, int]] = []
    i, j = len(left), len(right)
    while i and j:
        if rows[i] >> (j - 1) & 1:
            j -= 1
            continue
        i -= 1
        if rows[i] >> (j - 1) & 1:  # without left[i] it would be shorter
            j -= 1
            pairs.append((i, j))
    return pairs[::-1]

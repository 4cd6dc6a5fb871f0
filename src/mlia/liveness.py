"""Tensors in memory over time: what is used at a step, and when that is most."""

from collections import defaultdict
from collections.abc import Sequence

from mlia.results import TensorLifetime


def is_live(each: TensorLifetime, time: int) -> bool:
    """Whether a tensor is in memory at a step; it is until its last reader is done."""
    return each.start_time <= time <= each.end_time


def used_bytes(lives: Sequence[TensorLifetime], time: int) -> int:
    """Bytes that tensors of one memory take at a step: one that is made in the place of another shares its bytes."""
    total, end = 0, 0
    for each in sorted((each for each in lives if is_live(each, time)), key=lambda each: each.address):
        reach = each.address + each.size_bytes
        total += max(0, reach - max(end, each.address))
        end = max(end, reach)
    return total


def peak_time(lives: Sequence[TensorLifetime]) -> int:
    """The first step at which the tensors of one memory, at least one, take most."""
    begun: dict[int, list[TensorLifetime]] = defaultdict(list)
    for each in lives:
        begun[each.start_time].append(each)
    used: dict[int, int] = {}
    there: list[TensorLifetime] = []
    for time in sorted(begun):  # looking only at what is there, not at all tensors for each step
        there = [each for each in there if is_live(each, time)] + begun[time]
        used[time] = used_bytes(there, time)
    return max(used, key=lambda time: used[time])

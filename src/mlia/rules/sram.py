"""What the compiler's plan says of SRAM: what is in it when, and the peak."""

from collections import defaultdict
from collections.abc import Iterable

from mlia.results import MemoryPlan, TensorLifetime
from mlia.rules.phrases import kib, quoted

SRAM = "sram"
BUFFER = "OpBuffering"  # what the compiler calls the use of SRAM for weights that are read ahead


def in_sram(lives: Iterable[TensorLifetime]) -> list[TensorLifetime]:
    """Each place in SRAM that the main subgraph uses once: tensors that share one are one."""
    places = {
        (life.address, life.start_time, life.end_time): life
        for life in lives
        if life.memory == SRAM and not life.subgraph and life.size_bytes > 0
    }
    return list(places.values())


def most_in_use(lives: Iterable[TensorLifetime]) -> tuple[int, list[TensorLifetime]]:
    """The most bytes that are in use at a time, and whose they are, the largest first."""
    found = list(lives)
    changes: dict[int, int] = defaultdict(int)
    for life in found:
        changes[life.start_time] += life.size_bytes
        changes[life.end_time + 1] -= life.size_bytes
    most, when, used = 0, 0, 0
    for time in sorted(changes):
        used += changes[time]
        if used > most:
            most, when = used, time
    alive = [life for life in found if life.start_time <= when <= life.end_time]
    return most, sorted(alive, key=lambda life: -life.size_bytes)


def meet(one: TensorLifetime, other: TensorLifetime) -> bool:
    """Whether both are in use at some step."""
    return one.start_time <= other.end_time and other.start_time <= one.end_time


def at_peak(memory: MemoryPlan) -> str:
    """The largest tensors at the peak, up to three."""
    _, alive = most_in_use(in_sram(memory.tensors))
    named = [
        f"{'a buffer for weights' if life.usage == BUFFER else quoted(life.name)} {kib(life.size_bytes)}"
        for life in alive[:3]
    ]
    return ", ".join(named) or "nothing that the compiler names"

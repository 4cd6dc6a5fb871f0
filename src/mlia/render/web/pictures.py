"""Where the marks of the roofline and of the memory timeline stand, in the units of their pictures."""

import math
from collections.abc import Sequence

from msgspec import Struct

from mlia.liveness import is_live, peak_time, used_bytes
from mlia.render.text import count, display_names, identity, kibibytes
from mlia.report import OptimizeReport, TargetSummary, Trial
from mlia.results import OperatorCost, Performance, TensorLifetime

WIDTH, HEIGHT = 480, 300  # of a picture
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 38  # of it, around what is drawn
MARKED = 24  # tensors with a name in the picture
PLANNED = ("sram", "dram")  # memories whose use changes with time


class Mark(Struct, frozen=True):
    """A point or the middle of a label, with what it is."""

    key: str
    x: float
    y: float
    kind: str
    text: str


class Line(Struct, frozen=True):
    """A straight line with its name."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    text: str


class Roofline(Struct, frozen=True):
    """Operators by MACs per byte and MACs per second, below what the target can do at most.

    Each is drawn against the memory that its bytes take longest in.
    """

    roofs: tuple[Line, ...]
    points: tuple[Mark, ...]
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]


class Box(Struct, frozen=True):
    """A tensor in memory: when and where. `is_at_peak` when it is there at the step that needs most."""

    x: float
    y: float
    width: float
    height: float
    is_at_peak: bool
    text: str


class Timeline(Struct, frozen=True):
    """What one memory holds, by the steps of the program and by address."""

    memory: str
    peak: str
    peak_x: float
    peak_width: float
    boxes: tuple[Box, ...]
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    at_peak: tuple[str, ...]


class TradeOff(Struct, frozen=True):
    """Recipes by cycles and by error; `before_x` is where the model was in cycles. Chosen and refused ones are told."""

    points: tuple[Mark, ...]
    before_x: float | None
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]


class _Scale(Struct, frozen=True):
    """A logarithmic scale onto pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + part * (self.end - self.start), 1)

    def tens(self) -> list[float]:
        return [10.0**power for power in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]


def roofline_of(target: TargetSummary, performance: Performance) -> Roofline | None:
    """None where no operator multiplies on the NPU, or nothing is known of memories."""
    rates = {each.name.rpartition("_")[2]: each.bandwidth_gb_s for each in target.memories}
    found = [(cost, _slowest(cost, rates)) for cost in performance.operators if cost.macs and cost.latency_ms]
    known = [(cost, memory, sent) for cost, (memory, sent) in found if sent]
    if not known or not target.macs_per_cycle or not target.clock_mhz or not all(rates.values()):
        return None
    peak = target.macs_per_cycle * target.clock_mhz / 1000  # 10^9 MACs per second
    points = [
        (cost, memory, cost.macs / sent, cost.macs / (cost.latency_ms or 1) / 1e6) for cost, memory, sent in known
    ]
    across = [each[2] for each in points] + [peak / rate for rate in rates.values()]
    up = [each[3] for each in points]
    x = _Scale(min(across) / 2, max(across) * 2, LEFT, WIDTH - RIGHT)
    y = _Scale(min(up) / 2, peak * 2, HEIGHT - BOTTOM, TOP)
    return Roofline(
        roofs=tuple(_roofs(rates, peak, x, y)),
        points=tuple(
            Mark(
                f"{cost.subgraph}.{cost.index}", x.at(intensity), y.at(rate), memory,
                f"{identity(cost.subgraph, cost.index)} {cost.kind}: {intensity:.3g} MACs per byte of {memory},"
                f" {rate:.3g} GMAC/s",
            )
            for cost, memory, intensity, rate in points
        ),
        x_ticks=tuple(Mark("", x.at(value), HEIGHT - BOTTOM, "", f"{value:g}") for value in x.tens()),
        y_ticks=tuple(Mark("", LEFT, y.at(value), "", f"{value:g}") for value in y.tens()),
    )  # fmt: skip


def _slowest(cost: OperatorCost, rates: dict[str, float]) -> tuple[str, int]:
    """The memory that an operator's bytes take longest in, and how many they are."""
    sent = {moved.memory: moved.read_bytes + moved.write_bytes for moved in cost.traffic if moved.memory in rates}
    memory = max(sent, key=lambda name: sent[name] / rates[name], default="")
    return memory, sent.get(memory, 0)


def _roofs(rates: dict[str, float], peak: float, x: _Scale, y: _Scale) -> list[Line]:
    roofs = []
    for memory, rate in rates.items():
        start = max(x.low, y.low / rate)
        text = f"{memory}: {rate:g} GB/s"
        roofs.append(Line(x.at(start), y.at(start * rate), x.at(peak / rate), y.at(peak), memory, text))
    corner = min(peak / rate for rate in rates.values())
    roofs.append(Line(x.at(corner), y.at(peak), x.end, y.at(peak), "peak", f"{peak:g} GMAC/s"))
    return roofs


def trade_off_of(report: OptimizeReport, number: int) -> TradeOff | None:
    """The recipes by their cycles on one target and by their error; None where fewer than two have both."""
    plain = report.comparisons[number].before.total_cycles
    known = [(trial, trial.total_cycles[number]) for trial in (*report.trials, *report.suggestions)]
    found = [(trial, cycles) for trial, cycles in known if cycles]
    chosen = report.comparisons[number].after.total_cycles
    own = [(max(each.relative_error for each in report.fidelity_after.outputs), chosen)] if chosen else []
    if len(found) + len(own) < 2:
        return None
    across = [cycles for _, cycles in found] + [cycles for _, cycles in own] + ([plain] if plain else [])
    up = [trial.relative_error for trial, _ in found] + [error for error, _ in own]
    wide, high = max(across) * 1.05, max(max(up) * 1.1, 1e-9)

    def place(cycles: float, error: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * cycles / wide
        return round(x, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * error / high, 1)

    points = [
        Mark("", *place(cycles, trial.relative_error), _kind_of(trial), f"{trial.description}: {count(cycles)} cycles,"
             f" relative error {trial.relative_error:.4f}{'; ' + trial.objection if trial.objection else ''}")
        for trial, cycles in found
    ]  # fmt: skip
    if not any(trial.is_chosen for trial, _ in found):
        points += [
            Mark("", *place(cycles, error), "chosen", f"this result: {count(cycles)} cycles") for error, cycles in own
        ]
    ticks = [part * wide / 4 for part in range(4)]
    return TradeOff(
        points=tuple(points),
        before_x=place(plain, 0)[0] if plain else None,
        x_ticks=tuple(Mark("", place(each, 0)[0], HEIGHT - BOTTOM, "", count(round(each))) for each in ticks),
        y_ticks=tuple(Mark("", LEFT, place(0, part * high / 4)[1], "", f"{part * high / 4:.3g}") for part in range(5)),
    )


def _kind_of(trial: Trial) -> str:
    return "chosen" if trial.is_chosen else "refused" if trial.objection else ""


def timelines_of(performance: Performance) -> tuple[Timeline, ...]:
    """A picture for each memory that holds tensors for a time."""
    if performance.memory is None:
        return ()
    lives = [each for each in performance.memory.tensors if not each.subgraph and each.size_bytes]
    pictures = (_timeline(memory, [each for each in lives if each.memory == memory]) for memory in PLANNED)
    return tuple(picture for picture in pictures if picture is not None)


def _timeline(memory: str, lives: Sequence[TensorLifetime]) -> Timeline | None:
    if len({(each.start_time, each.end_time) for each in lives}) < 2:  # what stays from start to end is no story
        return None
    first, last = min(each.start_time for each in lives), max(each.end_time for each in lives) + 1
    top = max(each.address + each.size_bytes for each in lives)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    peak = peak_time(lives)

    def x(time: float) -> float:
        return round(LEFT + wide * (time - first) / (last - first), 1)

    def y(address: float) -> float:
        return round(TOP + high * (1 - address / top), 1)

    names = dict(zip((each.name for each in lives), display_names([each.name for each in lives]), strict=True))
    boxes = tuple(
        Box(
            x(each.start_time), y(each.address + each.size_bytes),
            max(round(x(each.end_time + 1) - x(each.start_time), 1), 0.5),
            max(round(y(each.address) - y(each.address + each.size_bytes), 1), 0.5),
            is_live(each, peak),
            f"{names[each.name]}: {kibibytes(each.size_bytes)} KiB, steps {each.start_time} to {each.end_time},"
            f" at {count(each.address)}",
        )
        for each in lives
    )  # fmt: skip
    there = sorted((each for each in lives if is_live(each, peak)), key=lambda each: -each.size_bytes)
    return Timeline(
        memory=memory,
        peak=f"{kibibytes(used_bytes(lives, peak))} KiB at step {peak}",
        peak_x=x(peak),
        peak_width=max(round(x(peak + 1) - x(peak), 1), 1.0),
        boxes=boxes,
        x_ticks=tuple(Mark("", x(time), HEIGHT - BOTTOM, "", str(time)) for time in _even(first, last - 1)),
        y_ticks=tuple(Mark("", LEFT, y(part * top / 4), "", kibibytes(int(part * top / 4))) for part in range(5)),
        at_peak=tuple(f"{names[each.name]}: {kibibytes(each.size_bytes)} KiB" for each in there[:MARKED]),
    )


def _even(first: int, last: int) -> list[int]:
    step = max(1, (last - first) // 8)
    return list(range(first, last + 1, step))

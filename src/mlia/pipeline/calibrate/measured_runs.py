"""Measured runs, from a table or from the log of a run: which model took how many NPU cycles, or how long."""

import csv
import math
import os
import re
from statistics import median

from msgspec import Struct

from mlia.errors import MeasurementError
from mlia.input import LOG_BYTES, read_file

CYCLES, TIMES, LOG = ("cycles", "npu_cycles"), ("ms", "latency_ms"), "log"
COLUMNS = "model, and one of cycles, ms or log"
# What the Arm ML embedded evaluation kit prints after an inference, in the older and the newer form.
_KIT = re.compile(r"NPU:?\s+(?P<what>ACTIVE|IDLE|TOTAL)(?:\s+cycles)?\s*:\s*(?P<value>[\d,._]+)", re.IGNORECASE)
# What ExecuTorch's runner, Zephyr's sample and Arm's core software print.
_COUNTER = re.compile(
    r"ethosu_pmu_(?P<name>cycle_cntr|cntr\d+)\s*:\s*(?P<value>[\d,._]+)(?:.*?\((?P<each>\S+) per inference)?"
)
_EVENTS = re.compile(r"PMU Events:\s*\[(?P<names>[^\]]*)\]")
_IDLE = "NPU_IDLE"


class MeasuredRun(Struct, frozen=True):
    """One row: the model's path, and what was measured of it. `ms` is the time of the NPU; one of both is there.

    `source` says where that stands: the file, and the row.
    """

    model: str
    cycles: float | None
    ms: float | None
    source: str


def read_runs(given: str) -> tuple[MeasuredRun, ...]:
    """The runs of a table (CSV), or of "MODEL=LOG".

    Raises:
        MeasurementError: it cannot be read, or a row has no figure that can be.
    """
    model, separator, log = given.rpartition("=")
    if separator and not os.path.exists(given):
        return (MeasuredRun(model, cycles_of_log(log), None, log),)
    text = _read(given)
    if _KIT.search(text) or _COUNTER.search(text):
        raise MeasurementError(f"{given} is a log, which does not say which model ran: give MODEL={given}")
    try:
        rows = csv.DictReader(text.splitlines())
        names = [(name or "").strip().lower() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        if len({*names}) < len(names):
            raise MeasurementError(f"{given}: two columns have the same name")
        table = [row for row in rows if any(row.values())]
    except csv.Error as error:
        raise MeasurementError(f"{given} is no table: {error}") from None
    if "model" not in names or not {*CYCLES, *TIMES, LOG} & {*names}:
        raise MeasurementError(f"{given} has no table of runs: the first line must name the columns {COLUMNS}")
    if not table:
        raise MeasurementError(f"{given} has no runs below its first line")
    return tuple(_run(row, given, number) for number, row in enumerate(table, start=1))


def cycles_of_log(path: str) -> float:
    """Cycles in which the NPU was active, in one inference; the middle one of several.

    Raises:
        MeasurementError: the log cannot be read, or has none.
    """
    text = _read(path)
    found = _kit(text, path) or _counters(text, path)
    if not found:
        raise MeasurementError(f"{path} has neither 'NPU ACTIVE cycles' nor 'ethosu_pmu_cycle_cntr' of an inference")
    if min(found) <= 0:
        raise MeasurementError(f"{path} has an inference in which the NPU was never active")
    return float(median(found))


def _kit(text: str, path: str) -> list[float]:
    """Active cycles of each inference; where only the total is told, that less the idle ones."""
    figures: dict[str, list[float]] = {"ACTIVE": [], "IDLE": [], "TOTAL": []}
    for match in _KIT.finditer(text):
        figures[match["what"].upper()].append(_counted(match["value"], path))
    totals, idle = figures["TOTAL"], figures["IDLE"]
    if figures["ACTIVE"] or not totals:
        return figures["ACTIVE"]
    if idle and len(idle) != len(totals):
        raise MeasurementError(f"{path} tells NPU TOTAL {len(totals)} times and NPU IDLE {len(idle)} times")
    return [total - wait for total, wait in zip(totals, idle or [0.0] * len(totals), strict=True)]


def _counters(text: str, path: str) -> list[float]:
    """Cycles of each report of counters, less those of the counter that is said to count idle ones."""
    events = _EVENTS.search(text)
    names = [name.strip() for name in events["names"].split(",")] if events else []
    waiting = next((f"cntr{number}" for number, name in enumerate(names) if name.endswith(_IDLE)), "")
    found: list[float] = []
    idle: list[float] = []
    for match in _COUNTER.finditer(text):
        if match["name"] == "cycle_cntr":
            found.append(_counted(match["each"] or match["value"], path))
        elif match["name"] == waiting:
            idle.append(_counted(match["each"] or match["value"], path))
    if idle and len(idle) != len(found):
        raise MeasurementError(f"{path} tells cycles {len(found)} times and idle ones {len(idle)} times")
    return [value - wait for value, wait in zip(found, idle or [0.0] * len(found), strict=True)]


def _counted(text: str, path: str) -> float:
    """A figure of a log; a comma may separate its thousands."""
    try:
        value = float(re.sub(r",(?=\d{3}(?!\d))", "", text.rstrip(".,")))
    except ValueError:
        value = math.nan
    if not value < math.inf:
        raise MeasurementError(f"{path}: '{text[:40]}' is no number of cycles")
    return value


def _run(row: dict[str, str], path: str, number: int) -> MeasuredRun:
    where = f"{path}, run {number}"
    if None in row:
        raise MeasurementError(f"{where}: more figures than columns; a number has no commas here")
    model = (row.get("model") or "").strip()
    if not model or not model.isprintable():
        raise MeasurementError(f"{where}: no model is named")
    given = [(name, (row.get(name) or "").strip()) for name in (*CYCLES, *TIMES, LOG)]
    said = [(name, text) for name, text in given if text]
    if len(said) != 1:
        raise MeasurementError(f"{where}: give one of cycles, ms or log, and not {len(said)} of them")
    ((name, text),) = said
    if name == LOG:
        return MeasuredRun(_beside(model, path), cycles_of_log(_beside(text, path)), None, where)
    value = _number(text, where)
    is_time = name in TIMES
    return MeasuredRun(_beside(model, path), None if is_time else value, value if is_time else None, where)


def _number(text: str, where: str) -> float:
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise MeasurementError(f"{where}: '{text}' is no number above zero")
    return value


def _beside(name: str, table: str) -> str:
    """A path of a table: as it is seen from the table's folder, or from here."""
    near = os.path.join(os.path.dirname(table), name)
    return near if os.path.exists(near) else name


def _read(path: str) -> str:
    try:
        return read_file(path, LOG_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise MeasurementError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise MeasurementError(f"cannot read {path}: it is not text") from None

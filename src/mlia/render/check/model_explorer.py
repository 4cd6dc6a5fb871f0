"""CheckReport -> node data for Google's Model Explorer, which colors the model's graph with it.

What was found in ai-edge-model-explorer 0.1.34: a file of node data is one overlay, of one graph or of several by their
names. A key is the name of a tensor that a node makes, or else the id of a node. Names are what both of its readers of
.tflite files agree on; ids are the operators' indices in the reader of the FlatBuffer, and others in the one that goes
through MLIR. Of nodes that share a name, constants too, the last one gets the value. A graph without a name is "main",
or "subgraph_1" and so on.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from mlia.cpu_results import CpuCompatibility, CpuCost, CpuPerformance
from mlia.render.text import printable
from mlia.report import CheckReport, OperatorSummary, TargetReport
from mlia.results import Compatibility, OperatorCost, OperatorId, Performance, Placement, Unit

Value = float | str
_GREEN, _YELLOW, _ORANGE, _RED, _GRAY, _DARK = "#a5d6a7", "#fff59d", "#ffcc80", "#ef9a9a", "#e0e0e0", "#9e9e9e"
_HEAT = [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 0.5, "bgColor": "#ffcc80"}, {"stop": 1, "bgColor": "#d84315"}]
_SHARES = [
    {"value": 1, "bgColor": "#ffffff"}, {"value": 5, "bgColor": "#fff3e0"}, {"value": 10, "bgColor": "#ffcc80"},
    {"value": 25, "bgColor": "#fb8c00"}, {"value": 100, "bgColor": "#d84315"},
]  # fmt: skip
_USE = [
    {"value": 10, "bgColor": _RED}, {"value": 25, "bgColor": _ORANGE}, {"value": 50, "bgColor": _YELLOW},
    {"value": 100, "bgColor": _GREEN},
]  # fmt: skip
_PLACES = {"NPU": _GREEN, "CPU": _YELLOW, "folded": _GRAY, "removed": _DARK, "not called": _DARK, "cannot run": _RED}
_BOUNDS = {
    "macs": _GREEN, "output unit": "#80cbc4", "commands": "#ce93d8", "latency": "#b39ddb", "sram": "#90caf9",
    "dram": _ORANGE, "flash": _RED,
}  # fmt: skip


class Known(Struct, frozen=True):
    """All that is known of one operator on one target."""

    placement: Placement | None
    cost: OperatorCost | None
    cpu: CpuCost | None


class Overlay(Struct, frozen=True):
    """One way to color the graph. `colors` are of values that are words, `style` of those that are numbers."""

    name: str
    heading: str
    value: Callable[[Known], Value | None]
    colors: Mapping[str, str]
    style: Mapping[str, object]


def render_model_explorer(report: CheckReport, overlay: str = "latency", target: str = "") -> str:
    """One overlay of one target as node data; of the first target that was checked where none is named.

    Overlays are latency (NPU and Cortex-M in ms), cycles, share (of the cycles of the processor, in percent),
    placement, mac_utilization (percent) and bound_by. A model of several subgraphs gives one entry for each.
    """
    usable = [each for each in report.targets if not each.refusal] or report.targets
    entry = next((each for each in usable if each.target.name == target or not target), None)
    chosen = next((each for each in OVERLAYS if each.name == overlay), None)
    if chosen is None:
        raise ValueError(f"no overlay is called {overlay!r}; there are {', '.join(each.name for each in OVERLAYS)}")
    if entry is None:
        raise ValueError(f"the report has no target {target!r}")
    return _render(report, entry, chosen)


def model_explorer_overlays(report: CheckReport) -> dict[str, str]:
    """Every overlay of every checked target, by "<target>.<overlay>": files of their own, to be opened together."""
    return {
        f"{entry.target.name}.{overlay.name}": _render(report, entry, overlay)
        for entry in report.targets
        if not entry.refusal
        for overlay in OVERLAYS
    }


def node_keys(graph: tuple[OperatorSummary, ...], subgraph: int) -> dict[int, str]:
    """By what Model Explorer knows each operator of a subgraph: its first output's name, or its index.

    The index is for names that are empty or not the operator's alone; it holds for the reader of the FlatBuffer. An
    operator without any key of its own is left out.
    """
    operators = [each for each in graph if each.subgraph == subgraph]
    made = Counter(tensor.name for each in operators for tensor in each.outputs)
    taken = {tensor.name for each in operators for tensor in (*each.inputs, *each.outputs)}
    keys: dict[int, str] = {}
    for each in operators:
        own = [tensor.name for tensor in each.outputs if tensor.name and made[tensor.name] == 1]
        number = str(each.index)
        if own:
            keys[each.index] = own[0]
        elif number not in taken:
            keys[each.index] = number
    return keys


def _render(report: CheckReport, entry: TargetReport, overlay: Overlay) -> str:
    known = _known(entry)
    subgraphs = sorted({each.subgraph for each in report.model.graph}) or [0]
    data = {}
    for subgraph in subgraphs:
        keys = node_keys(report.model.graph, subgraph)
        found = {index: known[OperatorId(subgraph, index)] for index in keys if OperatorId(subgraph, index) in known}
        data[subgraph] = _graph_data(f"{entry.target.name}: {overlay.heading}", keys, found, overlay)
    if report.model.subgraphs <= 1 and len(data) == 1:
        return _json(data[subgraphs[0]])
    names = _graph_names(entry)
    return _json({names.get(number) or f"subgraph_{number}": each for number, each in data.items()})


def _graph_data(name: str, keys: Mapping[int, str], known: Mapping[int, Known], overlay: Overlay) -> dict[str, Any]:
    """What `GraphNodeData` of Model Explorer's Python package holds."""
    results: dict[str, dict[str, Value]] = {}
    for index, each in known.items():
        value = overlay.value(each)
        if value is None:
            continue
        results[keys[index]] = {"value": value}
        if isinstance(value, str):
            results[keys[index]]["bgColor"] = overlay.colors.get(value, _GRAY)
    return {"results": results, "name": printable(name), **overlay.style}


def _known(entry: TargetReport) -> dict[OperatorId, Known]:
    places: dict[OperatorId, Placement] = {}
    costs: dict[OperatorId, OperatorCost] = {}
    cpu: dict[OperatorId, CpuCost] = {}
    for result in entry.results:
        placed, found = result.compatibility, result.performance
        if isinstance(placed, Compatibility):
            places |= {OperatorId(each.subgraph, each.index): each for each in placed.operators}
        if isinstance(placed, CpuCompatibility):
            cpu |= {OperatorId(each.subgraph, each.index): each for each in placed.operators}
        if isinstance(found, Performance):
            costs |= {OperatorId(each.subgraph, each.index): each for each in found.operators}
            cpu |= {OperatorId(each.subgraph, each.index): each for each in found.cpu_costs}
        if isinstance(found, CpuPerformance):
            cpu |= {OperatorId(each.subgraph, each.index): each for each in found.operators}
    numbers = sorted({**places, **costs, **cpu}, key=lambda number: (number.subgraph, number.index))
    return {number: Known(places.get(number), costs.get(number), cpu.get(number)) for number in numbers}


def _graph_names(entry: TargetReport) -> dict[int, str]:
    """Of further subgraphs the report may have names; the first is "main" in what converters write."""
    names = {0: "main"}
    for result in entry.results:
        if isinstance(result.performance, Performance):
            names |= {each.subgraph: each.name for each in result.performance.further_subgraphs}
    return names


def _latency(known: Known) -> Value | None:
    cost = known.cpu or known.cost
    latency_ms = cost.latency_ms if cost is not None else None
    return None if latency_ms is None else round(latency_ms, 6)


def _cycles(known: Known) -> Value | None:
    """Of the NPU; of the Cortex-M only where there is no NPU, because their clocks differ."""
    if known.cost is not None:
        return known.cost.total_cycles
    return known.cpu.total_cycles if known.cpu is not None else None


def _share(known: Known) -> Value | None:
    if known.cost is not None:
        share = known.cost.cycles_percent
    else:
        share = known.cpu.cycles_percent if known.cpu is not None else None
    return None if share is None else round(share, 2)


def _place(known: Known) -> Value | None:
    if known.cpu is not None:
        return "CPU" if known.cpu.kernel.is_supported else "cannot run"
    if known.placement is None:
        return known.cost.processor if known.cost is not None else None
    is_folded = known.placement.is_folded and known.placement.processor == Unit.NPU
    return "folded" if is_folded else str(known.placement.processor)


def _use(known: Known) -> Value | None:
    use = known.cost.mac_utilization if known.cost is not None and known.cost.macs else None
    return None if use is None else min(round(100 * use, 2), 100.0)


def _bound(known: Known) -> Value | None:
    return str(known.cost.bound_by) if known.cost is not None and known.cost.bound_by is not None else None


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=True) + "\n"


_WORDS = {"showExpandedSummaryOnGroupNode": True, "showLabelCountColumnsInChildrenStatsTable": True}
OVERLAYS = (
    Overlay("latency", "latency, ms", _latency, {}, {"gradient": _HEAT}),
    Overlay("cycles", "cycles", _cycles, {}, {"gradient": _HEAT}),
    Overlay("share", "share of cycles, %", _share, {}, {"thresholds": _SHARES}),
    Overlay("placement", "runs on", _place, _PLACES, _WORDS),
    Overlay("mac_utilization", "MAC utilization, %", _use, {}, {"thresholds": _USE}),
    Overlay("bound_by", "bound by", _bound, _BOUNDS, _WORDS),
)

"""Node data for Model Explorer: its own package reads them, and its own reader of models has the same keys."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SAMPLE
from hypothesis import given, settings
from models import as_file, loop
from reports import CPU_REPORT, REPORTS, SEVERAL, check_golden, names, with_name
from sample import SAMPLE_REPORT

import mlia
from mlia.render.check.model_explorer import OVERLAYS, model_explorer_overlays, node_keys, render_model_explorer
from mlia.report import OperatorSummary, TensorSummary
from mlia.results import Performance

needs_explorer = pytest.mark.skipif(
    find_spec("model_explorer") is None, reason="ai-edge-model-explorer is not installed"
)
# In a process of its own: the reader is a library in C++ that dies of models that it does not like.
READ = """
import importlib, json, sys
module, name = {
    "flatbuffer": ("model_explorer.builtin_tflite_flatbuffer_adapter", "BuiltinTfliteFlatbufferAdapter"),
    "mlir": ("model_explorer.builtin_tflite_mlir_adapter", "BuiltinTfliteMlirAdapter"),
}[sys.argv[1]]
found = getattr(importlib.import_module(module), name)().convert(sys.argv[2], {})
print(json.dumps({graph["id"]: graph["nodes"] for each in found["graphCollections"] for graph in each.graphs}))
"""
# What its package does with a file: https://github.com/google-ai-edge/model-explorer, node_data_builder.py.
ROUND_TRIP = """
import json, sys
from model_explorer.node_data_builder import GradientItem, GraphNodeData, ModelNodeData, NodeDataResult, ThresholdItem
def graph(data):
    results = {key: NodeDataResult(**each) for key, each in data.pop("results").items()}
    thresholds = [ThresholdItem(**each) for each in data.pop("thresholds", [])]
    gradient = [GradientItem(**each) for each in data.pop("gradient", [])]
    return GraphNodeData(results=results, thresholds=thresholds, gradient=gradient, **data)
data = json.loads(sys.stdin.read())
built = graph(data) if "results" in data else ModelNodeData({key: graph(each) for key, each in data.items()})
print(built.to_json_string())
"""


def child(code: str, *arguments: str, text: str = "") -> Any:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout)


def made_by(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Node ids by the names of the tensors that they make, as the web page maps them: the last one wins."""
    return {
        attribute["value"]: node["id"]
        for node in nodes
        for output in node.get("outputsMetadata", [])
        for attribute in output["attrs"]
        if attribute["key"] == "tensor_name"
    }


def test_golden() -> None:
    check_golden("model_explorer.json", render_model_explorer(SAMPLE_REPORT))


@pytest.mark.parametrize("report", [report for report in REPORTS if report.targets])
def test_every_overlay_is_node_data(report: mlia.CheckReport) -> None:
    found = model_explorer_overlays(report)
    assert found == model_explorer_overlays(report)
    assert len(found) == sum(not entry.refusal for entry in report.targets) * len(OVERLAYS)
    for name, text in found.items():
        target, _, overlay = name.rpartition(".")
        assert text == render_model_explorer(report, overlay, target)
        for stop in (data := json.loads(text)).get("gradient", []):
            assert stop["bgColor"].startswith("#")
        assert all(set(each) <= {"value", "bgColor"} for each in data["results"].values())


@needs_explorer
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_its_package_reads_and_writes_the_same(overlay: Any) -> None:
    text = render_model_explorer(mlia.check(SAMPLE, "ethos-u55-128"), overlay.name)
    built = child(ROUND_TRIP, text=text)
    assert {key: value for key, value in built.items() if value not in ([], False)} == json.loads(text)


@needs_explorer
@pytest.mark.parametrize("reader", ["flatbuffer", "mlir"])
@pytest.mark.parametrize("model", [SAMPLE, ROOT / "examples/off_the_npu.tflite"], ids=lambda path: path.stem)
def test_its_readers_know_every_key_as_the_same_kind_of_operator(model: Path, reader: str) -> None:
    report = mlia.check(model, "ethos-u55-128")
    nodes = child(READ, reader, str(model))["main"]
    kinds, ids = {node["id"]: node["label"] for node in nodes}, made_by(nodes)
    keys = node_keys(report.model.graph, 0)
    assert {index: kinds[ids[key]].upper() for index, key in keys.items()} == {
        each.index: each.kind for each in report.model.graph
    }
    constants = {node["id"] for node in nodes if "const" in node["label"]}
    assert {ids[key] for key in keys.values()} == {
        node["id"] for node in nodes if node.get("incomingEdges") and "utput" not in node["label"]
    } - constants


@needs_explorer
def test_graphs_of_a_model_with_several_are_known(tmp_path: Path) -> None:
    model = tmp_path / "loop.tflite"
    model.write_bytes(as_file(loop()))
    graphs = child(READ, "flatbuffer", str(model))
    report = mlia.check(model, "ethos-u55-128", try_remedies=False)
    data = json.loads(render_model_explorer(report, "placement"))
    assert set(data) == set(graphs) == {"main", "cond", "body"}
    for name, each in data.items():
        assert set(each["results"]) <= set(made_by(graphs[name]))
        assert each["results"]
    assert child(ROUND_TRIP, text=json.dumps(data)).keys() == data.keys()


def test_values_of_a_real_check() -> None:
    report = mlia.check(ROOT / "examples/off_the_npu.tflite", "ethos-u55-128")
    found = report.targets[0].results[0].performance
    assert isinstance(found, Performance)
    cycles = json.loads(render_model_explorer(report, "cycles"))["results"]
    assert sum(each["value"] for each in cycles.values()) == found.total_cycles
    places = json.loads(render_model_explorer(report, "placement"))["results"]
    assert {key: each["value"] for key, each in places.items()} == {
        "stem": "NPU", "narrow": "NPU", "deep": "NPU", "upsampled": "CPU", "smooth": "NPU", "mask": "CPU",
    }  # fmt: skip
    latency = json.loads(render_model_explorer(report))["results"]
    assert max(latency, key=lambda key: latency[key]["value"]) == "upsampled"
    bounds = json.loads(render_model_explorer(report, "bound_by"))["results"]
    assert {each["value"] for each in bounds.values()} == {"macs"}
    assert json.loads(render_model_explorer(report, "mac_utilization"))["results"]["smooth"]["value"] == 73.64


def test_a_cortex_m_alone() -> None:
    places = json.loads(render_model_explorer(CPU_REPORT, "placement"))["results"]
    assert [each["value"] for each in places.values()] == ["CPU", "CPU", "cannot run"]
    assert [each["value"] for each in json.loads(render_model_explorer(CPU_REPORT, "cycles"))["results"].values()] == [
        20_000,
        90_000,
    ]
    assert json.loads(render_model_explorer(CPU_REPORT, "mac_utilization"))["results"] == {}


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no overlay is called 'x'; there are latency, cycles"):
        render_model_explorer(SAMPLE_REPORT, "x")
    with pytest.raises(ValueError, match="no target 'x'"):
        render_model_explorer(SAMPLE_REPORT, target="x")


def test_a_key_is_one_operator_s() -> None:
    def operator(index: int, *outputs: str) -> OperatorSummary:
        made = tuple(TensorSummary(name, (1,), "int8") for name in outputs)
        return OperatorSummary(0, index, "ADD", "", (), (TensorSummary("3", (1,), "int8"),), made)

    graph = (operator(0, "same"), operator(1, "same", "own"), operator(2, ""), operator(3, ""), operator(4, "a", "b"))
    assert node_keys(graph, 0) == {0: "0", 1: "own", 2: "2", 4: "a"}
    assert node_keys(graph, 1) == {}


@given(names)
@settings(deadline=None, max_examples=60)
def test_no_name_breaks_the_data(name: str) -> None:
    for text in model_explorer_overlays(with_name(SEVERAL, name)).values():
        text.encode()
        assert "results" in json.loads(text)

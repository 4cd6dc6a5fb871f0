"""What falls off the NPU costs time: orderings that a count of NPU cycles gets wrong."""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE, wake_words
from models import as_file, loop

import mlia
from mlia.cpu_results import CpuPerformance, SystemTime
from mlia.estimates import Origin
from mlia.graph.graph import Graph, OptionValue
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Clustering
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.results import Performance, Skipped, Unit
from mlia.testing import Sketch


def mobile(side: int = 48) -> Graph:
    """The beginning of a MobileNet, as visual wake words has it, in float."""
    net = Sketch("mobile", seed=1)
    x = net.convolution(net.input("image", (1, side, side, 3)), filters=8, kernel=(3, 3), stride=(2, 2), name="first")
    for number, (filters, stride) in enumerate(((16, 1), (32, 2), (32, 1), (64, 2)), start=1):
        x = net.depthwise(x, stride=(stride, stride), name=f"depthwise_{number}")
        x = net.convolution(x, filters=filters, name=f"pointwise_{number}")
    x = net.average_pool(x, kernel=(side // 8, side // 8), name="pool")
    x = net.fully_connected(net.reshape(x, (1, 64)), units=2, name="dense")
    return read_tflite(write_tflite(net.graph([net.softmax(x)])))


def resized(factor: int) -> Graph:
    net = Sketch("resized")
    x = net.convolution(net.input("image", (1, 16, 16, 8)), filters=16, kernel=(3, 3), name="before")
    size = net.constant("size", np.array([16 * factor, 16 * factor], np.int32))
    options: dict[str, OptionValue] = {"align_corners": False, "half_pixel_centers": True}
    shape, table = (1, 16 * factor, 16 * factor, 16), "ResizeBilinearOptions"
    x = net.operator("RESIZE_BILINEAR", [x, size], shape, "resize", options_table=table, options=options)
    return read_tflite(write_tflite(net.graph([net.convolution(x, filters=16, kernel=(3, 3), name="after")])))


def activated(kind: str) -> Graph:
    net = Sketch("activated")
    x = net.input("image", (1, 32, 32, 8))
    x = net.convolution(x, filters=16, kernel=(3, 3), activation="NONE", name="before")
    x = net.unary(kind, x, "activation")
    return read_tflite(write_tflite(net.graph([net.convolution(x, filters=16, kernel=(3, 3), name="after")])))


def performance(model: Graph, target: str = "ethos-u55-256", quantize: bool = True) -> Performance:
    found = mlia.check(model, target, quantize=quantize).targets[0].results[0].performance
    assert isinstance(found, Performance)
    return found


def system(model: Graph, target: str = "ethos-u55-256", quantize: bool = True) -> SystemTime:
    found = performance(model, target, quantize).system
    assert isinstance(found, SystemTime)
    return found


def times(found: Performance) -> tuple[float, float]:
    """Of the whole inference, and of the NPU's part, in ms."""
    assert found.latency_ms is not None
    assert found.npu_latency_ms is not None
    return found.latency_ms, found.npu_latency_ms


def test_a_float_model_costs_more_than_its_integer_form() -> None:
    slow, slow_npu = times(performance(mobile(), quantize=False))
    assert slow_npu == 0
    assert slow > 10 * times(performance(mobile()))[0] > 0
    floating, integer = system(mobile(), quantize=False), system(mobile())
    assert floating.speedup is None
    text = render_terminal(mlia.check(mobile(), "ethos-u55-256", quantize=False), TerminalStyle(80))
    assert "all of it on the Cortex-M55" in text
    assert "Hand-over" not in text
    assert integer.speedup is not None
    assert integer.speedup > 1


def test_a_resize_on_the_cpu_is_slower_than_a_smaller_one_on_the_npu() -> None:
    twice, thrice = system(resized(2)), system(resized(3))
    (quick, quick_npu), (slow, slow_npu) = times(performance(resized(2))), times(performance(resized(3)))
    assert slow_npu < quick_npu  # what other tools compare
    assert slow > quick
    assert (twice.segments, thrice.segments) == (1, 2)
    assert twice.cpu.cycles == 0 < thrice.cpu.cycles
    assert thrice.handover.cycles > twice.handover.cycles > 0


def test_an_activation_on_the_cpu_is_slower_than_one_on_the_npu() -> None:
    relu, elu = performance(activated("RELU")), performance(activated("ELU"))
    assert elu.total_cycles is not None
    assert relu.total_cycles is not None
    assert elu.total_cycles < relu.total_cycles
    assert times(elu)[0] > times(relu)[0]
    assert [cost.kind for cost in elu.cpu_costs] == ["DEQUANTIZE", "ELU", "QUANTIZE"]


@pytest.mark.parametrize("target", ["ethos-u55-32", "ethos-u65-512", "ethos-u85-2048"])
def test_the_sum_is_of_its_parts(target: str) -> None:
    whole, found = performance(resized(3), target), system(resized(3), target)
    latency_ms, npu_ms = times(whole)
    assert (whole.cpu_latency_ms, whole.handover_ms) == (found.cpu.latency_ms, found.handover.latency_ms)
    assert latency_ms == pytest.approx(npu_ms + found.cpu.latency_ms + found.handover.latency_ms)
    assert (whole.low_ms or math.inf) < latency_ms < (whole.high_ms or 0)
    assert found.cpu.low_cycles < found.cpu.cycles < found.cpu.high_cycles
    sources = (found.npu_source, found.cpu_source, found.handover_source)
    assert {source.origin for source in sources} == {Origin.ESTIMATED}
    assert len({source.by for source in sources}) == 3
    assert found.cpu_alone is not None
    assert found.speedup == pytest.approx(found.cpu_alone.latency_ms / latency_ms)


@pytest.mark.parametrize("core", ["m0plus", "m4", "m7", "m33", "m55", "m85"])
def test_a_cortex_m_alone_runs_the_whole_model(core: str) -> None:
    (entry,) = mlia.check(SAMPLE, f"cortex-{core}").targets
    found = entry.results[0].performance
    assert entry.target.npu is None
    assert isinstance(found, CpuPerformance)
    assert found.total_cycles == sum(cost.total_cycles or 0 for cost in found.operators)
    assert (found.low_cycles or math.inf) < found.total_cycles < (found.high_cycles or 0)
    assert found.sram_bytes == found.arena_bytes == found.arena.size_bytes
    assert found.stack
    assert found.source.version
    assert found.flash_bytes == SAMPLE.stat().st_size
    assert sum(cost.cycles_percent or 0 for cost in found.operators) == pytest.approx(100)


def test_what_cannot_run_at_all_is_told_apart() -> None:
    net = Sketch("odd")
    x = net.convolution(net.input("image", (1, 8, 8, 4)), filters=4, name="conv")
    x = net.operator("CUSTOM", [x], (1, 8, 8, 4), "odd", custom_code="Mystery")
    graph = read_tflite(write_tflite(net.graph([x])))
    (entry,) = mlia.check(graph, "cortex-m55", quantize=False).targets
    found = entry.results[0].performance
    assert isinstance(found, CpuPerformance)
    assert found.unsupported_operators == 1
    conv, odd = found.operators
    assert conv.kernel.is_supported
    assert conv.latency_ms is not None
    assert not odd.kernel.is_supported
    assert odd.latency_ms is odd.total_cycles is None
    assert found.latency_ms is found.total_cycles is None
    assert odd.kernel.reason


@pytest.mark.parametrize("path", wake_words(), ids=lambda path: path.stem)
def test_state_does_not_hide_the_cpu(path: object) -> None:
    report = mlia.check(str(path), "ethos-u55-128")
    placed = report.targets[0].results[0].compatibility
    found = report.targets[0].results[0].performance
    assert isinstance(found, Performance)
    on_cpu = [each for each in getattr(placed, "operators", ()) if each.processor == Unit.CPU]
    assert len(found.cpu_costs) == len(on_cpu) > 0
    assert isinstance(found.system, SystemTime)
    assert sum(cost.cycles_percent or 0 for cost in found.cpu_costs if not cost.subgraph) == pytest.approx(100)
    alone = mlia.check(str(path), "cortex-m4").targets[0].results[0].performance
    assert isinstance(alone, CpuPerformance)
    assert alone.unsupported_operators == 0


def test_a_folded_operator_crosses_no_border() -> None:
    def between(folds: bool) -> Graph:
        net = Sketch("folded")
        x = net.convolution(net.input("image", (1, 24, 24, 8)), filters=16, kernel=(3, 3), name="before")
        if folds:
            x = net.reshape(x, (1, 24, 24, 16))
        return read_tflite(write_tflite(net.graph([net.convolution(x, filters=8, kernel=(3, 3), name="after")])))

    assert system(between(True)).handover == system(between(False)).handover


def test_called_subgraphs_leave_the_time_open() -> None:
    found = performance(read_tflite(as_file(loop())), quantize=False)
    assert isinstance(found.system, Skipped)
    assert "is not known" in found.system.reason


def test_a_compiled_model_is_sent_back(shared: Path) -> None:
    (entry,) = mlia.check(shared / "tflite_micro/person_detect_vela.tflite", "cortex-m55").targets
    assert isinstance(entry.results[0].performance, Skipped)
    assert "already compiled by Vela" in entry.results[0].performance.reason
    assert [advice.code for advice in entry.advised.advice] == ["CMP060"]


def test_side_by_side_does_not_flatter_what_cannot_run() -> None:
    net = Sketch("odd")
    x = net.operator("CUSTOM", [net.input("image", (1, 8, 8, 4))], (1, 8, 8, 4), "odd", custom_code="Mystery")
    graph = read_tflite(write_tflite(net.graph([net.convolution(x, filters=4, name="conv")])))
    text = render_terminal(mlia.check(graph, ["cortex-m4", "ethos-u55-256"], quantize=False), TerminalStyle(100))
    rows = [line.split() for line in text.splitlines() if line.startswith(("  cortex-m4 ", "  ethos-u55-256 "))]
    assert [row[3] for row in rows] == ["-", "-"]
    assert "the model does not start: 'Mystery' does not come with TFLite Micro" in text
    assert "ethos-u55-256: the time is not known" in text


def test_optimizing_counts_the_cpu_as_well() -> None:
    model = resized(3)
    (comparison,) = mlia.optimize(model, "ethos-u55-256", mlia.Recipe(clustering=Clustering(16))).report.comparisons
    assert comparison.before.cpu_operators == 1
    assert (comparison.before.latency_ms, comparison.before.npu_latency_ms) == pytest.approx(times(performance(model)))

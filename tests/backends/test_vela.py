import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SAMPLE, real_models, wake_words
from models import Q, as_file, int8_convolution, loop, sandwich, strided, with_uncalled
from msgspec.structs import replace

from mlia.backends.vela import process as vela_process
from mlia.backends.vela.backend import Vela, vela
from mlia.errors import BackendError
from mlia.estimates import Estimator
from mlia.graph.graph import Graph, Signature, Tensor
from mlia.graph.tflite import read_tflite
from mlia.results import NOT_CALLED, Bound, Compatibility, Performance, Unit
from mlia.targets.profiles import load_target
from mlia.targets.target import Target, installed_path, read_vela_ini, write_vela_ini
from mlia.testing import Sketch

U55 = load_target("ethos-u55-256")
U85 = load_target("ethos-u85-256")


def run(
    graph: Graph | bytes, target: Target = U55, estimator: Estimator = Estimator.VELA
) -> tuple[Compatibility, Performance]:
    result = Vela(60, estimator).run(read_tflite(graph) if isinstance(graph, bytes) else graph, target)
    assert isinstance(result.compatibility, Compatibility)
    assert isinstance(result.performance, Performance)
    return result.compatibility, result.performance


def vela_command(model: Path, target: Target, folder: Path) -> dict[str, float]:
    """The figures of the `vela` command for the same settings."""
    subprocess.run(
        [
            *(sys.executable, "-m", "ethosu.vela", str(model), "--output-dir", str(folder)),
            *("--accelerator-config", f"{target.npu.family}-{target.npu.macs_per_cycle}"),
            *("--config", "Arm/vela.ini", "--system-config", target.system_config.name),
            *("--memory-mode", target.memory_mode.name),
        ],
        check=True,
        capture_output=True,
    )
    (summary,) = folder.glob("*_summary_*.csv")
    with summary.open() as file:
        (row,) = csv.DictReader(file)
    return {key: float(value) for key, value in row.items() if value.replace(".", "").replace("e-", "").isdigit()}


@pytest.mark.parametrize("name", ["ethos-u55-32", "ethos-u55-256", "ethos-u65-512", "ethos-u85-256", "ethos-u85-2048"])
@pytest.mark.parametrize("model", [SAMPLE, wake_words()[0]], ids=lambda path: path.stem)
def test_totals_equal_the_vela_command(model: Path, name: str, tmp_path: Path) -> None:
    target = load_target(name)
    theirs = vela_command(model, target, tmp_path)
    _, performance = run(model.read_bytes(), target)
    assert performance.memory is not None
    assert performance.total_cycles == theirs["cycles_total"]
    assert performance.npu_cycles == theirs["cycles_npu"]
    assert performance.compiled_macs == theirs["nn_macs"]
    assert performance.memory.planned_sram_bytes / 1024 == pytest.approx(theirs["sram_memory_used"])
    assert performance.memory.planned_dram_bytes / 1024 == pytest.approx(theirs["dram_memory_used"])
    # Vela counts as flash what is read from it at run time; what is read from DRAM must be stored as well.
    if target.constants_memory.kind == "OffChipFlash":
        assert performance.memory.constants_bytes / 1024 == pytest.approx(theirs["off_chip_flash_memory_used"])


@pytest.mark.parametrize(("name", "memory"), [("ethos-u55-256", "flash"), ("ethos-u85-256", "dram")])
def test_flash_is_what_is_stored_wherever_it_is_read_from(name: str, memory: str) -> None:
    _, performance = run(SAMPLE.read_bytes(), load_target(name))
    assert performance.memory is not None
    assert performance.memory.constants_memory == memory
    assert performance.flash_bytes > performance.memory.constants_bytes > performance.memory.weights_bytes


def test_published_total_of_a_real_model(shared: Path) -> None:
    # The figure of the `vela` command, Ethos_U55_High_End_Embedded, Shared_Sram.
    _, performance = run((shared / "mlperf_tiny/kws_ref_model.tflite").read_bytes())
    assert performance.total_cycles == 58_340
    assert performance.npu_latency_ms == pytest.approx(58_340 / 500e3)


@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u65-512", "ethos-u85-256"])
@pytest.mark.parametrize(
    "model", [path for path in real_models() if "vela" not in path.stem], ids=lambda path: path.stem
)
def test_operators_add_up_to_the_network(model: Path, name: str) -> None:
    compatibility, performance = run(model.read_bytes(), load_target(name))
    assert compatibility.npu_operators + compatibility.cpu_operators == len(compatibility.operators)
    assert len(performance.operators) == len(compatibility.operators)
    assert sum(cost.total_cycles or 0 for cost in performance.operators) == (performance.total_cycles or 0)
    assert sum(cost.npu_cycles or 0 for cost in performance.operators) == (performance.npu_cycles or 0)
    for cost, placement in zip(performance.operators, compatibility.operators, strict=True):
        assert cost.name == placement.name
        assert (cost.total_cycles is None) == (placement.processor == "CPU")
        assert bool(placement.constraints) == (placement.processor == "CPU")
        assert sum(step.total_cycles for step in cost.steps) == (cost.total_cycles or 0)
        assert not cost.mac_utilization or 0 < cost.mac_utilization <= 1
    if performance.memory is None:
        assert performance.total_cycles is None
        assert performance.npu_latency_ms is performance.latency_ms is None
        return
    compressed = [cost.compressed_weights_bytes for cost in performance.operators if cost.processor == "NPU"]
    assert None not in compressed
    moved = {moved.memory: (moved.read_bytes, moved.write_bytes) for moved in performance.traffic}
    if len(read_tflite(model.read_bytes()).subgraphs) == 1:
        assert sum(size or 0 for size in compressed) == performance.memory.compressed_weights_bytes
        for memory, bytes_moved in moved.items():
            of_operators = [t for cost in performance.operators for t in cost.traffic if t.memory == memory]
            read = sum(t.read_bytes for t in of_operators)
            assert (read, sum(t.write_bytes for t in of_operators)) == bytes_moved
    assert max(life.address + life.size_bytes for life in performance.memory.tensors) > 0


@pytest.mark.parametrize("system_config", ["Ethos_U55_Deep_Embedded", "Ethos_U55_High_End_Embedded"])
def test_memories_written_out_give_the_same_estimate(system_config: str) -> None:
    config = read_vela_ini(installed_path()).system_config(system_config)
    named = replace(U55, system_config=config)
    written = replace(named, vela_config=write_vela_ini(config, U55.memory_mode))
    graph = read_tflite(SAMPLE.read_bytes())
    assert run(graph, named) == run(graph, written)


@pytest.mark.parametrize("called", ["written_out", "my_board", "Ethos_U65_like"])
@pytest.mark.parametrize("name", ["ethos-u55-64", "ethos-u65-256", "ethos-u85-256"])
def test_the_name_of_the_memories_changes_no_estimate(name: str, called: str, shared: Path) -> None:
    target = load_target(name)
    config = replace(target.system_config, name=called)
    other = replace(target, system_config=config, vela_config=write_vela_ini(config, target.memory_mode))
    content = (shared / "mlperf_tiny/kws_ref_model.tflite").read_bytes()
    assert run(content, target) == run(content, other)


@pytest.mark.parametrize("name", ["ethos-u65-512", "ethos-u85-512"])
def test_memories_of_other_families_written_out_give_the_same_estimate(name: str) -> None:
    named = load_target(name)
    written = replace(named, vela_config=write_vela_ini(named.system_config, named.memory_mode))
    graph = read_tflite(SAMPLE.read_bytes())
    assert run(graph, named) == run(graph, written)


def test_a_float_model_has_one_reason(shared: Path) -> None:
    compatibility, performance = run((shared / "mlperf_tiny/kws_ref_model_float32.tflite").read_bytes())
    reasons = {placement.constraints[0].violation.partition("(")[0].strip() for placement in compatibility.operators}
    assert len(reasons) == 1
    assert "float32" in reasons.pop().lower()
    assert compatibility.cpu_operators == 13
    assert compatibility.npu_percent == 0
    assert performance.total_cycles is None


def test_an_operator_that_the_npu_lacks_cuts_the_graph() -> None:
    compatibility, performance = run(as_file(sandwich("CUMSUM")))
    assert [placement.segment for placement in compatibility.operators] == [1, None, 2]
    assert compatibility.npu_segments == 2
    assert compatibility.operators[1].constraints[0].violation == "Unsupported opType"
    assert performance.operators[1].total_cycles is None
    assert "1 operator on the Cortex-M55" in performance.skipped[0].what


def test_a_limit_is_told_with_the_offending_value() -> None:
    compatibility, _ = run(as_file(strided(5)))
    (constraint,) = compatibility.operators[0].constraints
    assert constraint.violation == "Unsupported kernel stride: 5, 5"
    assert "VALID" in constraint.rule
    assert run(as_file(strided(3)))[0].cpu_operators == 0


def test_reasons_find_their_operators_without_names() -> None:
    graph = sandwich("CUMSUM", names=("", "", ""))
    compatibility, _ = run(as_file(graph))
    assert [placement.processor for placement in compatibility.operators] == ["NPU", "CPU", "NPU"]
    assert compatibility.operators[1].constraints[0].violation == "Unsupported opType"
    assert compatibility.operators[1].name == "CUMSUM#1"


def test_custom_operators_go_by_their_own_name() -> None:
    compatibility, _ = run(as_file(sandwich("CUSTOM", custom_code="MyOperator")))
    assert compatibility.operators[1].kind == "MyOperator"


def test_an_activation_on_the_npu_is_joined_to_its_producer() -> None:
    _, performance = run(as_file(sandwich("LOGISTIC")))
    assert performance.operators[1].total_cycles == 0
    assert performance.operators[1].note.startswith("joined")


def test_a_reshape_is_folded() -> None:
    compatibility, performance = run(SAMPLE.read_bytes())
    assert [placement.kind for placement in compatibility.operators if placement.is_folded] == ["RESHAPE"]
    reshape = next(cost for cost in performance.operators if cost.kind == "RESHAPE")
    assert (reshape.total_cycles, reshape.steps) == (0, ())
    assert reshape.note.startswith("folded")


def test_subgraphs_have_their_own_operators_and_cycles() -> None:
    compatibility, performance = run(as_file(loop()))
    placed = [(placement.subgraph, placement.kind, placement.processor) for placement in compatibility.operators]
    assert placed == [
        (0, "CONV_2D", "NPU"), (0, "WHILE", "CPU"), (0, "CONV_2D", "NPU"), (1, "LESS", "CPU"), (2, "CONV_2D", "NPU"),
    ]  # fmt: skip
    assert [subgraph.runs for subgraph in performance.further_subgraphs] == ["when called", "when called"]
    assert performance.further_subgraphs[1].total_cycles == performance.operators[4].total_cycles


def started(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> int:
    """How many compilers a check starts."""
    workers: list[vela_process.Worker] = []

    class Counted(vela_process.Worker):
        def __init__(self) -> None:
            super().__init__()
            workers.append(self)

    monkeypatch.setattr(vela_process, "Worker", Counted)
    run(as_file(graph))
    return len(workers)


def test_subgraphs_that_nothing_calls_take_no_compiler_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(monkeypatch, with_uncalled(loop(), 100)) == started(monkeypatch, loop())


@pytest.mark.parametrize("estimator", Estimator)
def test_what_nothing_calls_is_told_and_costs_nothing(estimator: Estimator, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(as_file(with_uncalled(sandwich("LOGISTIC"), 3)))
    theirs = vela_command(model, U55, tmp_path)
    compatibility, performance = run(model.read_bytes(), estimator=estimator)
    alone_compatibility, alone = run(as_file(sandwich("LOGISTIC")), estimator=estimator)
    assert [each.processor for each in compatibility.operators] == [Unit.NPU] * 3 + [Unit.NOT_CALLED] * 3
    assert compatibility.npu_operators == alone_compatibility.npu_operators
    assert compatibility.npu_segments == alone_compatibility.npu_segments
    for name in (
        "total_cycles",
        "npu_cycles",
        "inference_cycles",
        "npu_latency_ms",
        "macs",
        "mac_utilization",
        "traffic",
    ):
        assert getattr(performance, name) == getattr(alone, name), name
    assert performance.operators[:3] == alone.operators
    assert {each.note for each in performance.operators[3:]} == {"not called: nothing runs it"}
    assert [(each.what, each.reason) for each in performance.skipped] == [
        ("3 operators in 3 subgraphs", NOT_CALLED),
    ]
    assert performance.further_subgraphs == ()
    assert performance.memory is not None
    assert performance.vela_total_cycles == theirs["cycles_total"]
    assert performance.compiled_macs == theirs["nn_macs"]
    assert performance.memory.planned_sram_bytes / 1024 == pytest.approx(theirs["sram_memory_used"])
    assert performance.memory.constants_bytes / 1024 == pytest.approx(theirs["off_chip_flash_memory_used"])


def test_the_subgraph_of_a_signature_is_called() -> None:
    graph = replace(with_uncalled(sandwich("LOGISTIC"), 2), signatures=(Signature("train", 2, {}, {}),))
    compatibility, performance = run(as_file(graph))
    assert [each.processor for each in compatibility.operators[3:]] == [Unit.NOT_CALLED, Unit.NPU]
    assert [each.name for each in performance.further_subgraphs] == ["uncalled 2"]


def test_what_runs_once_is_told_apart() -> None:
    _, performance = run(wake_words()[0].read_bytes(), U85)
    (start,) = performance.further_subgraphs
    assert start.runs == "once, at the start"
    assert start.total_cycles > 0


def test_bounds_of_memory_and_of_the_array() -> None:
    _, performance = run(SAMPLE.read_bytes())
    assert performance.operators[0].bound_by == Bound.MACS
    dense = next(cost for cost in performance.operators if cost.kind == "FULLY_CONNECTED")
    assert dense.bound_by == Bound.FLASH


def test_int4_weights_are_refused() -> None:
    graph = sandwich("ABS")
    narrow = Tensor("narrow", (4,), "int4", None, memoryview(b"ab"))
    with_int4 = replace(graph.main, tensors=(*graph.main.tensors, narrow))
    with pytest.raises(BackendError, match="int4 weights of 'narrow'"):
        run(as_file(replace(graph, subgraphs=(with_int4,))))


def test_a_compiler_that_takes_too_long_is_ended() -> None:
    with pytest.raises(BackendError, match=r"did not finish within 0\.001 s"):
        Vela(timeout_s=0.001).run(read_tflite(SAMPLE.read_bytes()), U55)


def test_a_worker_that_dies_is_an_error_with_its_signal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suicidal = tmp_path / "worker.py"
    suicidal.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(vela_process, "CHILD", suicidal)
    with pytest.raises(BackendError, match=r"crashed.*SIGSEGV"):
        vela_process.compile_model(SAMPLE.read_bytes(), U55, 60)


def test_work_begun_early_is_picked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    vela_process.warm_up()
    with SAMPLE.open("rb") as file:
        vela_process.begin(file, U55)
    monkeypatch.setattr(vela_process, "Worker", None)  # a second worker would fail now
    assert vela_process.compile_model(SAMPLE.read_bytes(), U55, 60).report["total_cycles"] > 0


def test_work_begun_on_names_that_the_log_cannot_carry_is_ended(tmp_path: Path) -> None:
    content = as_file(sandwich("CUMSUM", names=("same", "same", "same")))
    (tmp_path / "same.tflite").write_bytes(content)
    with (tmp_path / "same.tflite").open("rb") as file:
        vela_process.begin(file, U55)
    (begun,) = vela_process._working.values()
    run(content)
    assert begun._process.poll() is not None
    assert not vela_process._working


def test_vela_is_available() -> None:
    assert Vela().available() is None


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH"])
def test_a_fused_activation_does_not_hide_the_reason(activation: str) -> None:
    graph = strided(5)
    (operator,) = graph.operators
    fused = replace(operator, options={**operator.options, "fused_activation_function": activation})
    graph = replace(graph, subgraphs=(replace(graph.main, operators=(fused,)),))
    (constraint,) = run(as_file(graph))[0].operators[0].constraints
    assert constraint.violation == "Unsupported kernel stride: 5, 5"


@pytest.mark.parametrize("names", [("same", "same", "same"), ("", "", ""), ("a\nb", "c'd", "e\x1b[31m")])
def test_reasons_find_their_operators_whatever_the_names(names: tuple[str, str, str]) -> None:
    compatibility, _ = run(as_file(sandwich("CUMSUM", names=names)))
    assert [placement.processor for placement in compatibility.operators] == ["NPU", "CPU", "NPU"]
    assert compatibility.operators[1].constraints[0].violation == "Unsupported opType"
    assert compatibility.operators[1].name == (names[1] or "CUMSUM#1")


def test_shared_weights_are_never_negative() -> None:
    net = Sketch("shared")
    x = net.input("in", (1, 16, 16, 8), "int8", Q)
    first = int8_convolution(net, x, "first")
    graph = net.graph([int8_convolution(net, first, "second")])
    one, two = graph.operators
    shared = (one, replace(two, inputs=(two.inputs[0], *one.inputs[1:])))
    _, performance = run(as_file(replace(graph, subgraphs=(replace(graph.main, operators=shared),))))
    assert performance.memory is not None
    for cost in performance.operators:
        assert cost.compressed_weights_bytes is None
        assert "shares its weights" in cost.note


def test_what_nothing_reads_is_removed() -> None:
    net = Sketch("dead")
    x = net.input("in", (1, 16, 16, 8), "int8", Q)
    net.unary("CUMSUM", x, "dead")
    alive = int8_convolution(net, x, "alive")
    compatibility, performance = run(as_file(net.graph([alive])))
    assert [placement.processor for placement in compatibility.operators] == ["removed", "NPU"]
    assert (compatibility.npu_percent, compatibility.cpu_operators) == (100, 0)
    assert performance.operators[0].total_cycles is None
    assert performance.operators[0].note.startswith("removed")


def test_steps_too_short_to_hide_latency_are_not_called_bound_by_macs(shared: Path) -> None:
    _, performance = run((shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes(), U85)
    assert performance.operators[0].bound_by == Bound.LATENCY


def test_time_per_inference_leaves_out_what_runs_once() -> None:
    _, performance = run(wake_words()[0].read_bytes(), U85)
    (start,) = performance.further_subgraphs
    assert performance.total_cycles is not None
    assert performance.inference_cycles == performance.total_cycles - start.total_cycles
    assert performance.npu_latency_ms == pytest.approx(performance.inference_cycles / (performance.clock_mhz * 1e3))
    assert performance.memory is not None
    assert {life.subgraph for life in performance.memory.tensors} == {0, 1}


def test_open_sizes_count_as_one() -> None:
    graph = sandwich("LOGISTIC")
    image = replace(graph.main.tensors[0], shape=(4, 16, 16, 8), shape_signature=(-1, 16, 16, 8))
    opened = replace(graph.main, tensors=(image, *graph.main.tensors[1:]))
    _, performance = run(as_file(replace(graph, subgraphs=(opened,))))
    assert performance.mac_utilization is not None
    assert performance.mac_utilization < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_sparse": True}, "sparse weights"),
        ({"shape": (1, 0, 16, 8)}, "size is zero"),
    ],
)
def test_what_kills_vela_is_refused_in_words(change: dict[str, Any], message: str) -> None:
    graph = sandwich("LOGISTIC")
    tensors = list(graph.main.tensors)
    last = graph.operators[-1].outputs[0]
    tensors[last] = replace(tensors[last], **change)
    with pytest.raises(BackendError, match=message):
        run(replace(graph, subgraphs=(replace(graph.main, tensors=tuple(tensors)),)))


def test_a_subgraph_without_operators_is_refused_in_words() -> None:
    graph = loop()
    empty = replace(graph.subgraphs[2], operators=(), outputs=graph.subgraphs[2].inputs)
    with pytest.raises(BackendError, match="no operators"):
        run(as_file(replace(graph, subgraphs=(*graph.subgraphs[:2], empty))))


def test_workers_that_are_not_needed_are_ended() -> None:
    vela_process.warm_up()
    (waiting,) = vela_process._waiting
    vela_process.abandon()
    assert waiting._process.poll() is not None
    assert not vela_process._waiting


@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u65-512", "ethos-u85-256"])
@pytest.mark.parametrize("model", [SAMPLE, *wake_words()[:1]], ids=lambda path: path.stem)
def test_a_calibrated_estimate_keeps_the_compilers_beside_it(model: Path, name: str) -> None:
    target = load_target(name)
    _, own = run(model.read_bytes(), target)
    _, calibrated = run(model.read_bytes(), target, Estimator.CALIBRATED)
    assert own.calibration is None
    assert calibrated.calibration is not None
    assert calibrated.vela_total_cycles == own.vela_total_cycles == own.total_cycles
    assert calibrated.total_cycles != own.total_cycles
    assert (own.source.by, calibrated.source.by) == ("Vela", "calibrated Vela")
    sums = [sum(cost.total_cycles or 0 for cost in found.operators) for found in (own, calibrated)]
    assert calibrated.total_cycles == pytest.approx(sums[1], abs=len(calibrated.operators))
    for theirs, ours in zip(own.operators, calibrated.operators, strict=True):
        assert theirs.vela_total_cycles == ours.vela_total_cycles == theirs.total_cycles
        assert (ours.npu_cycles or 0) <= (ours.total_cycles or 0)
        assert [step.vela_total_cycles for step in ours.steps] == [step.total_cycles for step in theirs.steps]
    assert replace(calibrated, operators=(), calibration=None).memory == own.memory


def test_what_nothing_was_measured_of_is_told(shared: Path) -> None:
    _, lstm = run((shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes(), U85, Estimator.CALIBRATED)
    _, sample = run(SAMPLE.read_bytes(), U55, Estimator.CALIBRATED)
    assert lstm.calibration is not None
    assert sample.calibration is not None
    assert "LSTM" in lstm.calibration.not_measured
    assert sample.calibration.not_measured == ()


def test_an_estimator_that_there_is_not_is_refused() -> None:
    with pytest.raises(BackendError, match="no estimator 'guess': choose from calibrated, vela"):
        vela("guess", 60)

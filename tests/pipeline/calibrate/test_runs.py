"""What is read from tables of runs and from logs."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlia.errors import MeasurementError
from mlia.pipeline.calibrate.measured_runs import MeasuredRun, cycles_of_log, read_runs

# As Arm's ML embedded evaluation kit prints it (documentation of its use cases); the figures are its examples.
KIT = """INFO - Running inference on audio clip 0 => down.wav
INFO - Final results:
INFO - Profile for Inference:
INFO - NPU AXI0_RD_DATA_BEAT_RECEIVED beats: 217385
INFO - NPU ACTIVE cycles: 680611
INFO - NPU IDLE cycles: 561
INFO - NPU TOTAL cycles: 681172
"""
# As ExecuTorch's runner prints it, with the fourth counter counting idle cycles.
EXECUTORCH = """I [executorch:arm_perf_monitor.cpp:167] Ethos-U PMU report:
I [executorch:arm_perf_monitor.cpp:168] ethosu_pmu_cycle_cntr : 5920305
I [executorch:arm_perf_monitor.cpp:171] ethosu_pmu_cntr0 : 359921
I [executorch:arm_perf_monitor.cpp:171] ethosu_pmu_cntr1 : 0
I [executorch:arm_perf_monitor.cpp:171] ethosu_pmu_cntr2 : 0
I [executorch:arm_perf_monitor.cpp:171] ethosu_pmu_cntr3 : 503
I [executorch:arm_perf_monitor.cpp:178] Ethos-U PMU Events:[ETHOSU_PMU_EXT0_RD_DATA_BEAT_RECEIVED, """ + (
    "ETHOSU_PMU_EXT1_RD_DATA_BEAT_RECEIVED, ETHOSU_PMU_EXT0_WR_DATA_BEAT_WRITTEN, ETHOSU_PMU_NPU_IDLE]\n"
)


@pytest.mark.parametrize(
    ("text", "cycles"),
    [
        (KIT, 680_611),
        (KIT.replace("ACTIVE cycles: 680611", "ACTIVE: 680611 cycles"), 680_611),
        (KIT.replace("INFO - NPU ACTIVE cycles: 680611\n", ""), 681_172 - 561),
        (KIT + KIT.replace("680611", "680701") + KIT.replace("680611", "990000"), 680_701),
        (EXECUTORCH, 5_920_305 - 503),
        ("Ethos-U PMU report:\nethosu_pmu_cycle_cntr : 134869\nethosu_pmu_cntr0 : 133577\n", 134_869),
        ("ethosu_pmu_cycle_cntr : 495106 (247553.00 per inference)\n", 247_553),
        ("INFO - NPU ACTIVE cycles: 1,812,600\n", 1_812_600),
        ("ethosu_pmu_cntr0 : 1\nethosu_pmu_cycle_cntr : 777 cycles\n", 777),
    ],
)
def test_logs(text: str, cycles: int, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(text)
    assert cycles_of_log(str(log)) == cycles
    assert read_runs(f"net=1.tflite={log}") == (MeasuredRun("net=1.tflite", cycles, None, str(log)),)


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "fvp.log").write_text(KIT)
    (tmp_path / "near.tflite").write_bytes(b"")
    table = tmp_path / "runs.csv"
    table.write_text(
        "Model, cycles ,ms,log,board\nnear.tflite,1_000,,,A\nfar.tflite,,0.25,,\n\nfar.tflite,,,fvp.log,\n"
    )
    near = str(tmp_path / "near.tflite")
    assert read_runs(str(table)) == (
        MeasuredRun(near, 1000.0, None, f"{table}, run 1"),
        MeasuredRun("far.tflite", None, 0.25, f"{table}, run 2"),
        MeasuredRun("far.tflite", 680_611, None, f"{table}, run 3"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must name the columns model, and one of cycles, ms or log"),
        ("name,cycles\na,1\n", "the first line must name the columns"),
        ("model,cycles\n", "has no runs below its first line"),
        ("model,cycles\n,5\n", "run 1: no model is named"),
        ("model,cycles,ms\na,5,5\n", "run 1: give one of cycles, ms or log, and not 2 of them"),
        ("model,cycles\na,\n", "and not 0 of them"),
        ("model,cycles\na,many\n", "'many' is no number above zero"),
        ("model,cycles\na,-5\n", "'-5' is no number above zero"),
        ("model,cycles\na,812,600\n", "more figures than columns; a number has no commas here"),
        ("model,cycles,cycles\na,5,6\n", "two columns have the same name"),
        ("model,cycles\na\0b,5\n", "no model is named|is no table"),
        ("model,ms\na,nan\n", "'nan' is no number above zero"),
        ("model,ms\na,inf\n", "'inf' is no number above zero"),
        ("model,log\na,missing.log\n", "cannot read missing.log"),
        (KIT, "is a log, which does not say which model ran"),
    ],
)
def test_what_is_no_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text(text)
    with pytest.raises(MeasurementError, match=message):
        read_runs(str(table))


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "bad.log"
    for text, message in (
        ("nothing\n", "has neither 'NPU ACTIVE cycles' nor 'ethosu_pmu_cycle_cntr'"),
        ("NPU ACTIVE cycles: 0\n", "in which the NPU was never active"),
        ("NPU ACTIVE cycles: 500\nNPU ACTIVE cycles: 0\n", "in which the NPU was never active"),
        (f"NPU ACTIVE cycles: {'9' * 400}\n", "is no number of cycles"),
        (f"NPU ACTIVE cycles: {'9' * 5000}\n", "is no number of cycles"),
        ("ethosu_pmu_cycle_cntr : 100000 (1.2.3 per inference)\n", "'1.2.3' is no number of cycles"),
        ("NPU TOTAL cycles: 5\nNPU TOTAL cycles: 6\nNPU IDLE cycles: 1\n", "NPU TOTAL 2 times and NPU IDLE 1 times"),
    ):
        log.write_text(text)
        with pytest.raises(MeasurementError, match=message):
            read_runs(f"a.tflite={log}")
    (tmp_path / "binary.log").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MeasurementError, match="it is not text"):
        read_runs(f"a.tflite={tmp_path / 'binary.log'}")


@given(value=st.text("0123456789.,_ e-()", max_size=30))
def test_no_digits_are_more_than_an_error(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("runs") / "run.log"
    path.write_text(f"NPU ACTIVE cycles: {value}\nethosu_pmu_cycle_cntr : {value} ({value} per inference)\n")
    with suppress(MeasurementError):
        assert read_runs(f"m={path}")


@pytest.mark.long
@given(text=st.text(max_size=300))
def test_no_text_is_more_than_an_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    path.write_text(text, encoding="utf-8", errors="replace")
    for given_as in (str(path), f"m={path}"):
        with suppress(MeasurementError):
            assert read_runs(given_as)

"""One of several targets that does not take the model: the others report, and the exit code is 2."""

import json
from pathlib import Path

import pytest
from conftest import SAMPLE

import mlia
from mlia.cli.main import main
from mlia.cpu_results import CpuPerformance
from mlia.errors import BackendError, TargetError
from mlia.graph.graph import Graph, Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.results import Performance, Skipped
from mlia.testing import IntegerSketch

TARGETS = ("ethos-u55-128", "ethos-u85-256", "cortex-m55")
KILLED = "Vela crashed (SIGSEGV) on this model, which may be damaged or beyond what it can take"


def quantize_alone() -> Graph:
    """int32 -> int16: Vela 5.2 leaves it to the CPU of an Ethos-U55, and dies of it for an Ethos-U85."""
    net = IntegerSketch("quantize alone")
    x = net.input("in", (1, 2, 160, 2), "int32", Quantization((0.001,), (0,)))
    made = net.operator(
        "QUANTIZE", [x], net.shape(x), "out", dtype="int16", quantization=net.Q, options_table="QuantizeOptions"
    )
    return read_tflite(write_tflite(net.graph([made])))


@pytest.fixture
def killing(tmp_path: Path) -> str:
    file = tmp_path / "killing.tflite"
    file.write_bytes(quantize_alone().content)
    return str(file)


def test_the_others_report() -> None:
    report = mlia.check(quantize_alone(), TARGETS)
    assert [entry.target.name for entry in report.targets] == [*TARGETS]
    assert [entry.refusal for entry in report.targets] == ["", KILLED, ""]
    first, refused, last = (entry.results[0] for entry in report.targets)
    assert isinstance(first.performance, Performance)
    assert refused.compatibility == Skipped("compatibility", KILLED)
    assert refused.performance == Skipped("performance", KILLED)
    assert isinstance(last.performance, CpuPerformance)
    assert report == mlia.check(quantize_alone(), TARGETS)


def test_the_command_line(killing: str, capsys: pytest.CaptureFixture[str]) -> None:
    several = [word for name in TARGETS for word in ("-t", name)]
    assert main(["check", killing, *several, "--format", "json", "--fail-on", "warning"]) == 2
    told = capsys.readouterr()
    assert told.err == f"mlia: error: ethos-u85-256: {KILLED}\n"
    assert [bool(entry["refusal"]) for entry in json.loads(told.out)["targets"]] == [False, True, False]


def test_one_target_is_an_error_as_ever(killing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", killing, "-t", "ethos-u85-256", "--no-try"]) == 2
    assert capsys.readouterr() == ("", f"mlia: error: {KILLED}\n")


def test_so_are_several_that_all_refuse() -> None:
    with pytest.raises(BackendError, match=r"^Vela crashed"):
        mlia.check(quantize_alone(), ("ethos-u85-256", "ethos-u85-512"))


def test_limits_are_missed_there(killing: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    several = [word for name in TARGETS[1:] for word in ("-t", name)]
    limit = ["--max-latency-ms", "5", "--format", "json", "-o", str(file)]
    assert main(["check", killing, *several, *limit]) == 2
    missed, kept = json.loads(file.read_text())["budgets"]
    assert (missed["is_kept"], missed["reason"], kept["is_kept"]) == (False, KILLED, True)
    # A baseline that says nothing of any target but one that it could not check either.
    again = ["--max-regression-percent", "5", "--baseline", str(file), "--format", "json", "-o", str(file)]
    assert main(["check", killing, *several, *again]) == 2
    told = {each["target"]: each for each in json.loads(file.read_text())["budgets"]}
    assert told["cortex-m55"]["is_kept"]
    assert KILLED in told["ethos-u85-256"]["reason"]


def test_a_comparison_leaves_it_out(killing: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = mlia.compare(killing, SAMPLE, TARGETS[1:])
    assert [entry.target.name for entry in found.targets] == ["cortex-m55"]
    assert found.refused_targets == (Skipped("ethos-u85-256", f"{killing}: {KILLED}"),)
    assert not found.missing_targets
    several = [word for name in TARGETS[1:] for word in ("-t", name)]
    for form in ("terminal", "json", "markdown", "html"):
        assert main(["compare", killing, str(SAMPLE), *several, "--format", form]) == 2
        told = capsys.readouterr()
        assert told.err == f"mlia: error: ethos-u85-256: {killing}: {KILLED}\n"
        assert "Vela crashed" in " ".join(told.out.split()).replace("\\", "")


def test_nothing_is_left_to_compare(killing: str, tmp_path: Path) -> None:
    report = mlia.check(quantize_alone(), TARGETS[1:])
    with pytest.raises(TargetError, match=r"nothing to compare: ethos-u85-256, quantize alone: Vela crashed"):
        mlia.compare(report, SAMPLE, "ethos-u85-256")

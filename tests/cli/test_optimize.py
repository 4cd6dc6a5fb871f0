import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import ROOT

from mlia.graph.tflite import read_tflite
from mlia.recipe import MOST_STEPS
from mlia.render.json import json_schema
from mlia.transforms.constants import stored

MLIA = Path(sys.executable).with_name("mlia")
FLOAT = ROOT / "examples/ds_cnn_small_float.tflite"
INTEGER = ROOT / "examples/ds_cnn_small_int8.tflite"
STUCK_S = 300.0  # when a command that waits for something is ended, so that a defect costs a test and not the gate
BOTH = ("--pruning", "--pruning-target", "0.6", "--clustering", "--clustering-target", "16")


def mlia(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MLIA, *arguments], capture_output=True, text=True, timeout=300, cwd=folder)


def interrupted(command: Sequence[str | Path], when: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, stdout and last words of a command that is interrupted when it says that it does `when`.

    It says so only if a person watches, so its stderr is a terminal.
    """
    watching, shown = pty.openpty()
    told, output = "", folder.with_suffix(".stdout")
    with open(watching, "rb", buffering=0) as terminal, output.open("w") as stdout:
        # Whoever is started in the background ignores interrupts, and so do all that it starts.
        ours = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(command, stdout=stdout, stderr=shown, cwd=folder, start_new_session=True)
        finally:
            signal.signal(signal.SIGINT, ours)
            os.close(shown)
        with process:
            stuck = threading.Timer(STUCK_S, os.killpg, (process.pid, signal.SIGKILL))
            stuck.start()
            try:
                while text := read_terminal(terminal):
                    before, told = told, told + text
                    if re.search(when, told) and not re.search(when, before):
                        os.killpg(process.pid, signal.SIGINT)
                process.wait()
            finally:
                stuck.cancel()
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    assert re.search(when, told), told
    return process.returncode, output.read_text(), told.rsplit("\r\x1b[K", 1)[-1].strip()


def read_terminal(terminal: FileIO) -> str:
    """What comes next, or nothing when nobody can write to it any more, which Linux calls an error."""
    try:
        return terminal.read(1 << 16).decode()
    except OSError:
        return ""


def cycles_of(path: Path, folder: Path) -> int:
    done = mlia("check", path, "-t", "ethos-u55-256", "--format", "json", folder=folder)
    found = json.loads(done.stdout)["targets"][0]["results"][0]["performance"]["total_cycles"]
    assert isinstance(found, int)
    return found


@pytest.mark.parametrize("model", [FLOAT, INTEGER], ids=["float", "int8"])
def test_the_gain_is_what_two_checks_say(model: Path, tmp_path: Path) -> None:
    done = mlia("optimize", model, "--target-profile", "ethos-u55-256", *BOTH, "--format", "json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    jsonschema.validate(report, json_schema("optimize"))
    written = tmp_path / f"{model.stem}_optimized.tflite"
    (comparison,) = report["comparisons"]
    assert comparison["before"]["total_cycles"] == cycles_of(model, tmp_path)
    assert comparison["after"]["total_cycles"] == cycles_of(written, tmp_path)
    assert comparison["gain"] == comparison["before"]["total_cycles"] / comparison["after"]["total_cycles"]
    assert comparison["after"]["compressed_weights_bytes"] < 0.6 * comparison["before"]["compressed_weights_bytes"]
    graph = read_tflite(written.read_bytes())
    for operator in graph.operators:
        if operator.kind in ("CONV_2D", "FULLY_CONNECTED"):
            codes = stored(graph.main.tensors[operator.inputs[1]])
            assert len(np.unique(codes)) <= 16
            assert operator.index == 0 or (codes == 0).mean() >= 0.6
    assert (report["fidelity_before"] is None) == (model == INTEGER)


def test_the_saved_recipe_makes_the_same_model(tmp_path: Path) -> None:
    options = (*BOTH, "--layer", "dense:pruning=off", "-o", "first.tflite")
    first = mlia("optimize", FLOAT, "-t", "ethos-u55-256", *options, "--format", "json", folder=tmp_path)
    assert first.returncode == 0
    recipe = ("--recipe", "first.recipe.toml", "-o", "again.tflite")
    again = mlia("optimize", FLOAT, "-t", "ethos-u55-256", *recipe, "--format", "json", folder=tmp_path)
    assert (tmp_path / "first.tflite").read_bytes() == (tmp_path / "again.tflite").read_bytes()
    assert first.stdout == again.stdout


def test_several_targets_and_a_report_for_people(tmp_path: Path) -> None:
    targets = ("-t", "ethos-u55-128", "-t", "ethos-u85-256")
    done = mlia("optimize", FLOAT, *targets, "--clustering", "--report", "report.txt", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "report.txt").read_text()
    for line in (
        "recipe      --clustering --clustering-target 16",
        "Target ethos-u55-128 (estimated by calibrated Vela 5.2.0, -14..+16 %)",
        "Target ethos-u85-256 (estimated by calibrated Vela 5.2.0, ",
        "no gain in time worth having; the NPU computed in",
        "Closeness to the float model, 64 held-out samples, synthetic calibration",
        "Tried as well on ethos-u55-128, because the recipe gains no time",
        "noise is no data",
    ):
        assert line in text


def test_labels_give_accuracies(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", mfcc=random.normal(size=(40, 49, 10, 1)), labels=random.integers(0, 12, 40))
    options = ("--clustering-target", "64", "--calibration", "data.npz")
    done = mlia("optimize", FLOAT, "-t", "ethos-u55-128", *options, folder=tmp_path)
    assert done.returncode == 0
    assert "accuracy %" in done.stdout
    assert "synthetic" not in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "say what to do"),
        (("--pruning-target", "1.5"), "above 0 and below 1; 1.5 is not"),
        (("--clustering-target", "1"), "from 2 to 255; 1 is not"),
        (("--pruning-pattern", "2:4", "--pruning-target", "0.6"), "prunes exactly half"),
        (("--channels", "most"), "neither a share"),
        (("--channels", "0"), "above 0 and below 1"),
        (("--channels-multiple", "8"), "goes with --channels"),
        (("--allow", "approximate"), "goes with --rewrite"),
        (("--finetune", "0"), "fine-tuning steps"),
        (("--pruning", "--layer", "nowhere:pruning=0.2"), "'nowhere' is found in no operator"),
        (("--pruning", "--layer", "dense"), "is not like PATTERN"),
        (("--pruning", "--layer", "(:pruning=0.2"), "not a regular expression"),
        (("--auto", "--pruning"), "leave out --pruning"),
        (("--auto", "--max-loss", "2"), "not a loss"),
        (("--auto", "--max-rel-error", "-1"), "above 0"),
        (("--auto", "--time-budget", "0"), "not a number of seconds"),
        (("--pruning", "--max-loss", "1%"), "goes with --auto"),
        (("--recipe", "none.toml"), "cannot read the recipe"),
        (("--recipe", "none.toml", "--pruning"), "leave out --pruning"),
        (("--pruning", "--calibration", "none.npz"), "cannot read the samples none.npz"),
        (("--pruning", "--calibration", "wrong.npz"), "and the model takes"),
        (("--pruning", "-o", "nowhere/model.tflite"), "there is no folder"),
        (("--pruning", "-o", "."), "it is a folder"),
        (("--pruning", "--report", "nowhere/report.txt"), "there is no folder"),
        (("--pruning", "-o", str(FLOAT)), "it is the model"),
        (("--pruning", "-o", "x.tflite", "--report", "x.tflite"), "is written there"),
        (("--pruning", "-o", "x.tflite", "--report", "x.recipe.toml"), "is written there"),
        (("--pruning", "--calibration", "wrong.npz", "-o", "wrong.npz"), "it is read"),
        (("--no-compensation",), "asks for nothing"),
        (("--pruning", "--layer", "dense:pruning=0"), "above 0 and below 1"),
    ],
)
def test_wrong_options_cost_one_line(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", x=np.zeros((10, 5, 5, 1)))
    done = mlia("optimize", FLOAT, "-t", "ethos-u55-256", *options, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.npz"]


@pytest.mark.parametrize("content", [b"", b"TFL3", FLOAT.read_bytes()[:3000], b"\x00" * 64])
def test_damaged_models_cost_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(content)
    done = mlia("optimize", "model.tflite", "-t", "ethos-u55-256", "--pruning", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]


def test_a_recipe_is_not_written_over_itself(tmp_path: Path) -> None:
    text = "# mine\n[clustering]\ntarget = 64\n"
    (tmp_path / "mine.recipe.toml").write_text(text)
    options = ("--recipe", "mine.recipe.toml", "-o", "mine.tflite")
    done = mlia("optimize", INTEGER, "-t", "ethos-u55-256", *options, folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "mine.recipe.toml").read_text() == text


def test_an_interrupt_does_not_wait_for_fine_tuning(tmp_path: Path) -> None:
    command = [MLIA, "optimize", FLOAT, "-t", "ethos-u55-256", "--clustering", "--finetune", str(MOST_STEPS)]
    assert interrupted(command, "fine-tuning", tmp_path) == (130, "", "mlia: interrupted")
    assert not list(tmp_path.iterdir())


def test_compiled_models_are_sent_back(shared: Path, tmp_path: Path) -> None:
    compiled = shared / "tflite_micro/person_detect_vela.tflite"
    done = mlia("optimize", compiled, "-t", "ethos-u55-256", "--pruning", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("mlia: error: the model is already compiled by Vela; give the model it was compiled from\n")


def test_an_interrupted_search_writes_the_best_so_far(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", np.random.default_rng(0).normal(size=(400, 49, 10, 1)))
    command = [
        MLIA,
        "optimize",
        FLOAT,
        "-t",
        "ethos-u55-256",
        "--auto",
        "--calibration",
        "data.npz",
        "--format",
        "json",
    ]
    code, output, errors = interrupted(command, r"[1-9]\d* recipes tried", tmp_path)
    assert (code, errors) == (0, "")
    report = json.loads(output)
    assert any("interrupted" in note for note in report["notes"])
    assert (tmp_path / "ds_cnn_small_float_optimized.tflite").stat().st_size == report["optimized"]["size_bytes"]

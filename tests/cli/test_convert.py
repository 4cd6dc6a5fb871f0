import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch

MLIA = Path(sys.executable).with_name("mlia")


def mlia(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MLIA, *arguments], capture_output=True, text=True, timeout=600)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = Sketch("small")
    x = net.convolution(net.input("image", (1, 8, 8, 3)), filters=8, kernel=(3, 3), name="conv")
    x = net.reshape(x, (1, 512), name="flatten")
    path = tmp_path / "model.tflite"
    path.write_bytes(write_tflite(net.graph([net.fully_connected(x, units=4, name="dense")])))
    return path


def test_convert_writes_a_model_and_says_how_close_it_is(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.tflite"
    done = mlia("convert", model, "-o", target)
    assert (done.returncode, done.stderr) == (0, "")
    assert "synthetic (64 seeded samples)" in done.stdout
    assert "Closeness to the float model, 64 held-out samples, synthetic calibration" in done.stdout
    assert not read_tflite(target.read_bytes()).computes_in_float


def test_every_tensor_the_worst_first(model: Path, tmp_path: Path) -> None:
    done = mlia("convert", model, "-o", tmp_path / "int8.tflite", "--verbose")
    table = done.stdout.partition("Every tensor, the worst first\n")[2].splitlines()[1:]
    errors = [float(line.split()[1]) for line in table]
    assert len(errors) == 3
    assert errors == sorted(errors, reverse=True)


def test_int16_and_real_data(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(20, 8, 8, 3)))
    target = tmp_path / "int16.tflite"
    done = mlia(
        "convert", model, "-o", target, "--quantize", "int16", "--calibration", tmp_path / "data.npz", "--per-tensor-fc"
    )
    assert "synthetic" not in done.stdout
    assert "inputs and outputs int16" in done.stdout
    assert "fully connected per tensor" in done.stdout
    graph = read_tflite(target.read_bytes())
    assert graph.main.tensors[graph.main.inputs[0]].dtype == "int16"


def test_check_says_first_what_was_done(model: Path) -> None:
    lines = mlia("check", model, "-t", "ethos-u55-128").stdout.splitlines()
    assert " ".join(lines[1:4]).split()[:7] == ["As", "it", "is,", "nothing", "of", "this", "file"]
    assert lines[3].strip() == "What follows is about a copy quantized to int8."
    assert lines[4].split() == ["source", "TFLite,", "read", "as", "it", "is"]
    assert any("synthetic calibration" in line for line in lines[:11])
    plain = mlia("check", model, "-t", "ethos-u55-128", "--no-quantize").stdout
    assert "synthetic" not in plain.partition("\nAdvice")[0]
    assert "CMP001 float-model" in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibration", "missing.npz"], "missing.npz: No such file"),
        (["--input-shape", "1,9,9,3"], "is 1x8x8x3 and cannot be 1x9x9x3"),
        (["--input-shape", "1,x"], "is not a shape"),
        (["--input-shape", "1,-1"], "is not a shape"),
    ],
)
def test_bad_options_cost_one_line_and_write_nothing(
    model: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    target = tmp_path / "int8.tflite"
    done = mlia("convert", model, "-o", target, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line
    assert not target.exists()


def test_an_output_that_cannot_be_written(model: Path) -> None:
    done = mlia("convert", model, "-o", "/nonexistent/model.tflite")
    assert done.returncode == 2
    assert "cannot write /nonexistent/model.tflite" in done.stderr


def test_data_for_a_model_that_is_quantized_already_are_refused(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((10, 8, 8, 3)))
    mlia("convert", model, "-o", tmp_path / "int8.tflite")
    done = mlia("check", tmp_path / "int8.tflite", "-t", "ethos-u55-128", "--calibration", tmp_path / "data.npz")
    assert done.returncode == 2
    assert "quantized already" in done.stderr

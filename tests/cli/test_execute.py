"""`mlia verify`, `mlia run` and `mlia trace` as commands."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import SAMPLE

from mlia.cli.run import npz
from mlia.pipeline.verify.verify import prepare
from mlia.render.json import json_schema

NAMES = ["file", "self", "args", "a/b:0", "model/dense;x", "é 名", "..", "/"]
MLIA = Path(sys.executable).with_name("mlia")


def mlia(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MLIA, *arguments], capture_output=True, text=True, env=os.environ, timeout=600)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "in.npz"
    np.savez(path, mfcc=np.random.default_rng(0).integers(-128, 128, (3, 1, 49, 10, 1)).astype(np.int8))
    return path


def test_verify_says_that_all_is_the_same() -> None:
    done = mlia("verify", SAMPLE, "-t", "ethos-u55-256")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ds_cnn_small_int8.tflite: the NPU computes the same, bit by bit\n")
    assert "12 of 13 operators give exactly the reference's tensor" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_follows_the_schema_and_is_the_same_twice(samples: Path) -> None:
    first, second = (
        mlia("verify", SAMPLE, "-t", "ethos-u85-256", "--inputs", samples, "--format", "json") for _ in range(2)
    )
    assert first.stdout == second.stdout
    report = json.loads(first.stdout)
    jsonschema.validate(report, json_schema("verify"))
    assert report["samples"] == "3 of in.npz"
    assert report["outputs"][0]["outcome"] == "exact"


def test_a_model_for_another_npu_fails(tmp_path: Path) -> None:
    compiled = tmp_path / "model_vela.tflite"
    compiled.write_bytes(bytes(prepare(SAMPLE, "ethos-u55-128").compiled.content))
    done = mlia("verify", compiled, "-t", "ethos-u55-256")
    assert done.returncode == 1
    assert "compiled for another NPU" in done.stdout
    assert "wrong NPU: compiled for ethos-u55-128, and ethos-u55-256 is" in done.stdout
    assert mlia("verify", compiled).returncode == 0
    for verb, *options in (("trace",), ("run", "--inputs", "x.npz", "-o", tmp_path / "out.npz")):
        refused = mlia(verb, compiled, "-t", "ethos-u55-256", *options)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "compiled for ethos-u55-128, and ethos-u55-256 is another" in refused.stderr


def test_run_writes_what_the_npu_computes(samples: Path, tmp_path: Path) -> None:
    outputs = []
    for number, target in enumerate(("ethos-u55-32", "ethos-u85-2048")):
        out = tmp_path / f"out{number}.npz"
        done = mlia("run", SAMPLE, "-t", target, "--inputs", samples, "-o", out)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with np.load(out) as arrays:
            outputs.append(arrays["labels"])
    assert outputs[0].shape == (3, 1, 12)
    assert (outputs[0] == outputs[1]).all()


def test_outputs_under_any_name_and_the_same_bytes_twice() -> None:
    arrays = {name: np.arange(6, dtype=np.int8).reshape(2, 3) + number for number, name in enumerate(NAMES)}
    content = npz(arrays)
    assert npz(arrays) == content
    with np.load(BytesIO(content)) as found:
        assert found.files == NAMES
        for name, array in arrays.items():
            assert found[name].dtype == np.int8
            assert (found[name] == array).all()


def test_run_does_not_overwrite_its_inputs(samples: Path) -> None:
    content = samples.read_bytes()
    done = mlia("run", SAMPLE, "-t", "ethos-u55-256", "--inputs", samples, "-o", samples)
    assert "it is the inputs" in one_line(done)
    assert samples.read_bytes() == content


def test_trace_names_commands_and_operators() -> None:
    done = mlia("trace", SAMPLE, "-t", "ethos-u55-256")
    assert done.returncode == 0
    assert "NPU_OP_CONV" in done.stdout
    assert "[operator 0, CONV_2D 'conv_1']" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].split()[1] == "NPU_OP_STOP"
    headings = [line for line in done.stdout.splitlines() if line.startswith("; ")][1:]  # the first is the NPU's
    unnamed = [line for line in headings if "[operator " not in line]
    assert unnamed == ["; end"]
    table = mlia("trace", SAMPLE, "-t", "ethos-u55-256", "--summary").stdout
    assert "2,656,768" in table  # the multiply-accumulates of the model
    assert "NPU_SET" not in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", SAMPLE], "name the target to compile it for"),
        (["verify", SAMPLE, "-t", "cortex-m55"], "has no NPU to simulate"),
        (["verify", SAMPLE, "-t", "ethos-u55-256", "--samples", "0"], "is not a number of samples"),
        (["verify", SAMPLE, "-t", "ethos-u55-256", "--seed", "-1"], "seed"),
        (["verify", SAMPLE, "-t", "ethos-u55-256", "--inputs", "no.npz"], "no.npz: No such file"),
        (["verify", SAMPLE, "-t", "ethos-u55-256", "--inputs", "x.npz", "--seed", "1"], "are for noise"),
        (["verify", SAMPLE, "-t", "ethos-u55-256", "--all-operators", "--format", "json"], "JSON has all operators"),
        (["verify", "missing.tflite", "-t", "ethos-u55-256"], "missing.tflite"),
        (["run", SAMPLE, "-t", "ethos-u55-256", "--inputs", "x.npz", "-o", "/nowhere/x.npz"], "there is no folder"),
        (["run", SAMPLE, "-t", "ethos-u55-256", "--inputs", "x.npz", "-o", SAMPLE], "it is the model"),
        (["trace", SAMPLE], "name the target"),
    ],
)
def test_what_is_refused(arguments: list[str | Path], message: str) -> None:
    assert message in one_line(mlia(*arguments))


@pytest.mark.long
def test_a_stream_that_is_damaged_costs_one_line(tmp_path: Path) -> None:
    content = bytearray(prepare(SAMPLE, "ethos-u55-128").compiled.content)
    at = content.index(b"COP1")
    for position in range(at + 40, at + 400, 24):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path = tmp_path / "damaged.tflite"
        path.write_bytes(bytes(damaged))
        for verb in ("verify", "trace"):
            done = mlia(verb, path)
            assert "Traceback" not in done.stderr
            assert done.returncode in (0, 1, 2)
            if done.returncode == 2:
                one_line(done)

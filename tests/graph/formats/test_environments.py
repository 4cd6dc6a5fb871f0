import os
import select
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import msgspec
import pytest

from mlia.errors import BackendError, BackendUnavailable, ModelError
from mlia.graph.formats import environments as module
from mlia.graph.formats.environments import (
    Environment,
    Installed,
    convert,
    environment,
    folder,
    install,
    locate,
    lock_of,
    state,
)
from mlia.graph.graph import Graph
from mlia.graph.tflite_writer import write_tflite
from mlia.lifeline import Dependent
from mlia.testing import Sketch

ANY = ((3, 8), (3, 99))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment that is really made and marked, but has only a python."""
    wanted = Environment("onnx", "ONNX models", ("onnx2tf==2.6.9",), ANY, 1)
    monkeypatch.setattr(module, "_ENVIRONMENTS", (wanted,))
    place = folder("onnx")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    mark = Installed(wanted.requirements, "3.12", 1)
    (place / "mlia.json").write_bytes(msgspec.json.encode(mark))
    return wanted


def converted(tmp_path: Path, code: str, timeout_s: float = 60) -> Graph:
    """What a converter with that code leads to."""
    script = tmp_path / "converter.py"
    script.write_text("import json, os, sys\nrequest = json.loads(sys.argv[1])\n" + code)
    return convert("onnx", script, {"model": "m"}, "ONNX", timeout_s)


def refusal(tmp_path: Path, code: str, timeout_s: float = 60) -> str:
    with pytest.raises(ModelError) as caught:
        converted(tmp_path, code, timeout_s)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_not_installed_says_how_to_install() -> None:
    with pytest.raises(BackendUnavailable, match=r"ONNX models need .* `mlia backend install onnx` \(about 660 MB\)"):
        locate("onnx")
    assert state("torch") == ("not installed", None)


def test_unknown_name() -> None:
    with pytest.raises(BackendUnavailable, match="no environment 'tosa'; there are onnx, torch, savedmodel"):
        locate("tosa")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MLIA_HOME": "/a"}, "/a/environments/onnx"),
        ({"XDG_DATA_HOME": "/b", "MLIA_HOME": ""}, "/b/mlia/environments/onnx"),
        ({"XDG_DATA_HOME": "", "MLIA_HOME": "", "HOME": "/c"}, "/c/.local/share/mlia/environments/onnx"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
def test_where_it_is(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert folder("onnx") == Path(expected)


def test_a_half_made_one_does_not_count(empty: Environment) -> None:
    assert locate("onnx").is_file()
    (folder("onnx") / "mlia.json").write_bytes(b"{")
    assert state("onnx") == ("not installed", None)
    (folder("onnx") / "mlia.json").unlink()
    with pytest.raises(BackendUnavailable):
        locate("onnx")


def test_changed_requirements_make_it_outdated(empty: Environment) -> None:
    mark = Installed(("onnx2tf==2.6.0",), "3.12", 1)
    (folder("onnx") / "mlia.json").write_bytes(msgspec.json.encode(mark))
    assert state("onnx") == ("outdated", mark)
    with pytest.raises(BackendUnavailable, match=r"from another version of mlia: run `mlia backend install onnx`"):
        locate("onnx")


def test_an_interpreter_must_really_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python3.14", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3.12").write_text('#!/bin/sh\necho "3 12"\n')
    (tmp_path / "python3.12").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.14"))
    assert module.find_interpreter(environment("onnx")) == tmp_path / "python3.12"
    (tmp_path / "python3.12").write_text('#!/bin/sh\necho "3 9"\n')
    with pytest.raises(BackendUnavailable, match=r"needs Python 3.12 to 3.14, and none is on the PATH, nor known to"):
        install("onnx")


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("PYENV_ROOT", "versions/3.13.1/bin"),
        ("UV_PYTHON_INSTALL_DIR", "cpython-3.13.1-linux/bin"),
        ("HOME", ".pyenv/versions/3.13.1/bin"),
        ("HOME", ".local/share/uv/python/cpython-3.13.1-linux/bin"),
    ],
)
def test_an_interpreter_of_pyenv_or_uv(
    variable: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYENV_ROOT", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    (tmp_path / place).mkdir(parents=True)
    python = tmp_path / place / "python3.13"
    python.write_text('#!/bin/sh\necho "3 13"\n')
    python.chmod(0o755)
    assert module.find_interpreter(environment("onnx")) == python


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of ours, built by nobody, and all that pip finds: a wheel is a zip archive."""
    path = tmp_path / "tiny_converter-1.0-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        archive.writestr("tiny_converter.py", "ANSWER = 42\n")
        about = "tiny_converter-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-converter\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setattr(module, "_LOCKS", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(module, "_ENVIRONMENTS", (Environment("onnx", "ONNX models", ("tiny-converter",), ANY, 1),))
    return path


def test_a_failed_installation_leaves_the_log_and_nothing_else(wheel: Path, own_home: Path) -> None:
    lock_of("onnx").write_text(f"mlia-no-such-package==0.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(BackendError, match=r"the installation failed: .*mlia-no-such-package") as caught:
        install("onnx")
    assert "\n" not in str(caught.value)
    assert os.listdir(own_home / "environments") == ["onnx.log"]


def test_a_package_that_is_not_the_locked_one_is_refused(wheel: Path, own_home: Path) -> None:
    lock_of("onnx").write_text(f"tiny-converter==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(BackendError, match=r"the installation failed: .*[0-9a-f]{64}"):
        install("onnx")
    assert os.listdir(own_home / "environments") == ["onnx.log"]


def test_install_replaces_an_outdated_one(empty: Environment, wheel: Path) -> None:
    lock_of("onnx").write_text(f"tiny-converter==1.0 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n")
    assert state("onnx")[0] == "outdated"
    said: list[str] = []
    python = install("onnx", said.append)
    assert locate("onnx") == python
    assert state("onnx")[0] == "installed"
    done = subprocess.run([python, "-I", "-c", "import tiny_converter as t; print(t.ANSWER)"], capture_output=True)
    assert done.stdout.split() == [b"42"]
    assert said[1:] == [
        "installing tiny-converter (about 1 MB)",
        "fetching package 1, tiny_converter-1.0-py3-none-any.whl",
        "unpacking 1 packages",
    ]
    assert sorted(os.listdir(folder("onnx").parent)) == ["onnx", "onnx.log"]


def test_a_conversion(empty: Environment, tmp_path: Path) -> None:
    net = Sketch("tiny")
    x = net.input("image", (1, 8, 8, 3))
    x = net.reshape(net.convolution(x, filters=4, name="odd;name"), (1, 256))
    (tmp_path / "ready.tflite").write_bytes(write_tflite(net.graph([x])))
    graph = converted(
        tmp_path,
        f"""
import shutil
shutil.copy({str(tmp_path / "ready.tflite")!r}, request["output"])
answer = {{"converter": "stand-in 1", "source": {{}}, "notes": ["input image: NCHW -> NHWC"]}}
print("noise", file=sys.stderr)
print(json.dumps(answer | {{"names": {{"odd;name": "conv1", "image": "reshape"}}}}))
""",
    )
    assert graph.provenance.format == "ONNX"
    assert graph.provenance.route == "stand-in 1"
    assert graph.provenance.added == ("1 RESHAPE", "input image: NCHW -> NHWC")
    assert [graph.main.operator_name(each) for each in graph.operators] == ["conv1", "reshape"]
    assert graph.main.tensors[graph.main.inputs[0]].name == "image"  # "reshape" is taken


def test_a_refusal_is_told(empty: Environment, tmp_path: Path) -> None:
    assert refusal(tmp_path, "print(json.dumps({'error': 'no\\nsuch operator'}))") == "no such operator"


def test_crashes_and_garbage(empty: Environment, tmp_path: Path) -> None:
    assert "crashed (SIGSEGV)" in refusal(tmp_path, "import signal; os.kill(os.getpid(), signal.SIGSEGV)")
    told = refusal(tmp_path, "raise ValueError('odd')")
    assert "failed (exit code 1)" in told
    assert "ValueError: odd" in told
    assert "answer cannot be read" in refusal(tmp_path, "print('hello')")
    assert "answer cannot be read" in refusal(tmp_path, "os.write(1, b'\\xff' * 10)")
    assert "answer cannot be read" in refusal(tmp_path, "print('[]')")
    assert "answer cannot be read" in refusal(tmp_path, "")
    assert "wrote no file" in refusal(tmp_path, "print('{}')")
    damaged = "open(request['output'], 'wb').write(b'....TFL3' + b'x' * 50); print('{}')"
    assert "wrote a file that is no model" in refusal(tmp_path, damaged)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a child's memory")
def test_memory_is_limited(empty: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY_LIMIT_BYTES", 1 << 30)
    code = """
import resource, time
while resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:  # the limit comes from outside
    time.sleep(0.01)
b = bytearray(2 << 30)
"""
    assert "MemoryError" in refusal(tmp_path, code)


def test_what_frameworks_keep_for_later_is_gone_afterwards(empty: Environment, tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        """
import tempfile
kept = [tempfile.mkdtemp(), os.path.join(os.environ["KERAS_HOME"], "keras.json")]
open(kept[1], "w").close()
print(json.dumps({"error": " ".join(kept)}))
""",
    )
    assert len(said.split()) == 2
    assert not any(os.path.exists(path) for path in said.split())


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_the_time_limit_ends_the_child_and_its_children(
    empty: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / "alive"  # a pipe that ends when nobody is left who holds it
    os.mkfifo(alive)
    survivor = "import os, sys, time; time.sleep(60); os.write(int(sys.argv[1]), b'survived')"
    code = f"""
import subprocess
alive = os.open({str(alive)!r}, os.O_WRONLY)
child = subprocess.Popen([sys.executable, "-c", {survivor!r}, str(alive)], pass_fds=[alive])
os.write(alive, b"both run")
child.wait()
"""
    with open(os.open(alive, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), True)

        class Begun(Dependent):
            """Its time begins when both processes run, however long that takes."""

            def wait(self, timeout: float | None = None) -> int:
                if timeout is not None and self.poll() is None:
                    assert select.select([pipe], [], [])[0]
                    assert pipe.read(8) == b"both run"
                return super().wait(timeout)

        monkeypatch.setattr(module, "Dependent", Begun)
        assert refusal(tmp_path, code, timeout_s=0.5) == "the converter did not finish within 0.5 s"
        assert pipe.read() == b""

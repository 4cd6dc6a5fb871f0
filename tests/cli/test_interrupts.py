"""Signals end the command: its exit code, one line, and nothing else. What is waited for are events, never a clock."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MLIA = Path(sys.executable).with_name("mlia")
SAMPLE = ROOT / "examples/ds_cnn_small_int8.tflite"
FLOAT = ROOT / "examples/ds_cnn_small_float.tflite"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")
SIGNALS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
SIGNALS += [(signal.SIGHUP, 129, "the terminal was closed")]


def begin(*words: object, folder: Path) -> subprocess.Popen[str]:
    """The command, with signals as a shell in the foreground leaves them."""
    defaults = (
        "import os, signal, sys; [signal.signal(each, signal.SIG_DFL) for each in (1, 2, 15)]; "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", defaults, *map(str, (MLIA, *words))]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=folder, start_new_session=True)


def wait_for_a_child(process: subprocess.Popen[str]) -> None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
        assert process.poll() is None, "it has had no child"


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
@pytest.mark.parametrize("verb", ["check", "verify", "optimize"])
def test_a_signal_ends_a_verb_at_its_work(number: int, code: int, word: str, verb: str, tmp_path: Path) -> None:
    options = ("--clustering", "--finetune", "5000") if verb == "optimize" else ()
    process = begin(verb, FLOAT if options else SAMPLE, "-t", "ethos-u55-256", *options, folder=tmp_path)
    wait_for_a_child(process)
    os.killpg(process.pid, number)
    output, errors = process.communicate()
    assert (process.returncode, output, errors) == (code, "", f"mlia: {word}\n")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_while_imports_go_on(tmp_path: Path) -> None:
    """The signal comes in the first import after the handler is there."""
    code = (
        "import os, signal, sys\n"
        "def stop(event, details):\n"
        "    if event == 'import' and details[0] == 'mlia.cli.main': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(stop)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import mlia.__main__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mlia: interrupted\n")


@pytest.mark.parametrize("place", ["__del__", "thread", "code that catches all"])
def test_an_interrupt_is_never_lost(place: str, tmp_path: Path) -> None:
    """Where an exception would be: in a destructor, behind a thread that goes on, and where all is caught."""
    bodies = {
        "__del__": "class A:\n    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\nA()\n",
        "thread": "threading.Thread(target=threading.Event().wait).start(); os.kill(os.getpid(), signal.SIGINT)\n",
        "code that catches all": "try: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass\n",
    }
    code = (
        "import os, signal, sys, threading\nfrom mlia import interrupts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"interrupts.end_on_signals(); interrupts.stand_by()\n{bodies[place]}print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mlia: interrupted\n")


def test_what_c_code_holds_up_is_ended() -> None:
    """No handler runs while the main thread waits in C, for a lock that nobody will release."""
    code = (
        "import ctypes, signal\nfrom mlia import interrupts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "interrupts.end_on_signals(); interrupts.stand_by()\n"
        "library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)\n"
        "library.pthread_mutex_lock(lock); print(flush=True); library.pthread_mutex_lock(lock)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "mlia: interrupted\n")


def test_a_written_report_is_whole_or_not_there(tmp_path: Path) -> None:
    """An interrupt that comes as the report is written does not cut it."""
    code = (
        "import os, signal, sys\nfrom mlia import interrupts, output\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "interrupts.end_on_signals()\n"
        "real = output.write_all\n"
        "def write_all(file, content):\n"
        "    real(file, content[:5]); os.kill(os.getpid(), signal.SIGINT); real(file, content[5:])\n"
        "output.write_all = write_all\n"
        "from mlia.cli.streams import write_output\n"
        "write_output('the whole report\\n', None)\n"
        "write_output('the whole report\\n', 'report.txt')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the whole report\n", "")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.txt", "the whole report\n")]


def test_an_interrupt_leaves_no_half_written_model(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom mlia import interrupts, output\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "interrupts.end_on_signals()\n"
        "output.write_all = lambda file, content: os.kill(os.getpid(), signal.SIGINT)\n"
        "output.write_file('model.tflite', b'content')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_an_error(unbuffered: str, tmp_path: Path) -> None:
    for words in (("check", SAMPLE, "-t", "ethos-u55-256", "--no-try"), ("--help",), ("check", "--help"), ("schema",)):
        with open("/dev/full", "w") as full:
            environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
            done = subprocess.run([MLIA, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
        assert done.returncode == 2
        assert done.stderr == "mlia: error: cannot write the report to stdout: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_file_that_may_not_grow_is_an_error(unbuffered: str, tmp_path: Path) -> None:
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", limited, MLIA, "check", SAMPLE, "-t", "ethos-u55-256", "--no-try"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with (tmp_path / "cut.txt").open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr == "mlia: error: cannot write the report to stdout: File too large\n"
    done = subprocess.run([*command, "-o", "report.txt"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "mlia: error: cannot write report.txt: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.txt"]


@pytest.mark.parametrize("allowed", [6, 8, 11, 14])  # with 4, Python itself cannot start everywhere
@pytest.mark.parametrize("verb", ["check", "verify"])
def test_too_few_descriptors_cost_one_line(verb: str, allowed: int) -> None:
    limited = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({allowed}, {allowed})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", limited, MLIA, verb, SAMPLE, "-t", "ethos-u55-256"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mlia: error: cannot go on: too few open files are allowed here (ulimit -n)\n"


def test_a_folder_that_is_gone_costs_one_line(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, MLIA, "optimize", SAMPLE, "-t", "ethos-u55-256", "--clustering"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mlia: error: cannot go on: the current folder does not exist any more\n"

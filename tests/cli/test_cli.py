import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE
from models import as_file, sandwich

from mlia.backends.vela.process import compile_model
from mlia.cli.main import VERBS
from mlia.targets.profiles import load_target
from mlia.targets.target import Target

MLIA = Path(sys.executable).with_name("mlia")

PROFILE = """
[npu]
family = "ethos-u55"
macs_per_cycle = 128
clock_mhz = 500
[host]
core = "cortex-m55"
clock_mhz = 500
[memory.sram]
bandwidth_gb_s = 4
read_latency_cycles = 32
[placement]
constants = "sram"
arena = "sram"
"""


def mlia(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [MLIA, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=600)


def test_check_prints_a_report_and_nothing_else() -> None:
    done = mlia("check", SAMPLE, "-t", "ethos-u55-256")
    assert (done.returncode, done.stderr) == (0, "")
    assert "13 of 13 operators (100.0 %)" in done.stdout
    assert "cycles (-14..+16 %), 0.102 ms of the NPU at 500 MHz" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("option", ["-t", "--target", "--target-profile"])
def test_names_of_the_target_option(option: str) -> None:
    done = mlia("check", SAMPLE, option, "ethos-u55-256", "--compatibility")
    assert done.returncode == 0
    assert "Compatibility" in done.stdout
    assert "Performance" not in done.stdout


def test_performance_alone() -> None:
    done = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--performance")
    assert "Compatibility" not in done.stdout
    assert "Performance" in done.stdout


def test_both_when_both_are_asked_for() -> None:
    both = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--performance", "--compatibility")
    assert both.stdout == mlia("check", SAMPLE, "-t", "ethos-u55-256").stdout


def test_several_targets_side_by_side() -> None:
    done = mlia("check", SAMPLE, "-t", "ethos-u55-128", "-t", "ethos-u65-512", "-t", "ethos-u85-256", "--width", "120")
    assert done.returncode == 0
    for name in ("ethos-u55-128", "ethos-u65-512", "ethos-u85-256"):
        assert f"\n  {name} " in done.stdout


def test_json_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    done = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--format", "json", "-o", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    report = json.loads(path.read_text())
    result = report["targets"][0]["results"][0]
    assert result["performance"]["total_cycles"] > 50_000
    assert result["performance"]["source"] == {"origin": "estimated", "by": "calibrated Vela", "version": "5.2.0"}
    assert result["performance"]["vela_total_cycles"] > result["performance"]["total_cycles"]
    assert result["performance"]["calibration"]["band_low"] < 1
    assert result["compatibility"]["source"]["by"] == "Vela"
    assert result["compatibility"]["npu_percent"] == 100.0
    assert list(tmp_path.iterdir()) == [path]


def test_the_compilers_own_estimate_can_be_asked_for() -> None:
    own = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--estimator", "vela").stdout
    assert "Performance (estimated by Vela 5.2.0)" in own
    assert "cycles, 0.117 ms of the NPU at 500 MHz" in own
    assert "calibrated" not in own
    wrong = mlia("check", SAMPLE, "-t", "cortex-m55", "--estimator", "vela")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--estimator vela is the compiler's, and a Cortex-M alone has no compiler" in wrong.stderr


def test_steps_unfold_an_operator() -> None:
    folded = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--performance").stdout
    unfolded = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--performance", "--steps").stdout
    assert "ReduceSum" not in folded
    assert "ReduceSum" in unfolded


def test_fail_on_warning(tmp_path: Path) -> None:
    model = tmp_path / "cut.tflite"
    model.write_bytes(as_file(sandwich("CUMSUM")))
    assert mlia("check", model, "-t", "ethos-u55-256").returncode == 0
    assert mlia("check", model, "-t", "ethos-u55-256", "--fail-on", "warning").returncode == 1
    assert mlia("check", SAMPLE, "-t", "ethos-u55-256", "--fail-on", "warning").returncode == 0


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr of a run that could not do its work."""
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "the file is empty"),
        (b"hello, world", "its format is not known"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x80\x04" + bytes(100), "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (SAMPLE.read_bytes()[:5000], "damaged"),
        (SAMPLE.read_bytes()[:8], "damaged"),
    ],
)
def test_a_bad_model_costs_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    model = tmp_path / "model.tflite"
    if content is not None:
        model.write_bytes(content)
    assert message in one_line(mlia("check", model, "-t", "ethos-u55-256"))


def test_a_folder_costs_one_line(tmp_path: Path) -> None:
    assert "folder" in one_line(mlia("check", tmp_path, "-t", "ethos-u55-256"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-t", "ethos-u55-257"], "choose from 32, 64, 128, 256"),
        (["-t", "nothing.toml"], "No such file"),
        ([], "required: -t/--target/--target-profile"),
        (["-t", "ethos-u55-256", "--format", "xml"], "invalid choice: 'xml'"),
        (["-t", "ethos-u55-256", "--width", "5"], "columns from 80 to 1000"),
        (["-t", "ethos-u55-256", "--width", "1e9"], "columns from 80 to 1000"),
        (["-t", "ethos-u55-256", "--timeout", "-1"], "seconds above 0"),
        (["-t", "ethos-u55-256", "--timeout", "nan"], "seconds above 0"),
        (["-t", "ethos-u55-256", "--timeout", "1e-9"], "did not finish within"),
        (["-t", "ethos-u55-256", "-o", "/nonexistent/report.txt"], "cannot write /nonexistent/report.txt"),
        (["-t", "ethos-u55-256", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_a_bad_option_costs_one_line(arguments: list[str], message: str) -> None:
    assert message in one_line(mlia("check", SAMPLE, *arguments))


@pytest.mark.parametrize(
    "arguments", [["check", "-t", "BAD"], ["check", "-t", "ethos-u55-256", "--budget", "BAD"],
                  ["optimize", "-t", "ethos-u55-256", "--recipe", "BAD"]]
)  # fmt: skip
def test_toml_that_is_no_text_costs_one_line(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b'name = "caf\xe9"\n')
    words = [str(tmp_path / "bad.toml") if word == "BAD" else word for word in arguments]
    assert one_line(mlia(words[0], SAMPLE, *words[1:])).endswith("it is not text in UTF-8")


def test_an_error_is_short_however_long_a_word_is() -> None:
    line = one_line(mlia("check", SAMPLE, "-t", "ethos-u55-256", "--width", "x" * 70_000))
    assert len(line) < 700
    assert line.startswith("mlia check: error: argument --width: ")
    assert line.endswith("; see mlia check --help")


def test_a_fix_that_cannot_be_costs_one_line(tmp_path: Path) -> None:
    target = load_target("ethos-u55-128")
    assert isinstance(target, Target)
    compiled = compile_model(as_file(sandwich("RELU")), target, 60).model
    (tmp_path / "compiled.tflite").write_bytes(compiled)
    fixed, report = tmp_path / "fixed.tflite", tmp_path / "report.json"
    words = ["-t", "ethos-u55-128", "--fix", fixed, "--format", "json", "-o", report]
    line = one_line(mlia("check", tmp_path / "compiled.tflite", *words))
    assert "fixed.tflite is not written: the model is already compiled by Vela" in line
    assert not fixed.exists()
    assert not report.exists()


def test_no_half_written_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    target = tmp_path / "folder"
    try:
        if os.access(tmp_path, os.W_OK):  # root may write anywhere: a folder in the way serves as well
            target.mkdir()
        one_line(mlia("check", SAMPLE, "-t", "ethos-u55-256", "-o", target))
        assert [path.name for path in tmp_path.iterdir()] in ([], ["folder"])
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(verb: str) -> None:
    done = mlia(verb, "--help")
    assert done.returncode == 0
    assert f"  mlia {verb}" in done.stdout
    assert "example" in done.stdout


def test_no_verb_and_a_wrong_verb() -> None:
    assert "VERB" in one_line(mlia())
    assert "invalid choice: 'chek'" in one_line(mlia("chek"))


def test_version() -> None:
    import mlia as package

    assert mlia("--version").stdout == f"mlia {package.__version__}\n"


def test_target_list_and_show() -> None:
    listed = mlia("target", "list")
    assert len(listed.stdout.splitlines()) == 18
    shown = mlia("target", "show", "ethos-u85-256")
    assert "Ethos_U85_SYS_DRAM_Low" in shown.stdout
    assert "256 GOP/s" in shown.stdout
    assert "no target 'nope'" in one_line(mlia("target", "show", "nope"))
    assert "needs the name" in one_line(mlia("target", "show"))
    assert "takes no target" in one_line(mlia("target", "list", "ethos-u55-256"))


def test_schema_is_the_published_one() -> None:
    assert mlia("schema").stdout == (ROOT / "docs/check.schema.json").read_text()


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"'{MLIA}' schema | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("{\n", "", 0)


def on_a_terminal(**environment: str) -> str:
    """The output of a check whose stdout and stderr are a terminal of 100 columns."""
    leader, follower = pty.openpty()
    environment = (
        {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | environment | {"COLUMNS": "100"}
    )
    child = subprocess.Popen(
        [MLIA, "check", SAMPLE, "-t", "ethos-u55-256"], stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    chunks = []
    try:
        while chunk := os.read(leader, 4096):
            chunks.append(chunk)
    except OSError:  # how Linux says that the other side is closed
        pass
    assert child.wait() == 0
    os.close(leader)
    return b"".join(chunks).decode()


def test_progress_and_color_are_for_terminals_only() -> None:
    text = on_a_terminal()
    assert "compiling ds_cnn_small_int8.tflite for ethos-u55-256" in text
    assert "\x1b[1m" in text
    assert "\x1b[1m" not in on_a_terminal(NO_COLOR="1")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mlia.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'ethosu', 'msgspec', 'flatbuffers', 'tensorflow', 'rich', 'subprocess'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_check_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mlia.cli.main import main\n"
        f"assert main(['check', {str(SAMPLE)!r}, '-t', 'ethos-u55-256', '--no-try']) == 0\n"
        "heavy = {'numpy', 'ethosu', 'flatbuffers', 'tensorflow', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_python_m_mlia() -> None:
    done = subprocess.run([sys.executable, "-m", "mlia", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("mlia ")


@pytest.mark.parametrize("arguments", [["--performance"], ["--compatibility"], []])
def test_fail_on_warning_is_about_findings_only(arguments: list[str]) -> None:
    assert mlia("check", SAMPLE, "-t", "ethos-u55-256", "--fail-on", "warning", *arguments).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "--format", "json"], "JSON has both always"),
        (["--all-operators", "--compatibility"], "go with --performance"),
        (["--no-quantize", "--calibration", "x.npz"], "leave out --no-quantize"),
        (["--no-try", "--try-budget", "3"], "leave out --try-budget"),
        (["--no-try", "--keep-tried", "x"], "leave out --try-budget and --keep-tried"),
        (["--all-advice", "--format", "json"], "JSON has all advice always"),
        (["--select", "NOPE"], "no rule's code begins with 'NOPE'"),
        (["--ignore", ""], "no rule's code begins with ''"),
        (["--try-budget", "0"], "not a number of seconds"),
        (["--fix", "/nowhere/x.tflite"], "there is no folder"),
        (["--fix", "x.tflite", "-t", "ethos-u55-128"], "for one target at a time"),
        (["--fix", "x.tflite", "-o", "./x.tflite"], "name the same file"),
        (["--keep-tried", "kept", "-t", "ethos-u55-128"], "for one target at a time"),
        (["--keep-tried", ""], "needs a name"),
        (["--keep-tried", str(ROOT / "docs")], "the folder is not empty"),
        (["--try-budget", "3", "-t", "ethos-u55-128"], "--try-budget is for one target"),
        (["-o", ""], "the name of its file is empty"),
        (["--timeout", "1e9"], "a million at most"),
        (["--select", "CMP", "--ignore", "CMP"], "all rules that are selected are ignored"),
        (["--keep-tried", "/dev/null/x"], "cannot keep what is tried"),
        (["--foo\nbar"], "unrecognized arguments: --foo bar"),
    ],
)
def test_options_that_would_change_nothing_are_refused(arguments: list[str], message: str) -> None:
    assert message in one_line(mlia("check", SAMPLE, "-t", "ethos-u55-256", *arguments))


def test_every_target_in_full_when_all_operators_are_asked_for() -> None:
    done = mlia("check", SAMPLE, "-t", "ethos-u55-128", "-t", "ethos-u55-256", "--all-operators")
    assert "Side by side" in done.stdout
    assert "Target ethos-u55-128" in done.stdout
    assert "Target ethos-u55-256" in done.stdout


def test_links_and_pipes_are_written_through(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real.txt", tmp_path / "link.txt", tmp_path / "pipe"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    assert mlia("check", SAMPLE, "-t", "ethos-u55-256", "-o", link).returncode == 0
    assert link.is_symlink()
    assert "Performance" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o600
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        assert mlia("check", SAMPLE, "-t", "ethos-u55-256", "-o", pipe).returncode == 0
        assert reader.stdout is not None
        assert "Performance" in reader.stdout.read()
    assert pipe.is_fifo()


def test_the_model_is_never_overwritten(tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(SAMPLE.read_bytes())
    assert "it is the model" in one_line(mlia("check", model, "-t", "ethos-u55-256", "-o", model))
    assert model.read_bytes() == SAMPLE.read_bytes()


def shell(command: str) -> subprocess.CompletedProcess[str]:
    text = command.replace("MLIA", f"'{MLIA}'").replace("SAMPLE", f"'{SAMPLE}'")
    return subprocess.run(text, shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("MLIA check SAMPLE -t ethos-u55-256 > /dev/full", "No space left"),
        ("MLIA schema > /dev/full", "No space left"),
        ("MLIA target list >&-", "stdout is closed"),
        ("MLIA check SAMPLE -t ethos-u55-256 -o /dev/full", "No space left"),
    ],
)
def test_a_stdout_that_takes_nothing(command: str, message: str) -> None:
    assert message in one_line(shell(command))


def test_a_model_from_a_pipe() -> None:
    done = shell("cat SAMPLE | MLIA check /dev/stdin -t ethos-u55-256")
    assert (done.returncode, done.stderr) == (0, "")
    assert "13 of 13" in done.stdout


def test_an_encoding_without_our_letters() -> None:
    assert mlia("check", SAMPLE, "-t", "ethos-u55-256", PYTHONIOENCODING="ascii").returncode == 0


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    model = os.fsencode(tmp_path) + b"/\xff.tflite"
    Path(os.fsdecode(model)).write_bytes(SAMPLE.read_bytes())
    done = subprocess.run([MLIA, "check", model, "-t", "ethos-u55-256", "--format", "json"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_a_check_that_fails(tmp_path: Path) -> None:
    model = tmp_path / "bad.tflite"
    model.write_bytes(SAMPLE.read_bytes()[:20000])
    mark = {"MLIA_TEST_OF_WORKERS": str(tmp_path)}  # inherited by what this check starts, and by nothing else
    assert mlia("check", model, "-t", "ethos-u55-256", **mark).returncode == 2
    assert [*_processes_with(str(tmp_path))] == []


def _processes_with(mark: str) -> Iterator[str]:
    """The processes with that text in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                yield process.name


def test_steps_of_a_cortex_m_are_refused(sample: Path) -> None:
    done = mlia("check", sample, "-t", "cortex-m4", "--steps")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a Cortex-M alone has no compiler" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_device_is_no_model() -> None:
    for verb in ("check", "verify", "trace"):
        assert "it is a device" in one_line(mlia(verb, "/dev/zero", "-t", "ethos-u55-256"))


def test_nothing_is_left_of_a_check_that_could_not_run(tmp_path: Path) -> None:
    done = mlia("check", tmp_path / "none.tflite", "-t", "ethos-u55-256", "--keep-tried", tmp_path / "kept")
    assert "cannot read the model" in one_line(done)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, PROFILE.replace("= 32", f"= {'9' * 400}")])
def test_numbers_and_nests_without_an_end_cost_one_line(text: str, tmp_path: Path) -> None:
    profile = tmp_path / "board.toml"
    profile.write_text(text)
    for arguments in (("target", "show", profile), ("check", SAMPLE, "-t", profile)):
        assert "board" in one_line(mlia(*arguments))


def test_limits_decide_the_exit_code(tmp_path: Path) -> None:
    kept = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--max-latency-ms", "1", "--min-npu-percent", "100", "--no-try")
    assert kept.returncode == 0
    assert "kept     latency: 0.1" in kept.stdout
    (tmp_path / "budget.toml").write_text("max_sram_kib = 1\nmax_latency_ms = 1\n")
    missed = mlia("check", SAMPLE, "-t", "ethos-u55-256", "--budget", tmp_path / "budget.toml", "--no-try")
    assert (missed.returncode, missed.stderr) == (1, "")
    assert "MISSED   SRAM: 22.1 KiB, at most 1.0 KiB allowed; blame operator" in missed.stdout
    assert one_line(mlia("check", SAMPLE, "-t", "ethos-u55-256", "--max-latency-ms", "-1"))
    assert "cannot read the budget" in one_line(mlia("check", SAMPLE, "-t", "ethos-u55-256", "--budget", "none.toml"))
    refused = one_line(mlia("check", SAMPLE, "-t", "ethos-u55-256", "--compatibility", "--max-sram-kib", "5"))
    assert "limits of time and memory go with --performance" in refused

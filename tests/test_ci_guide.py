"""What docs/ci.md shows is what there is: its budget, its forms, its workflow."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE

import mlia
from mlia.pipeline.budgets import load_budget, with_budgets
from mlia.render.forms import MODULES

GUIDE = (ROOT / "docs/ci.md").read_text()


def test_the_budget_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    (tmp_path / "budget.toml").write_text(block)
    found = load_budget(str(tmp_path / "budget.toml"))
    assert (found.max_sram_kib, found.targets["cortex-m55"].max_latency_ms) == (256, 100)


def test_the_budget_can_be_kept(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    (tmp_path / "budget.toml").write_text(block)
    report = mlia.check(SAMPLE, ["ethos-u55-256", "cortex-m55"], try_remedies=False)
    assert all(each.is_kept for each in with_budgets(report, load_budget(str(tmp_path / "budget.toml"))).budgets)


def run_workflow(folder: Path, model: Path) -> subprocess.CompletedProcess[str]:
    """The script of the workflow as the guide has it."""
    (workflow,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    (script,) = re.findall(r"        run: \|\n((?:          .*\n)+)", workflow)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MODEL": str(model),
        "TARGET": "ethos-u55-256",
        "GITHUB_STEP_SUMMARY": "summary.md",
    }
    lines = ["bash", "-e", "-c", textwrap.dedent(script)]
    return subprocess.run(lines, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("limit", "code"), [("1000", 0), ("0.001", 1)])
def test_the_workflow_tells_all_whatever_the_check_says(limit: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text(f"max_latency_ms = {limit}\n")
    done = run_workflow(tmp_path, SAMPLE)
    assert done.returncode == code, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "budget.toml", "report.json", "report.html", "junit.xml", "summary.md",
    }  # fmt: skip


def test_the_guide_works_when_copied(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    (tmp_path / "budget.toml").write_text(block)
    done = run_workflow(tmp_path, SAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mlia: warning: the budget has limits for cortex-m55, and the report is about") == 1


def test_the_job_stops_where_the_check_could_not_run(tmp_path: Path) -> None:
    (tmp_path / "budget.toml").write_text("max_latency_ms = 5\n")
    done = run_workflow(tmp_path, tmp_path / "missing.tflite")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"budget.toml"}


def test_every_form_is_there() -> None:
    assert re.findall(r"^\| `(\w[\w-]*)` \|", GUIDE, re.M) == sorted(
        ("terminal", *MODULES), key=lambda form: GUIDE.index(f"| `{form}` |")
    )


def test_the_workflow_calls_what_there_is() -> None:
    (workflow,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    for form in re.findall(r"--format (\w+)", workflow):
        assert form in MODULES
    for verb in re.findall(r"mlia (\w+) ", workflow):
        assert verb in ("check", "view")

"""What docs/ci.md shows is what there is: its budget, its forms, its workflow."""

import re
from pathlib import Path

from conftest import ROOT

from mlia.cli.formats import FORMATS
from mlia.pipeline.budgets import load_budget

GUIDE = (ROOT / "docs/ci.md").read_text()


def test_the_budget_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    (tmp_path / "budget.toml").write_text(block)
    found = load_budget(str(tmp_path / "budget.toml"))
    assert (found.max_sram_kib, found.targets["cortex-m55"].max_latency_ms) == (256, 100)


def test_every_form_is_there() -> None:
    assert re.findall(r"^\| `(\w[\w-]*)` \|", GUIDE, re.M) == sorted(
        ("terminal", *FORMATS), key=lambda form: GUIDE.index(f"| `{form}` |")
    )


def test_the_workflow_calls_what_there_is() -> None:
    (workflow,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.S)
    for form in re.findall(r"--format (\w+)", workflow):
        assert form in FORMATS
    for verb in re.findall(r"mlia (\w+) ", workflow):
        assert verb in ("check", "view")

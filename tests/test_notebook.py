"""The example notebook runs, cell by cell, and stores no outputs."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import mlia

NOTEBOOK = ROOT / "examples/first_report.ipynb"


def shown(code: str, names: dict[str, Any]) -> Any:
    """What a notebook shows below a cell: the value of its last line, if that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names) if last is not None else None


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    names: dict[str, Any] = {}
    values = [shown("".join(cell["source"]), names) for cell in cells]
    assert all(value._repr_html_().startswith("<div>") for value in values if isinstance(value, mlia.CheckReport))
    assert sum(hasattr(value, "_repr_html_") for value in values) == 3
    assert names["difference"].targets[0].verdict == "faster"
    assert (tmp_path / "examples/report.html").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "2.511 ms (1.229..5.283), estimated" in printed
    assert "CPU TRANSPOSE_CONV upsampled" in printed
    assert "CMP032" in printed


def test_the_notebook_has_what_the_format_asks_for() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])

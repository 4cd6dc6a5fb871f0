"""The ledger: every published measurement beside the estimates."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from mlia.pipeline.accuracy import accuracy, summarized
from mlia.render.accuracy import render_accuracy
from mlia.render.json import json_schema, render_json

MLIA = Path(sys.executable).with_name("mlia")


def test_errors_are_summed_up() -> None:
    found = summarized([10.0, -30.0, 5.0])
    assert found.mean_absolute == pytest.approx(15)
    assert found.bias == pytest.approx(-5)
    assert found.worst == -30


def test_every_family_has_networks_and_every_row_a_source() -> None:
    found = accuracy()
    assert {each.family for each in found.families if each.kind == "network"} == {"ethos-u55", "ethos-u65", "ethos-u85"}
    assert sum(each.measurements for each in found.families) == len(found.rows) >= 120
    assert all(row.source and row.measured_cycles > 0 for row in found.rows)
    assert {each.family for each in found.unmeasured} == {"ethos-u55", "ethos-u65", "ethos-u85"}


def test_the_calibrated_estimate_of_operators_is_closer_than_velas() -> None:
    (operators,) = [each for each in accuracy().families if each.kind == "operator"]
    assert operators.calibrated.mean_absolute < operators.vela.mean_absolute / 3
    rows = [row for row in accuracy().rows if row.kind == "operator"]
    assert sum(0.8 <= row.calibrated_cycles / row.measured_cycles <= 1.25 for row in rows) >= 0.85 * len(rows)


@pytest.mark.parametrize("width", [80, 140])
def test_it_fits_the_width_but_for_the_table_of_rows(width: int) -> None:
    text = render_accuracy(accuracy(), width, all_rows=False)
    assert max(map(len, text.splitlines())) <= width
    assert len(render_accuracy(accuracy(), width, all_rows=True).splitlines()) > len(accuracy().rows)


def test_the_command() -> None:
    done = subprocess.run([MLIA, "accuracy", "--format", "json"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0
    jsonschema.validate(json.loads(done.stdout), json_schema("accuracy"))
    assert done.stdout == render_json(accuracy())

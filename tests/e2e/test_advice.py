"""Advice on real models: short enough to read, and every figure of what was tried is what a check of the copy says."""

from pathlib import Path

import pytest
from conftest import SAMPLE, SHARED

import mlia
from mlia.advice import Attempt
from mlia.figures import Figures
from mlia.graph.tflite import read_tflite
from mlia.pipeline.figures import figures_of
from mlia.render.check.terminal import TerminalStyle, render_terminal
from mlia.render.json import render_json
from mlia.results import Compatibility, Performance
from mlia.transforms.proof import prove

SCREEN = 48  # lines
MODELS = [
    SAMPLE,
    SHARED / "mlperf_tiny/kws_ref_model.tflite",
    SHARED / "mlperf_tiny/pretrainedResnet_quant.tflite",
    SHARED / "calibration/kws_micronet_m.tflite",
    SHARED / "calibration/ad_medium_int8.tflite",
]


def checked_figures(model: Path, target: str) -> Figures:
    (result,) = mlia.check(model, target, try_remedies=False).targets[0].results
    assert isinstance(result.performance, Performance)
    assert isinstance(result.compatibility, Compatibility)
    return figures_of(result.performance, result.compatibility.cpu_operators, model.stat().st_size)


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_advice_fits_on_a_screen_and_its_figures_are_true(model: Path, target: str, tmp_path: Path) -> None:
    if not model.exists():
        pytest.skip("the folder of further models is not there")
    report = mlia.check(model, target, scope=mlia.Scope(keep_tried=tmp_path))
    text = render_terminal(report, TerminalStyle(80))
    assert len(text[text.index("\nAdvice") :].splitlines()) <= SCREEN
    (entry,) = report.targets
    assert entry.advised.advice, "even a good model has something to say"
    for advice in entry.advised.advice:
        for attempt in advice.attempts:
            if not isinstance(attempt, Attempt):
                continue
            kept = [Path(name) for name in attempt.kept_as.split()]
            copy = next((path for path in kept if path.suffix == ".tflite"), model)
            place = next((str(path) for path in kept if path.suffix == ".toml"), target)
            assert checked_figures(copy, place) == attempt.after, f"{advice.code} {attempt.what}"


def test_the_same_model_gives_the_same_bytes() -> None:
    assert render_json(mlia.check(SAMPLE, "ethos-u55-128")) == render_json(mlia.check(SAMPLE, "ethos-u55-128"))


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_a_fixed_model_computes_the_same_and_is_no_slower(target: str, tmp_path: Path) -> None:
    out = tmp_path / "fixed.tflite"
    report = mlia.check(SAMPLE, target, scope=mlia.Scope(fix=out))
    assert report.fixed is not None
    assert prove(SAMPLE.read_bytes(), out.read_bytes()) == ""
    assert report.fixed.after == checked_figures(out, target)
    assert (report.fixed.after.latency_ms or 0) <= (report.fixed.before.latency_ms or 0)
    assert read_tflite(out.read_bytes()).main.outputs

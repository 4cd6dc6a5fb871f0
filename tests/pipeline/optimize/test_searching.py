"""The search, on the small sample and its noise."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

import mlia
from mlia.errors import TransformError
from mlia.pipeline.optimize import candidates as task
from mlia.pipeline.optimize.candidates import Candidate, Task
from mlia.recipe import Clustering, Recipe
from mlia.report import OptimizeReport

FLOAT = ROOT / "examples/ds_cnn_small_float.tflite"
BUDGET_S = 30.0  # by the clock below: some 15 recipes


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the search: a second passes each time that somebody looks, so that no machine is too slow for a test."""
    monkeypatch.setattr("mlia.pipeline.optimize.search.time", SimpleNamespace(monotonic=itertools.count().__next__))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tool takes for data."""
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(path, np.random.default_rng(0).normal(size=(80, 49, 10, 1)))
    return path


def chosen_of(report: OptimizeReport) -> tuple[int | None, ...]:
    (chosen,) = (trial for trial in report.trials if trial.is_chosen)
    assert chosen.recipe == report.recipe
    assert not chosen.objection
    return chosen.total_cycles


@pytest.mark.long
def test_the_fastest_within_the_limits_is_chosen(samples: Path) -> None:
    limits = mlia.Limits(max_relative_error=0.02, time_budget_s=BUDGET_S)
    made = mlia.optimize(FLOAT, ["ethos-u55-256", "ethos-u85-256"], limits=limits, calibration=samples)
    report = made.report
    assert report.fidelity_after.outputs[0].relative_error <= 0.02
    cycles = chosen_of(report)
    for comparison, found in zip(report.comparisons, cycles, strict=True):
        assert comparison.after.total_cycles == found
        assert comparison.before.total_cycles is not None
        assert found is not None
        assert found <= comparison.before.total_cycles
    before, after = report.comparisons[0].before, report.comparisons[0].after
    assert before.compressed_weights_bytes is not None
    assert after.compressed_weights_bytes is not None
    assert after.compressed_weights_bytes < 0.9 * before.compressed_weights_bytes
    assert len(report.trials) > 2
    assert any(trial.objection for trial in report.trials)
    again = mlia.optimize(FLOAT, "ethos-u55-256", report.recipe, calibration=samples)
    assert bytes(again.graph.content) == bytes(made.graph.content)


@pytest.mark.long
def test_where_nothing_helps_the_input_comes_back(samples: Path) -> None:
    plain = mlia.convert(FLOAT, calibration=samples).graph.content
    made = mlia.optimize(
        FLOAT, "ethos-u55-256", limits=mlia.Limits(max_relative_error=1e-9, time_budget_s=12), calibration=samples
    )
    assert bytes(made.graph.content) == bytes(plain)
    assert made.report.recipe == Recipe()
    assert any("no recipe keeps the limits" in note and "is above" in note for note in made.report.notes)


def test_no_time_is_said() -> None:
    made = mlia.optimize(FLOAT, "ethos-u55-256", limits=mlia.Limits(time_budget_s=1e-6))
    assert any("time budget ended the search" in note for note in made.report.notes)
    assert any("nothing was tried" in note for note in made.report.notes)
    assert len(made.report.trials) == 1


def test_the_user_s_own_judge_decides(samples: Path) -> None:
    plain = bytes(mlia.convert(FLOAT, calibration=samples).graph.content)
    judged: list[bytes] = []

    def evaluate(content: bytes) -> float:
        judged.append(content)
        return 1.0 if content == plain else 0.5

    limits = mlia.Limits(time_budget_s=12)
    made = mlia.optimize(FLOAT, "ethos-u55-256", limits=limits, evaluate=evaluate, calibration=samples)
    assert bytes(made.graph.content) == plain
    assert len(judged) > 2
    assert len({*judged}) == len(judged)  # each content once
    assert made.report.evaluation is not None
    assert (made.report.evaluation.before, made.report.evaluation.after) == (1.0, 1.0)
    assert any("a loss of 50.0 %" in trial.objection for trial in made.report.trials)


def test_an_interrupt_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch, samples: Path) -> None:
    candidate: Callable[[Task, Recipe], Candidate] = task.Task.candidate

    def interrupted(self: Task, recipe: Recipe) -> Candidate:
        if recipe.clustering != Clustering(32):
            raise KeyboardInterrupt
        return candidate(self, recipe)

    monkeypatch.setattr(task.Task, "candidate", interrupted)
    monkeypatch.setattr("mlia.pipeline.optimize.search.CODES", (Clustering(32), Clustering(8)))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    made = mlia.optimize(FLOAT, "ethos-u55-256", limits=mlia.Limits(max_relative_error=0.5), calibration=samples)
    assert made.report.recipe == Recipe(clustering=Clustering(32))
    assert any("interrupted" in note for note in made.report.notes)


@pytest.mark.long
def test_a_step_that_cannot_be_done_is_told(monkeypatch: pytest.MonkeyPatch, samples: Path) -> None:
    candidate: Callable[[Task, Recipe], Candidate] = task.Task.candidate

    def refused(self: Task, recipe: Recipe) -> Candidate:
        if recipe.channels:
            raise TransformError("no channels today")
        return candidate(self, recipe)

    monkeypatch.setattr(task.Task, "candidate", refused)
    made = mlia.optimize(FLOAT, "ethos-u55-256", limits=mlia.Limits(time_budget_s=BUDGET_S), calibration=samples)
    assert any("no channels today" in note for note in made.report.notes)


def test_a_limit_that_is_missed_is_exit_code_1(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("mlia"), "optimize", FLOAT, "-t", "ethos-u55-256", "--auto"]
    options = ["--max-flash-kib", "1", "--time-budget", "3", "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert (done.returncode, done.stderr) == (1, "")
    assert "KiB of flash is above 1 KiB" in json.loads(done.stdout)["missed_limit"]
    assert (tmp_path / "ds_cnn_small_float_optimized.tflite").exists()


@pytest.mark.long
def test_a_limit_of_latency_is_aimed_at(samples: Path) -> None:
    limits = mlia.Limits(max_relative_error=0.9, max_latency_ms=0.08, time_budget_s=40)
    made = mlia.optimize(FLOAT, "ethos-u55-256", limits=limits, calibration=samples)
    after = made.report.comparisons[0].after.latency_ms
    assert after is not None
    assert after <= 0.08
    assert not made.report.missed_limit
    assert any("ms is above" in trial.objection for trial in made.report.trials)


def test_without_data_only_careful_recipes_are_tried() -> None:
    made = mlia.optimize(FLOAT, "ethos-u55-256", limits=mlia.Limits())
    assert any("without data only the most careful recipes are tried" in note for note in made.report.notes)
    for trial in made.report.trials:
        assert trial.recipe.pruning is None
        assert trial.recipe.channels is None
        assert trial.recipe.clustering is None or trial.recipe.clustering.target >= 32


@pytest.mark.long
def test_a_judge_without_a_figure_is_refused(samples: Path) -> None:
    with pytest.raises(TransformError, match="no figure to compare"):
        mlia.optimize(
            FLOAT, "ethos-u55-256", limits=mlia.Limits(), evaluate=lambda _: float("nan"), calibration=samples
        )


def test_limits_and_a_recipe_contradict_each_other() -> None:
    with pytest.raises(TransformError, match="either a recipe or limits"):
        mlia.optimize(FLOAT, "ethos-u55-256", Recipe(clustering=Clustering(16)), limits=mlia.Limits())


@pytest.mark.long
def test_targets_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for macs in (256, 32, 64):
        path = tmp_path / f"{macs}.toml"
        path.write_text(
            f'name = "board"\n[npu]\nfamily = "ethos-u55"\nmacs_per_cycle = {macs}\nclock_mhz = 500\n'
            '[host]\ncore = "cortex-m55"\nclock_mhz = 500\n'
            '[vela]\nsystem_config = "Ethos_U55_High_End_Embedded"\nmemory_mode = "Shared_Sram"\n'
        )
        paths.append(str(path))
    made = mlia.optimize(FLOAT, paths, Recipe(clustering=Clustering(32)))
    cycles = [comparison.before.total_cycles for comparison in made.report.comparisons]
    expected = [mlia.check(FLOAT, path).targets[0].results[0].performance for path in paths]
    assert cycles == [getattr(performance, "total_cycles", None) for performance in expected]
    assert len({*cycles}) == 3


@pytest.mark.parametrize(
    "limits",
    [mlia.Limits(max_flash_kib=-1), mlia.Limits(min_sqnr_db=float("nan")), mlia.Limits(max_loss=-1.0)],
)
def test_absurd_limits_are_refused(limits: mlia.Limits) -> None:
    with pytest.raises(TransformError, match="the limit"):
        mlia.optimize(FLOAT, "ethos-u55-256", limits=limits)

"""A target that learns from what was measured on it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SAMPLE, wake_words
from msgspec.structs import replace

import mlia
from mlia.backends.ethos_u.coefficients import coefficients_for, load_coefficients
from mlia.backends.ethos_u.coverage import SINGLE
from mlia.backends.ethos_u.features import features_of
from mlia.backends.ethos_u.fitting import Run, estimates, fit
from mlia.backends.ethos_u.measurements import compiled_for, measurements
from mlia.backends.ethos_u.timing import estimate_with
from mlia.backends.vela.process import compile_model
from mlia.errors import MeasurementError, TargetError
from mlia.graph.tflite_writer import write_tflite
from mlia.results import Performance
from mlia.targets.coefficients import Physics
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.targets.writing import with_coefficients, write_profile
from mlia.testing import IntegerSketch

Truth = Callable[[Physics], Physics]


def target(name: str) -> Target:
    found = load_target(name)
    assert isinstance(found, Target)
    return found


def networks(folder: Path) -> list[Path]:
    """Four networks that wait for different things."""
    made = [SAMPLE]
    for name, channels, size in (("wide", 64, 12), ("large", 8, 48), ("deep", 192, 4)):
        net = IntegerSketch(name)
        x = net.image("in", (1, size, size, channels))
        for number in range(3):
            x = net.filter("CONV_2D", x, filters=channels, name=f"conv_{number}")
        path = folder / f"{name}.tflite"
        path.write_bytes(write_tflite(net.graph([x])))
        made.append(path)
    return made


def measured(folder: Path, place: Target, truth: Truth, models: list[Path] | None = None) -> Path:
    """A table of runs on a board that behaves as `truth` says."""
    physics = truth(coefficients_for(place).physics)
    lines = ["model,cycles"]
    for model in models or networks(folder):
        features = features_of(compile_model(model.read_bytes(), place, 60), place)
        cycles = sum(step.cycles for step in estimate_with(features, place, physics))
        lines.append(f"{model},{cycles:.0f}")
    table = folder / "runs.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def slow_memory(physics: Physics) -> Physics:
    return replace(physics, memory_share=0.5, sram_share=0.5 * physics.sram_share)


@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
def test_a_board_with_slower_memories_is_learned(name: str, tmp_path: Path) -> None:
    place = target(name)
    models = networks(tmp_path)
    made = mlia.calibrate(str(measured(tmp_path, place, slow_memory, models[1:])), place)
    report = made.report
    assert report.shipped_percent > 2
    assert report.fitted_percent < report.shipped_percent / 2
    assert report.unseen_percent < report.shipped_percent
    assert (len(report.runs), report.models, report.is_kept, report.file) == (3, 3, False, "")
    # A model that was not measured gains as well.
    features = features_of(compile_model(models[0].read_bytes(), place, 60), place)
    shipped = load_coefficients(place.npu.family).physics
    refined = coefficients_for(made.target).physics
    true, before, after = (
        sum(step.cycles for step in estimate_with(features, place, physics))
        for physics in (slow_memory(shipped), shipped, refined)
    )
    assert abs(after / true - 1) < abs(before / true - 1)


@pytest.mark.parametrize("left", ["kws_micronet_m", "ad_medium_int8", "rnnoise_INT8", "yolo-fastest_192_face_v4"])
def test_three_of_four_networks_halve_the_error_of_the_fourth(left: str, shared: Path, tmp_path: Path) -> None:
    """What was measured of Ethos-U55, on a profile that says that its memories are faster than they are."""
    models = shared.parent / "measured"
    if not models.is_dir():
        pytest.skip("the measured models are not there")
    runs = [
        each for each in measurements() if each.kind == "network" and (each.family, each.macs) == ("ethos-u55", 256)
    ]
    known = compiled_for(runs[0])
    axi0, axi1 = known.system_config.axi0, known.system_config.axi1
    axi0, axi1 = replace(axi0, clock_scale=2 * axi0.clock_scale), replace(axi1, clock_scale=4 * axi1.clock_scale)
    place = replace(known, system_config=replace(known.system_config, axi0=axi0, axi1=axi1))
    table = tmp_path / "runs.csv"
    rows = [f"{models / each.model}.tflite,{each.cycles}" for each in runs if each.model != left]
    table.write_text("\n".join(["model,cycles", *rows]))
    refined = coefficients_for(mlia.calibrate(str(table), place).target).physics
    (fourth,) = (each for each in runs if each.model == left)
    features = features_of(compile_model((models / f"{left}.tflite").read_bytes(), place, 60), place)
    before, after = (
        abs(sum(step.cycles for step in estimate_with(features, place, physics)) / fourth.cycles - 1)
        for physics in (load_coefficients("ethos-u55").physics, refined)
    )
    assert after < before / 2


def test_runs_that_are_as_estimated_change_nothing(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    made = mlia.calibrate(str(measured(tmp_path, place, lambda physics: physics)), place)
    assert made.report.unseen_percent < 1
    for each in made.report.parameters:
        assert each.fitted == pytest.approx(each.shipped, rel=0.05)


def test_a_fit_that_does_not_help_is_not_taken(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    table = measured(tmp_path, place, lambda physics: physics)
    head, *rows = table.read_text().splitlines()
    noisy = []
    for row, factor in zip(rows, (1.4, 1.4, 0.7, 0.7), strict=True):
        model, cycles = row.split(",")
        noisy.append(f"{model},{float(cycles) * factor:.0f}")
    table.write_text("\n".join([head, *noisy]))
    made = mlia.calibrate(str(table), place)
    assert made.report.is_kept
    found = made.target.coefficients
    assert found is not None
    assert found.physics == load_coefficients("ethos-u55").physics
    assert found.error_percent == pytest.approx(made.report.shipped_percent, abs=0.06)
    assert made.report.unseen_percent == made.report.fitted_percent == made.report.shipped_percent
    assert found.fitted_on == load_coefficients("ethos-u55").fitted_on
    assert found.judged_on == "4 runs of 4 models on ethos-u55-128"
    assert found.band_high > 1.4
    assert "no fit to the runs of this board was better" in found.note


@pytest.mark.long
def test_a_clock_that_is_wrong_is_suspected(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    head, *rows = measured(tmp_path, place, lambda physics: physics).read_text().splitlines()
    fast = [f"{model},{float(cycles) * 0.7:.0f}" for model, cycles in (row.split(",") for row in rows)]
    (tmp_path / "fast.csv").write_text("\n".join([head, *fast]))
    report = mlia.calibrate(str(tmp_path / "fast.csv"), place).report
    assert report.is_kept
    assert report.hint.startswith("all runs took about 0.70 times what is estimated")
    assert mlia.calibrate(str(tmp_path / "runs.csv"), place).report.hint == ""


def test_one_run_is_used_and_promises_no_more_than_before(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    made = mlia.calibrate(str(measured(tmp_path, place, slow_memory, [SAMPLE])), place)
    assert made.report.models == 1
    assert made.report.fitted_percent < made.report.shipped_percent
    assert made.report.unseen_percent == made.report.shipped_percent
    assert made.target.coefficients is not None
    assert made.target.coefficients.fitted_on == ("1 run of 1 model on ethos-u55-128",)


def test_a_profile_keeps_its_own_words_and_states_what_it_rests_on(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    table = measured(tmp_path, place, slow_memory)
    profile = tmp_path / "board.toml"
    profile.write_text(f"# my board\n{write_profile(replace(place, name='board'))}\n# the end\n")
    made = mlia.calibrate(str(table), str(profile))
    assert made.save(str(profile), str(profile)).file == str(profile)
    text = profile.read_text()
    assert text.startswith("# my board\n")
    assert "# the end\n" in text
    found = target(str(profile)).coefficients
    assert found == made.target.coefficients
    assert found is not None
    assert (found.n, found.fitted_on) == (4, ("4 runs of 4 models on board",))
    again = mlia.calibrate(str(table), str(profile))
    again.save(str(profile), str(profile))
    assert profile.read_text() == text
    performance = mlia.check(SAMPLE, str(profile), try_remedies=False).targets[0].results[0].performance
    assert isinstance(performance, Performance)
    assert performance.calibration is not None
    assert (performance.calibration.n, performance.calibration.fitted_on) == (4, ("4 runs of 4 models on board",))
    assert performance.total_cycles == pytest.approx(again.report.runs[0].fitted_cycles, abs=10)  # rounded by step
    assert performance.vela_total_cycles == again.report.runs[0].vela_cycles


def test_what_was_measured_is_no_longer_said_to_be_unmeasured(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    net = IntegerSketch("one")
    single = tmp_path / "one.tflite"
    single.write_bytes(write_tflite(net.graph([net.filter("CONV_2D", net.image("in", (1, 16, 16, 16)), filters=16)])))
    made = mlia.calibrate(str(measured(tmp_path, place, slow_memory, [single])), place)
    assert SINGLE in load_coefficients("ethos-u55").without
    assert made.target.coefficients is not None
    assert SINGLE not in made.target.coefficients.without


def test_a_profile_that_cannot_be_changed_is_refused() -> None:
    place = target("ethos-u55-128")
    found = load_coefficients("ethos-u55")
    with pytest.raises(TargetError, match="cannot be exchanged as it is written"):
        with_coefficients(f"coefficients.n = 5\n{write_profile(place)}", found)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{sample},7", "7 cycles of the NPU for .*: is that another unit, model or target"),
        ("{sample},7e12", "is that another unit, model or target"),
        ("{off},0.3", None),
    ],
)
def test_runs_that_cannot_be_are_refused(row: str, message: str | None, tmp_path: Path) -> None:
    off = SAMPLE.parent / "off_the_npu.tflite"
    table = tmp_path / "runs.csv"
    column = "cycles" if message else "ms"
    table.write_text(f"model,{column}\n{row.format(sample=SAMPLE, off=off)}\n")
    with pytest.raises(MeasurementError, match=message or "has operators on the Cortex-M55"):
        mlia.calibrate(str(table), "ethos-u55-128")


def test_targets_and_models_that_cannot_be_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text(f"model,cycles\n{SAMPLE},60000\n")
    with pytest.raises(TargetError, match="cortex-m55 has no NPU"):
        mlia.calibrate(str(table), "cortex-m55")
    table.write_text("model,cycles\nmissing.tflite,60000\n")
    with pytest.raises(mlia.ModelError, match=r"missing\.tflite"):
        mlia.calibrate(str(table), "ethos-u55-128")


def test_a_time_is_of_the_npus_clock(tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    table = tmp_path / "runs.csv"
    table.write_text(f"model,ms\n{SAMPLE},0.2\n")
    assert mlia.calibrate(str(table), place).report.runs[0].measured_cycles == 100_000


def test_what_runs_once_is_no_part_of_an_inference(tmp_path: Path) -> None:
    place = target("ethos-u85-256")
    model = wake_words()[0]
    performance = mlia.check(model, place, try_remedies=False).targets[0].results[0].performance
    assert isinstance(performance, Performance)
    assert performance.inference_cycles is not None
    assert performance.inference_cycles < (performance.total_cycles or 0)
    (tmp_path / "runs.csv").write_text(f"model,cycles\n{model},{performance.inference_cycles}\n")
    (run,) = mlia.calibrate(str(tmp_path / "runs.csv"), place).report.runs
    assert run.shipped_cycles == pytest.approx(run.measured_cycles, rel=0.01)
    assert run.vela_cycles < (performance.vela_total_cycles or 0)


@pytest.mark.parametrize("factor", [0.12, 8.0])
def test_whatever_is_written_can_be_read(factor: float, tmp_path: Path) -> None:
    place = target("ethos-u55-128")
    head, *rows = measured(tmp_path, place, lambda physics: physics, [SAMPLE]).read_text().splitlines()
    model, cycles = rows[0].split(",")
    (tmp_path / "runs.csv").write_text(f"{head}\n{model},{float(cycles) * factor:.0f}\n")
    made = mlia.calibrate(str(tmp_path / "runs.csv"), place)
    made.save(str(tmp_path / "board.toml"))
    assert target(str(tmp_path / "board.toml")).coefficients == made.target.coefficients


def test_a_float_model_is_not_what_ran(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(f"model,cycles\n{SAMPLE.parent / 'ds_cnn_small_float.tflite'},60000\n")
    with pytest.raises(MeasurementError, match="computes in float"):
        mlia.calibrate(str(tmp_path / "runs.csv"), "ethos-u55-128")


def test_comments_and_line_ends_stay() -> None:
    found = load_coefficients("ethos-u55")
    profile = write_profile(replace(target("ethos-u55-128"), coefficients=found))
    with_words = profile.replace("[coefficients.physics]", "# mine\n\n[coefficients.physics]") + "# keep me\n"
    again = with_coefficients(with_words.replace("\n", "\r\n"), replace(found, n=77))
    assert "# mine" in again
    assert "# keep me" in again
    assert "\r\nn = 77\r\n" in again
    assert again.count("[coefficients]") == 1


@pytest.mark.long
def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    table = str(measured(tmp_path, target("ethos-u85-256"), slow_memory))
    texts = {write_profile(mlia.calibrate(table, "ethos-u85-256").target) for _ in range(2)}
    assert len(texts) == 1


def test_a_fit_finds_what_made_the_runs(tmp_path: Path) -> None:
    place = target("ethos-u85-512")
    start = load_coefficients("ethos-u85").physics
    truth = replace(start, sram_share=0.25, weight_requests=5.0)
    programs = [features_of(compile_model(path.read_bytes(), place, 60), place) for path in networks(tmp_path)]
    runs = [
        Run(place, features, sum(step.cycles for step in estimate_with(features, place, truth)), str(number))
        for number, features in enumerate(programs)
    ]
    found = fit(runs, start, {"sram_share": (0.1, 1.0), "weight_requests": (2.0, 100.0)})
    for run, cycles in zip(runs, estimates(runs, found), strict=True):
        assert cycles == pytest.approx(run.cycles, rel=0.01)
    assert json.dumps(found.sram_share) == str(found.sram_share)

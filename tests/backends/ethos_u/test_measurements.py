"""What ships: measurements, ledger and coefficients agree with each other, and with what the fit gives."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mlia.backends.ethos_u.coefficients import load_coefficients
from mlia.backends.ethos_u.features import features_of
from mlia.backends.ethos_u.measurements import FOLDER, compiled_for, ledger, measurements, ran_on
from mlia.backends.vela.process import compile_model
from mlia.errors import TargetError

FAMILIES = ("ethos-u55", "ethos-u65", "ethos-u85")
ROOT = Path(__file__).parents[3]


def test_every_measurement_of_memories_that_take_time_is_in_the_ledger() -> None:
    real = [each for each in measurements() if each.memory != "zero latency"]
    key = ("family", "macs", "system_config", "kind", "model", "what")
    assert sorted((*(getattr(each, name) for name in key), each.cycles) for each in real) == sorted(
        (*(getattr(row, name) for name in key), row.measured_cycles) for row in ledger()
    )
    assert all(each.source for each in measurements())


@pytest.mark.parametrize("family", FAMILIES)
def test_coefficients_state_what_the_ledger_shows(family: str) -> None:
    found = load_coefficients(family)
    rows = [row for row in ledger() if row.family == family]
    networks = [row for row in rows if row.kind == "network"]
    assert found.n == len(rows)
    mean = sum(abs(row.calibrated_percent) for row in networks) / len(networks)
    assert found.error_percent == pytest.approx(mean, abs=0.1)
    assert found.vela_error_percent == pytest.approx(
        sum(abs(row.vela_percent) for row in networks) / len(networks), abs=0.1
    )
    assert found.band_low < 1 < found.band_high
    assert found.without


@pytest.mark.parametrize("family", FAMILIES)
def test_fitted_networks_are_nearer_than_the_compilers(family: str) -> None:
    networks = [row for row in ledger() if row.family == family and row.kind == "network"]
    ours, theirs = (
        sum(abs(getattr(row, name) / row.measured_cycles - 1) for row in networks)
        for name in ("fitted_cycles", "vela_cycles")
    )
    assert ours < theirs


@pytest.mark.parametrize(("family", "most"), [("ethos-u55", 4), ("ethos-u65", 12), ("ethos-u85", 9)])
@pytest.mark.parametrize("program", ["", "_5_0"])
def test_networks_that_were_not_seen_are_near_and_nearer_than_the_compilers(
    family: str, most: float, program: str
) -> None:
    networks = [row for row in ledger() if row.family == family and row.kind == "network"]
    assert len({row.model for row in networks}) == 4
    ours, theirs = (
        100
        * sum(abs(getattr(row, f"{name}{program}_cycles") / row.measured_cycles - 1) for row in networks)
        / len(networks)
        for name in ("calibrated", "vela")
    )
    assert ours <= min(most, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_nine_of_ten_networks_that_were_not_seen_are_within_their_band(family: str) -> None:
    found = load_coefficients(family)
    networks = [row for row in ledger() if row.family == family and row.kind == "network"]
    assert sum(row.is_inside for row in networks) >= 0.9 * len(networks)
    for band in found.bands:
        assert band.networks < 8 or band.high < 2
        assert band.high - band.low > 0.29


@pytest.mark.parametrize("program", ["", "_5_0"])
def test_networks_and_configurations_keep_their_rank(program: str) -> None:
    right, pairs = 0, 0
    networks = [row for row in ledger() if row.kind == "network"]
    for number, one in enumerate(networks):
        for other in networks[:number]:
            if one.family == other.family and (one.model == other.model or one.macs == other.macs):
                pairs += 1
                mine, theirs = (getattr(row, f"calibrated{program}_cycles") for row in (one, other))
                right += (mine < theirs) == (one.measured_cycles < other.measured_cycles)
    assert right >= 0.97 * pairs


def test_single_operators_that_were_not_seen_are_near() -> None:
    ratios = [row.calibrated_cycles / row.measured_cycles for row in ledger() if row.kind == "operator"]
    assert sum(0.8 <= ratio <= 1.25 for ratio in ratios) >= 0.85 * len(ratios)


def test_where_it_ran_may_differ_from_what_the_compiler_was_told() -> None:
    low = next(each for each in measurements() if each.system_config == "Ethos_U85_SYS_DRAM_Low")
    assert compiled_for(low).system_config.axi1.read_latency_cycles == 500
    assert ran_on(low).system_config.axi1.read_latency_cycles == 250
    series = [each for each in measurements() if each.kind == "series"]
    one = next(each for each in series if each.memory == "max_reads=4 read_latency=1000").memory
    memory = ran_on(next(each for each in series if each.memory == one)).system_config.axi1
    assert (memory.max_reads, memory.read_latency_cycles) == (4, 1000)
    half = ran_on(next(each for each in series if each.memory == "sram_speed=0.5")).system_config.axi0
    assert half.clock_scale == 0.5
    mid = next(each for each in measurements() if each.system_config == "Ethos_U85_SYS_DRAM_Mid_512")
    assert (compiled_for(mid).system_config.axi1.max_reads, ran_on(mid).system_config.axi1.max_reads) == (64, None)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(TargetError, match="ethos-u99"):
        load_coefficients("ethos-u99")


@pytest.mark.long
def test_the_fit_gives_what_ships(tmp_path: Path) -> None:
    assert tool("fit_ethos_u").main(["--output", str(tmp_path)]) == 0
    for name in (*(f"coefficients/{family}.toml" for family in FAMILIES), "ledger.csv"):
        assert (tmp_path / name).read_bytes() == (Path(FOLDER) / name).read_bytes()


def test_the_programs_of_today_are_those_that_are_stored(shared: Path) -> None:
    models = shared.parent / "measured"
    if not models.is_dir():
        pytest.skip("the measured models are not there")
    stored = tool("measured_programs")
    programs = stored.read_programs()
    chosen = [each for each in measurements() if each.kind == "network" and each.model == "rnnoise_INT8"]
    for each in chosen[:: len(chosen) // 3]:
        on = compiled_for(each)
        features = features_of(compile_model((models / f"{each.model}.tflite").read_bytes(), on, 600), on)
        found = programs.of_today[stored.key_of(each)]
        assert tuple(programs.steps[number] for number in found.steps) == features


def tool(name: str) -> ModuleType:
    """A file of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

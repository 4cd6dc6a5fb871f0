"""What ships: measurements, ledger and coefficients agree with each other, and with what the fit gives."""

import importlib.util
from collections import defaultdict
from pathlib import Path

import pytest

from mlia.backends.ethos_u.coefficients import load_coefficients
from mlia.backends.ethos_u.measurements import FOLDER, compiled_for, ledger, measurements, ran_on
from mlia.errors import TargetError

FAMILIES = ("ethos-u55", "ethos-u65", "ethos-u85")
ROOT = Path(__file__).parents[3]


def test_every_measurement_of_real_memories_is_in_the_ledger() -> None:
    real = [each for each in measurements() if each.memory == "measured"]
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


@pytest.mark.parametrize(("family", "most"), [("ethos-u55", 4), ("ethos-u65", 10), ("ethos-u85", 10)])
def test_networks_that_were_not_seen_are_near_and_nearer_than_the_compilers(family: str, most: float) -> None:
    networks = [row for row in ledger() if row.family == family and row.kind == "network"]
    ours, theirs = (
        sum(map(abs, errors)) / len(networks)
        for errors in ([row.calibrated_percent for row in networks], [row.vela_percent for row in networks])
    )
    assert ours <= min(most, theirs)


def test_single_operators_that_were_not_seen_are_near() -> None:
    ratios = [row.calibrated_cycles / row.measured_cycles for row in ledger() if row.kind == "operator"]
    assert sum(0.8 <= ratio <= 1.25 for ratio in ratios) >= 0.85 * len(ratios)


def test_configurations_keep_their_rank() -> None:
    networks = defaultdict(list)
    for row in ledger():
        if row.kind == "network":
            networks[row.model].append(row)
    for rows in networks.values():
        by_family = defaultdict(list)
        for row in rows:
            by_family[row.family].append(row)
        for each in by_family.values():
            measured = sorted(each, key=lambda row: row.measured_cycles)
            assert measured == sorted(each, key=lambda row: row.fitted_cycles)


def test_where_it_ran_may_differ_from_what_the_compiler_was_told() -> None:
    low = next(each for each in measurements() if each.system_config == "Ethos_U85_SYS_DRAM_Low")
    assert compiled_for(low).system_config.axi1.read_latency_cycles == 500
    assert ran_on(low).system_config.axi1.read_latency_cycles == 250


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(TargetError, match="ethos-u99"):
        load_coefficients("ethos-u99")


@pytest.mark.long
def test_the_fit_gives_what_ships(shared: Path, tmp_path: Path) -> None:
    models = shared / "calibration"
    if not models.is_dir():
        pytest.skip("the measured models are not there")
    spec = importlib.util.spec_from_file_location("fit_ethos_u", ROOT / "tools/fit_ethos_u.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main([str(models), "--output", str(tmp_path)]) == 0
    for name in (*(f"coefficients/{family}.toml" for family in FAMILIES), "ledger.csv"):
        assert (tmp_path / name).read_bytes() == (Path(FOLDER) / name).read_bytes()

"""The fit finds what made-up measurements were made with, and the cores that ship are what it finds in real ones."""

import math
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from mlia.targets.cores import CORES, Core, core_names, load_core

TOOL = Path(__file__).parents[3] / "tools/fit_cortex_m.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = spec_from_file_location("fit_cortex_m", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inputs(tool: ModuleType, shared: Path) -> tuple[Path, Path]:
    measurements = shared.parent / "data/published"
    if not measurements.is_dir():
        pytest.skip("the folder of measurements is not there")
    return measurements, shared / "mlperf_tiny"


def submission(tool: ModuleType, **fields: str) -> dict[str, str]:
    row = {
        "system": "NUCLEO-L4R5ZI_MICROTVM-CMSIS-NN",
        "framework": "microTVM",
        "accelerator": "",
        "core": "",
        **fields,
    }
    return {"version": "1.0", "benchmark": "kws", "cycles": "1", **row}


def made_up_rows(tool: ModuleType, scales: dict[str, float], offsets: dict[str, float]) -> list[object]:
    """Rows that differ in what they are made of, of two cores of each family."""
    rows = []
    for core, scale in scales.items():
        prior = tool.prior_cycles(core)
        for term in tool.FITTED_TERMS:
            work = dict.fromkeys(tool.FITTED_TERMS, 10.0) | {term: 10_000.0}
            true = {name: prior[name] * scale * offsets.get(name, 1.0) for name in work}
            rows.append(tool.Row(core, core, term, tool.predict(true, work), work, 0.001))
    return rows


def test_the_fit_finds_scales_and_offsets_again(tool: ModuleType) -> None:
    scales = {"cortex-m4": 1.8, "cortex-m33": 1.4, "cortex-m55": 1.1, "cortex-m85": 0.9}
    offsets = {"matrix_mac": 1.3, "column": 0.8, "depthwise_mac": 1.1}
    fit = tool.fit_cycles(made_up_rows(tool, scales, offsets))
    for core, scale in scales.items():
        prior = tool.prior_cycles(core)
        for term in tool.FITTED_TERMS:
            expected = prior[term] * scale * offsets.get(term, 1.0)
            assert fit.cycles[core][term] == pytest.approx(expected, rel=0.05)


def test_what_is_not_measured_keeps_its_prior(tool: ModuleType) -> None:
    rows = made_up_rows(tool, {"cortex-m4": 2.0}, {})
    fit = tool.fit_cycles(rows)
    assert fit.scales["cortex-m4"] == pytest.approx(2.0, rel=0.02)
    assert fit.scales["cortex-m33"] == fit.scales["cortex-m4"]
    assert fit.cycles["cortex-m55"] == pytest.approx(tool.prior_cycles("cortex-m55"))


@pytest.mark.parametrize(
    ("fields", "is_used"),
    [
        ({}, True),
        ({"system": "microtvm_native/NUCLEO_L4R5ZI"}, False),
        ({"system": "EK-RA6M4", "framework": "tflite-micro"}, True),
        ({"system": "EK-RA8D1", "framework": "TensorFlow Lite for micro"}, True),
        ({"framework": "X-CUBE-AI v9.0"}, False),
        ({"framework": "TensorFlow Lite for Microcontrollers", "accelerator": "Silicon Labs MVP"}, False),
    ],
)
def test_only_cmsis_nn_on_the_cpu_is_fitted_to(tool: ModuleType, fields: dict[str, str], is_used: bool) -> None:
    assert tool.is_cmsis_nn(submission(tool, **fields)) is is_used


def test_ratios_compare_one_engine_in_one_version(tool: ModuleType) -> None:
    rows = [
        submission(tool, core="Arm Cortex-M4F", framework="Engine v9.0", cycles="100"),
        submission(tool, core="32-Bit ARM® Cortex®-M7", framework="Engine v9.0.0", cycles="60"),
        submission(tool, core="Cortex-M7", framework="Other", cycles="1"),
        submission(tool, core="Cortex-M7", framework="Engine v9.0", system="board_float", cycles="1000"),
    ]
    assert tool.ratios(rows, "M7", "M4") == [0.6]


def test_a_core_survives_being_written(tool: ModuleType) -> None:
    core = load_core("cortex-m55")
    assert msgspec.toml.decode(tool.as_toml(core), type=Core) == core


def test_real_measurements_are_met(tool: ModuleType, inputs: tuple[Path, Path]) -> None:
    measurements, models = inputs
    networks = {name: tool.read_tflite((models / file).read_bytes()).main for name, file in tool.NETWORKS.items()}
    rows = tool.fitted_rows(tool.read_submissions(measurements / "cortex_m_mlperf_tiny.csv"), networks)
    boards = {(row.core, row.board) for row in rows}
    assert {core for core, _ in boards} == {"cortex-m4", "cortex-m33", "cortex-m55", "cortex-m85"}
    for row in rows:
        assert abs(tool.predict(load_core(row.core).cycles, row.work) / row.cycles - 1) < 0.15, row
    held_out = tool.splits(rows)["Cross-validation: one network of one board left out"]
    errors = [abs(math.log(1 + tool.error(row, tool.fit_cycles(kept)))) for kept, held in held_out for row in held]
    assert sum(errors) / len(errors) < 0.15
    assert max(errors) < 0.25


def test_the_cores_that_ship_are_the_fit(
    tool: ModuleType, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurements, models = inputs
    monkeypatch.setattr(sys, "argv", ["fit", str(measurements), str(models), "--output", str(tmp_path)])
    assert tool.main() == 0
    for name in core_names():
        assert (tmp_path / f"{name}.toml").read_text() == (Path(CORES) / f"{name}.toml").read_text()

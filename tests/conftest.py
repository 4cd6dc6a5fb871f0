"""Models that tests work on: the sample that ships, wake words from PyPI, and a folder of more, if it is there."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Keras has several engines; this one is in the dev extra.
os.environ.setdefault("KERAS_BACKEND", "jax")
if "PYTEST_XDIST_WORKER" in os.environ:  # each worker and its children keep one core busy, not all of them
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
# The gate draws the same examples every day, and no slow machine fails it; new ones are drawn by
# `pytest --hypothesis-profile=random -m hypothesis`, which says how to draw again what it found.
PATIENT = [HealthCheck.too_slow]
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=PATIENT)
settings.register_profile("random", deadline=None, suppress_health_check=PATIENT, print_blob=True)
settings.load_profile("same")
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples/ds_cnn_small_int8.tflite"
SHARED = ROOT.parent / "shared/models"


def wake_words() -> list[Path]:
    spec = find_spec("pymicro_wakeword")
    assert spec is not None
    assert spec.origin is not None
    return sorted((Path(spec.origin).parent / "models").glob("*.tflite"))


def real_models() -> list[Path]:
    """All models that are there; single operators, of which there are many alike, by one."""
    shared = [path for path in sorted(SHARED.rglob("*.tflite")) if path.parent.name != "single_operators"]
    return [SAMPLE, *wake_words(), *shared, *sorted(SHARED.rglob("conv3x3_12x3.tflite"))]


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes while remedies are tried, so that a report does not depend on how busy the machine is."""
    monkeypatch.setattr("mlia.pipeline.check.advise.monotonic", lambda: 0.0)


@pytest.fixture
def sample() -> Path:
    return SAMPLE


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder of further models is not there")
    return SHARED

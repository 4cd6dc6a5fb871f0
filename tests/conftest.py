"""Models that tests work on: the sample that ships, wake words from PyPI, and a folder of more, if it is there."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

# Keras has several engines; this one is in the dev extra.
os.environ.setdefault("KERAS_BACKEND", "jax")
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


@pytest.fixture
def sample() -> Path:
    return SAMPLE


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder of further models is not there")
    return SHARED

from importlib import import_module
from importlib.metadata import version

import pytest
from conftest import ROOT, SAMPLE

import mlia
from mlia.testing import quantize_synthetically


def test_public_names_are_exactly_these() -> None:
    assert sorted(mlia.__all__) == sorted(name for name in dir(mlia) if not name.startswith("_"))
    for name in mlia.__all__:
        assert getattr(mlia, name).__doc__
    with pytest.raises(AttributeError, match="nothing"):
        _ = mlia.nothing


def test_version_is_the_distribution_s() -> None:
    assert mlia.__version__ == version("mlia")


def test_check_from_python() -> None:
    report = mlia.check(SAMPLE, mlia.load_target("ethos-u55-256"))
    assert isinstance(report, mlia.CheckReport)
    told: list[str] = []
    again = mlia.check(str(SAMPLE), "ethos-u55-256", progress=told.append)
    assert again == report
    assert told[0] == "compiling ds_cnn_small_int8.tflite for ethos-u55-256"
    assert told[1].startswith("trying ")


def test_errors_from_python() -> None:
    with pytest.raises(mlia.TargetError):
        mlia.check(SAMPLE, "nope")
    with pytest.raises(mlia.ModelError):
        mlia.check("missing.tflite", "ethos-u55-256")


def test_every_public_definition_is_documented_and_every_file_short() -> None:
    for path in (ROOT / "src/mlia").rglob("*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 400 or path.name == "tflite_schema.py", path
        if lines:
            assert lines[0].startswith('"""'), path


def test_sample_is_small_and_made_by_its_script() -> None:
    import sys

    sys.path.insert(0, str(ROOT / "examples"))
    try:
        made = import_module("make_ds_cnn_small").ds_cnn_small()
    finally:
        sys.path.pop(0)
    assert SAMPLE.stat().st_size < 100_000
    assert made == SAMPLE.with_name("ds_cnn_small_float.tflite").read_bytes()
    assert quantize_synthetically(made) == SAMPLE.read_bytes()

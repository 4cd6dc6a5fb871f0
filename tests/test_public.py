import inspect
import re
from importlib import import_module
from importlib.metadata import version

import pytest
from conftest import ROOT, SAMPLE

import mlia
from mlia.render.fields import field_texts
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
    again = mlia.check(str(SAMPLE), "ethos-u55-256", options=mlia.Options(progress=told.append))
    assert again == report
    assert told[0] == "compiling ds_cnn_small_int8.tflite for ethos-u55-256"
    assert told[1].startswith("trying ")


def test_help_begins_with_what_it_is_for() -> None:
    import pydoc

    text = pydoc.plain(pydoc.render_doc(mlia))
    assert "mlia - How a neural network will run on Arm hardware" in text.partition("\n\n")[2][:200]
    example = re.search(r"^    import mlia\n(.*?)\n\n^[A-Z]", mlia.__doc__ or "", re.DOTALL | re.MULTILINE)
    assert example
    lines = [line for line in example[0].splitlines() if line.startswith("    ")]
    assert len(lines) <= 6
    code = "\n".join(line.strip() for line in lines).replace("model.tflite", str(SAMPLE))
    exec(compile(code, "the example of help(mlia)", "exec"), {})


@pytest.mark.parametrize("verb", ["check", "compare", "optimize", "convert", "verify", "run", "calibrate", "view"])
def test_a_call_has_seven_parameters_at_most(verb: str) -> None:
    function = getattr(mlia, verb)
    names = [*inspect.signature(function).parameters]
    assert len(names) <= 7
    told = re.findall(r"^ {8}(\w+): ", function.__doc__.partition("Args:")[2].partition("Raises:")[0], re.MULTILINE)
    assert told == names


def test_every_option_of_a_group_is_documented() -> None:
    for group in (mlia.Options, mlia.Scope):
        assert [*field_texts(group)] == [*group.__struct_fields__]


def test_an_option_that_a_verb_has_no_use_for_is_refused() -> None:
    vela, shapes, timed = (
        mlia.Options(estimator="vela"),
        mlia.Options(input_shapes={"": (1,)}),
        mlia.Options(timeout_s=9),
    )
    refused = [
        (lambda: mlia.verify(SAMPLE, "ethos-u55-128", options=vela), r"verify\(\) has no use for the option estimator"),
        (lambda: mlia.run(SAMPLE, "ethos-u55-128", {}, options=vela), r"run\(\) has no use for the option estimator"),
        (lambda: mlia.convert(SAMPLE, options=timed), r"convert\(\) has no use for the option timeout_s"),
        (lambda: mlia.calibrate("runs.csv", "ethos-u55-128", options=shapes), "no use for the option input_shapes"),
    ]
    for call, words in refused:
        with pytest.raises(mlia.MliaError, match=words):
            call()


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

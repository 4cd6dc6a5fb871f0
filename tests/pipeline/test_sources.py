"""What the verbs take as a model, a target and samples in a Python session, and what they say to anything else."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SAMPLE

import mlia
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms.calibration import MAXIMUM_BYTES, load_calibration, load_samples

TARGET = "ethos-u55-128"
FLOAT = SAMPLE.with_name("ds_cnn_small_float.tflite")
ARCHIVE = ROOT / "tests/graph/formats/fixtures/small_3.keras"


def keras_object(package: str, save: Callable[[str], object], name: object = "spotter") -> Any:
    """What a model of Keras is to us: an object of a class of that package, which can save itself."""
    base = type("Model", (), {"__module__": package, "save": lambda self, path: save(path), "name": name})
    return type("UsersModel", (base,), {"__module__": "__main__"})()


def two_inputs() -> Any:
    net = Sketch("two")
    a, b = net.input("a", (1, 4)), net.input("b", (1, 3))
    return net.graph([net.unary("ABS", a, "x"), net.unary("ABS", b, "y")])


def same_figures(report: mlia.CheckReport, other: mlia.CheckReport) -> bool:
    return (report.model.sha256, report.targets) == (other.model.sha256, other.targets)


def check(model: Any, **options: Any) -> mlia.CheckReport:
    return mlia.check(model, TARGET, try_remedies=False, **options)


def test_a_model_is_a_path_bytes_or_a_graph() -> None:
    report = check(str(SAMPLE))
    content = SAMPLE.read_bytes()
    for model in (SAMPLE, content, bytearray(content), memoryview(content), read_tflite(content)):
        assert same_figures(check(model), report)
    assert check(SAMPLE).model.name == SAMPLE.name
    assert check(content).model.name == "unnamed model"
    assert mlia.compare(content, SAMPLE, TARGET).targets[0].verdict == "as fast"


@pytest.mark.parametrize("package", ["keras.src.models.model", "tf_keras.src.engine", "tensorflow.python.keras"])
def test_a_keras_model_is_saved_read_and_removed(package: str) -> None:
    paths = []

    def save(path: str) -> None:
        paths.append(Path(path))
        shutil.copy(ARCHIVE, path)

    model = keras_object(package, save)
    report = check(model)
    assert report.model.name == "spotter"
    assert same_figures(report, check(ARCHIVE))
    assert mlia.convert(model).graph.file == mlia.convert(ARCHIVE).graph.file
    assert not any(path.parent.exists() for path in paths)
    assert len(paths) == 2
    assert check(keras_object(package, save, name=None)).model.name == "unnamed model"


def test_a_keras_model_that_cannot_be_saved_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fails(path: str) -> None:
        Path(path).write_bytes(b"half")
        raise NotImplementedError("a layer\nhas no config")

    with pytest.raises(
        mlia.ModelError, match="cannot read spotter: Keras cannot save the model: a layer has no config"
    ):
        check(keras_object("keras", fails))
    with pytest.raises(mlia.ModelError, match="Keras did not save the model"):
        check(keras_object("keras", lambda path: None))
    assert not [*tmp_path.iterdir()]


def test_a_torch_module_is_read_by_a_function_of_its_own() -> None:
    module = type("Module", (), {"__module__": "torch.nn.modules.module", "save": lambda self, path: None})()
    with pytest.raises(mlia.ModelError, match=r"mlia\.read_module\(module, example_inputs\)"):
        check(module)


@pytest.mark.parametrize(
    "model", [None, 5, 1.5, [SAMPLE], {"a": 1}, object(), keras_object("other", lambda path: None)]
)
def test_other_models_are_refused_by_every_verb(model: Any) -> None:
    verbs: list[Callable[[], object]] = [
        lambda: check(model),
        lambda: mlia.convert(model),
        lambda: mlia.optimize(model, TARGET),
        lambda: mlia.verify(model, TARGET),
        lambda: mlia.run(model, TARGET, {}),
        lambda: mlia.compare(SAMPLE, model, TARGET),
        lambda: mlia.load_model(model),
    ]
    for verb in verbs:
        with pytest.raises(mlia.ModelError, match=r"a model is a path, the bytes of a \.tflite, .* and not "):
            verb()


def test_bytes_that_are_no_tflite_are_refused() -> None:
    for content in (b"", b"hello", ARCHIVE.read_bytes()):
        with pytest.raises(mlia.ModelError, match="bytes are read as a TFLite file, and these are none"):
            check(content)


def test_a_target_is_a_name_a_path_or_a_value(tmp_path: Path) -> None:
    from mlia.targets.writing import write_profile

    target = mlia.load_target(TARGET)
    profile = tmp_path / "board.toml"
    profile.write_text(write_profile(target))  # type: ignore[arg-type]
    wanted = check(SAMPLE).targets[0].results
    assert mlia.check(SAMPLE, profile, try_remedies=False).targets[0].results == wanted
    assert mlia.check(SAMPLE, (target,), try_remedies=False).targets[0].results == wanted
    assert mlia.verify(SAMPLE, profile, samples=1).outputs[0].outcome == "exact"
    for wrong in (None, 5, [5], [None], b"ethos-u55-128", {"a": 1}):
        with pytest.raises(mlia.TargetError, match=r"a target is a name, the path of a profile, .* and not "):
            mlia.check(SAMPLE, wrong)  # type: ignore[arg-type]
    with pytest.raises(mlia.TargetError, match="a target is a name"):
        mlia.run(SAMPLE, 5, {})  # type: ignore[arg-type]


VALUES = np.random.default_rng(0).normal(size=(10, 49, 10, 1)).astype(np.float32)
SOURCES: dict[str, Callable[[], Any]] = {
    "array": lambda: VALUES,
    "list of one array": lambda: [VALUES],
    "dict": lambda: {"mfcc": VALUES},
    "nested lists": lambda: {"mfcc": VALUES.tolist()},
    "function": lambda: lambda: iter(VALUES),
    "function of a list": lambda: lambda: [[each] for each in VALUES],
    "generator": lambda: (each for each in VALUES),
    "generator of lists with a batch axis": lambda: ([each[None]] for each in VALUES),
    "generator of dicts": lambda: ({"mfcc": each} for each in VALUES),
}


@pytest.mark.parametrize("form", SOURCES)
def test_samples_in_any_form_calibrate_alike(form: str) -> None:
    graph = read_tflite(FLOAT.read_bytes())
    found = load_calibration(SOURCES[form](), graph)
    assert found.description == "arrays (8 samples, 2 more held out)"
    wanted = load_calibration({"mfcc": VALUES}, graph)
    assert (found.calibrating[0] == wanted.calibrating[0]).all()
    assert (found.held_out[0] == wanted.held_out[0]).all()


def test_a_check_and_a_conversion_take_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", VALUES)
    made = mlia.convert(FLOAT, calibration=VALUES)
    assert made.graph.file == mlia.convert(FLOAT, calibration=tmp_path / "samples.npy").graph.file
    report = check(FLOAT, calibration=lambda: iter(VALUES))
    assert report.model.conversion is not None
    assert report.model.conversion.calibration == "arrays (8 samples, 2 more held out)"
    assert len(made.graph.file) == report.model.size_bytes


def test_both_models_of_a_comparison_see_a_generator_whole() -> None:
    content = bytes(write_tflite(read_tflite(FLOAT.read_bytes())))
    both = mlia.compare(FLOAT, content, TARGET, calibration=(each for each in VALUES))
    described = [side.model.conversion.calibration for side in (both.before, both.after) if side.model.conversion]
    assert described == ["arrays (8 samples, 2 more held out)"] * 2


def test_runs_and_verification_take_arrays() -> None:
    codes = np.random.default_rng(1).integers(-128, 128, (2, 49, 10, 1), dtype=np.int8)
    wanted = mlia.run(SAMPLE, TARGET, {"mfcc": codes})["labels"]
    for source in (codes, [codes], lambda: iter(codes), (each for each in codes)):
        assert (mlia.run(SAMPLE, TARGET, source)["labels"] == wanted).all()
    found = mlia.verify(SAMPLE, TARGET, inputs=codes)
    assert found.samples == "2 of arrays"
    assert not found.is_unexplained


def test_labels_come_with_the_arrays() -> None:
    found = load_calibration({"x": VALUES, "labels": [0] * 10}, read_tflite(FLOAT.read_bytes()))
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0]


def test_several_inputs() -> None:
    a, b = np.ones((3, 4), np.float32), np.zeros((3, 3), np.float32)
    forms: list[Any] = [
        [a, b],
        {"b": b, "a": a},
        zip(a, b, strict=True),
        lambda: ({"b": y, "a": x} for x, y in zip(a, b, strict=True)),
    ]
    for source in forms:
        found = load_samples(source, two_inputs())
        assert [[each.tolist() for each in sample] for sample in found] == [[[[1] * 4], [[0] * 3]]] * 3


def endless() -> Iterator[np.ndarray]:
    while True:
        yield np.zeros(1 << 20, np.uint8).reshape(1, -1)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (5, "samples are the path of a file or folder, arrays, or a function .*, and not a value of type int"),
        (b"samples.npz", "and not a value of type bytes"),
        (lambda: None, "and not None"),
        ([VALUES, VALUES], r"there are 2 arrays, and the model has 1 inputs \(mfcc\)"),
        (iter(()), "the generator yields no samples"),
        ((each for each in (np.zeros(3), np.zeros(4))), r"has shape \[4\], and those before \[3\]"),
        (({name: np.zeros(3)} for name in "ab"), "a sample is for b, and those before for a"),
        ({"mfcc": [[1], [1, 2]]}, "numpy makes no array of them"),
        ({"mfcc": ["text", "more"]}, "not numbers"),
        ({"other": VALUES, "more": VALUES}, "no array for the input 'mfcc'"),
        (VALUES[:, :5], r"samples of shape \[5, 10, 1\]"),
        (VALUES[:1], "at least 2"),
    ],
)
def test_other_samples_are_refused(source: Any, words: str) -> None:
    with pytest.raises(mlia.TransformError, match=words):
        mlia.convert(FLOAT, calibration=source)


def test_a_generator_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAXIMUM_BYTES == 4 << 30
    monkeypatch.setattr("mlia.transforms.calibration.MAXIMUM_BYTES", 8 << 20)
    with pytest.raises(mlia.TransformError, match=r"more than 8,388,608 bytes of samples"):
        load_samples(endless, read_tflite(FLOAT.read_bytes()))


def test_what_the_users_function_raises_is_the_users() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield VALUES[0]
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        mlia.convert(FLOAT, calibration=broken)


def test_other_arguments_are_refused() -> None:
    with pytest.raises(mlia.ReportError, match="a report is read from a path, and not from a value of type int"):
        mlia.view(5)  # type: ignore[arg-type]
    with pytest.raises(mlia.TransformError, match="a recipe is a Recipe or the path of a TOML file, and not"):
        mlia.optimize(SAMPLE, TARGET, 5)  # type: ignore[arg-type]
    with pytest.raises(mlia.MeasurementError, match="measured runs are paths of tables or MODEL=LOG, and not"):
        mlia.calibrate([5], TARGET)  # type: ignore[list-item]


def test_a_check_of_bytes_imports_no_numpy() -> None:
    code = (
        "import mlia, sys; from pathlib import Path\n"
        "report = mlia.check(Path(sys.argv[1]).read_bytes(), 'ethos-u55-128', try_remedies=False)\n"
        "str(report), report._repr_html_(), report.to_json(), mlia.targets(), mlia.rules()\n"
        "print([name for name in ('numpy', 'pandas', 'keras', 'torch') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code, SAMPLE], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"

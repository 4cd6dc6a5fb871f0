"""A model executed as the NPU would: outputs, comparison, and what is told of differences."""

from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE
from msgspec.structs import replace

import mlia
from mlia.backends import comparison
from mlia.backends.comparison import Difference
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.executing import operators_of, prepare
from mlia.pipeline.explaining import INHERITED, explain
from mlia.testing import IntegerSketch
from mlia.transforms.interpreter import ReferenceModel
from mlia.verification import Outcome


def reference(content: bytes, samples: np.ndarray) -> np.ndarray:
    model = ReferenceModel(content)
    return np.stack([model.run([sample])[0] for sample in samples])


def noise(count: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (count, *shape)).astype(np.int8)


@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-512"])
def test_simulate_gives_what_the_reference_gives(target: str, tmp_path: Path) -> None:
    samples = noise(3, (1, 49, 10, 1))
    found = mlia.simulate(SAMPLE, target, {"mfcc": samples})
    assert list(found) == ["labels"]
    assert (found["labels"] == reference(SAMPLE.read_bytes(), samples)).all()
    np.savez(tmp_path / "in.npz", mfcc=samples)
    assert (mlia.simulate(SAMPLE, target, tmp_path / "in.npz")["labels"] == found["labels"]).all()


def test_real_numbers_are_quantized() -> None:
    main = read_tflite(SAMPLE.read_bytes()).main
    quantization = main.tensors[main.inputs[0]].quantization
    assert quantization is not None
    codes = noise(1, (1, 49, 10, 1))
    real = (codes.astype(np.float64) - quantization.zero_point[0]) * quantization.scale[0]
    found = [mlia.simulate(SAMPLE, "ethos-u55-128", {"mfcc": values})["labels"] for values in (codes, real)]
    assert (found[0] == found[1]).all()


def test_a_compiled_model_is_simulated_as_it_is(tmp_path: Path) -> None:
    compiled = tmp_path / "compiled.tflite"
    compiled.write_bytes(bytes(prepare(SAMPLE, "ethos-u55-64").compiled.content))
    samples = noise(2, (1, 49, 10, 1))
    assert (mlia.simulate(compiled, None, {"mfcc": samples})["labels"] == reference(SAMPLE.read_bytes(), samples)).all()


def test_host_and_npu_take_turns() -> None:
    net = IntegerSketch("turns")
    x = net.filter("CONV_2D", net.image("in", (1, 12, 12, 8)), filters=8, name="one")
    x = net.plain(
        "MEAN", x, net.integers("axes", 3), shape=(1, 12, 12, 1), name="mean", table="ReducerOptions", keep_dims=True
    )
    x = net.filter("CONV_2D", x, filters=4, name="two")
    content = write_tflite(net.graph([x]))
    found = mlia.verify(read_tflite(content), "ethos-u55-128")
    assert (found.npu_segments, found.host_operators) == (2, 1)
    assert not found.is_unexplained
    assert found.outputs[0].outcome == Outcome.EXACT
    samples = noise(2, (1, 12, 12, 8))
    assert (
        mlia.simulate(read_tflite(content), "ethos-u55-128", {"in": samples})["two"] == reference(content, samples)
    ).all()


def test_a_model_without_the_npu_is_executed_by_the_host() -> None:
    net = IntegerSketch("host")
    x = net.image("in", (1, 12, 12, 8))
    x = net.plain(
        "MEAN", x, net.integers("axes", 3), shape=(1, 12, 12, 1), name="mean", table="ReducerOptions", keep_dims=True
    )
    found = mlia.verify(read_tflite(write_tflite(net.graph([x]))), "ethos-u55-128")
    assert (found.npu_segments, found.host_operators) == (0, 1)
    assert found.outputs[0].outcome == Outcome.EXACT


def test_seeds_and_counts_of_samples() -> None:
    first = mlia.verify(SAMPLE, "ethos-u55-128", samples=1)
    assert first.outputs[0].elements == 12 * 5
    assert "1 random inputs" in first.samples
    assert mlia.verify(SAMPLE, "ethos-u55-128", samples=1) == first


def test_every_operation_has_its_operator() -> None:
    names = operators_of(prepare(SAMPLE, "ethos-u55-128"))
    assert "0, CONV_2D 'conv_1'" in names.values()
    assert "12, SOFTMAX 'labels'" in names.values()


@pytest.mark.parametrize(
    ("model", "target", "error", "message"),
    [
        (SAMPLE, None, mlia.TargetError, "name the target"),
        (SAMPLE, "cortex-m4", mlia.TargetError, "no NPU"),
        (SAMPLE, "ethos-u99-1", mlia.TargetError, "no target"),
    ],
)
def test_what_cannot_be_executed(model: Path, target: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mlia.verify(model, target)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(mlia.TransformError, match="no array for the input"):
        mlia.simulate(SAMPLE, "ethos-u55-128", {"a": noise(1, (1, 2)), "b": noise(1, (1, 2))})
    with pytest.raises(mlia.TransformError, match="samples of shape"):
        mlia.simulate(SAMPLE, "ethos-u55-128", {"mfcc": noise(1, (1, 2))})


def damaged_stream(content: bytes) -> bytes:
    """A compiled model in which one byte of the weights is another."""
    graph = read_tflite(content)
    main = graph.main
    index = main.operators[0].inputs[1]
    data = bytearray(main.tensors[index].data)
    data[len(data) // 2] ^= 0x10
    tensors = list(main.tensors)
    tensors[index] = replace(tensors[index], data=memoryview(bytes(data)))
    return write_tflite(replace(graph, subgraphs=(replace(main, tensors=tuple(tensors)),)))


def test_a_wrong_weight_is_noticed() -> None:
    prepared = prepare(SAMPLE, "ethos-u55-128")
    samples = [[sample] for sample in noise(2, (1, 49, 10, 1))]
    compiled = bytes(prepared.compiled.content)
    exact = comparison.compare(SAMPLE.read_bytes(), compiled, prepared.links, samples)
    assert not any(each.different_elements for each in exact.operators.values())
    try:
        found = comparison.compare(SAMPLE.read_bytes(), damaged_stream(compiled), prepared.links, samples)
    except mlia.SimulatorError:
        return  # the stream of weights does not end where it should: noticed as well
    assert any(each.different_elements for each in found.operators.values())


def verdicts(different: dict[int, int], per_channel: bool = False) -> list[tuple[Outcome, str]]:
    """Of three dense operators and an addition, of which some differ by so many codes."""
    net = IntegerSketch("dense")
    x = net.image("in", (1, 16))
    for name in ("a", "b", "c"):
        x = net.dense(x, 16, name=name)
    x = net.plain("RELU", x, name="relu")
    graph = net.graph([x])
    found = {index: Difference(16, 1 if index in different else 0, different.get(index, 0)) for index in range(4)}
    return [(check.outcome, check.reason) for check in explain(graph, found, "ethos-u55")]


def test_known_differences_are_documented_and_inherited() -> None:
    assert [outcome for outcome, _ in verdicts({})] == [Outcome.EXACT] * 4
    first, second, _, last = verdicts({0: 1, 1: 9, 3: 4})
    assert first[0] == Outcome.DOCUMENTED
    assert second == (Outcome.DOCUMENTED, INHERITED)
    assert last == (Outcome.DIFFERENT, "")  # what it reads was exact again


def test_more_than_is_known_is_a_difference() -> None:
    assert verdicts({0: 100})[0] == (Outcome.DIFFERENT, "")

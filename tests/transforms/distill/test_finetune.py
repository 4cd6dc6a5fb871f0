import sys
from functools import cache

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import as_file, sandwich

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms.calibration import Array, Calibration
from mlia.transforms.child import call, call_with_progress
from mlia.transforms.constants import real, stored, with_constants
from mlia.transforms.dequantize import WEIGHTED, bias_of
from mlia.transforms.distill import finetune as module
from mlia.transforms.distill.finetune import Finetuned, Restriction, finetune
from mlia.transforms.distill.student import Student, Training
from mlia.transforms.interpreter import outputs
from mlia.transforms.quantize import quantize

SAMPLES = 60


def images(count: int, seed: int) -> Array:
    """Smooth random images: a few waves each."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:12, 0:12] / 12
    waves = np.zeros((count, 1, 12, 12, 3))
    for _ in range(3):
        u, v, phase = random.uniform(-9, 9, (3, count, 1, 1, 1, 3))
        waves += np.sin(rows[..., None] * u + columns[..., None] * v + phase)
    return waves.astype(np.float32)


@cache
def floating() -> Graph:
    net = Sketch("small", seed=3)
    x = net.input("image", (1, 12, 12, 3))
    x = net.convolution(x, filters=8, kernel=(3, 3), stride=(2, 2), name="conv")
    x = net.depthwise(x, name="depthwise")
    x = net.convolution(x, filters=16, name="pointwise")
    x = net.average_pool(x, kernel=(6, 6), name="pool")
    x = net.reshape(x, (1, 16), name="flatten")
    x = net.fully_connected(x, units=5, name="dense")
    return read_tflite(write_tflite(net.graph([net.softmax(x, name="classes")])))


@cache
def integer() -> Graph:
    samples = images(SAMPLES, 0)
    return quantize(floating(), Calibration("waves", False, (samples[:50],), (samples[50:],))).graph


def weights_of(graph: Graph) -> list[int]:
    return [operator.inputs[1] for operator in graph.operators if operator.kind in WEIGHTED]


def pruned(codes: Array, share: float) -> Array:
    return np.where(np.abs(codes) <= np.quantile(np.abs(codes), share), 0, codes).astype(np.int8)


def clustered(codes: Array, clusters: int) -> Array:
    """Every code but zero as the nearest of evenly spread others, zero among them."""
    grid = np.unique(np.linspace(-120, 120, clusters - 1).astype(int))
    snapped = grid[np.abs(codes[..., None].astype(int) - grid).argmin(axis=-1)]
    return np.where(codes == 0, 0, snapped).astype(np.int8)


@cache
def damaged() -> tuple[Graph, dict[int, Restriction]]:
    graph = integer()
    first, *further = weights_of(graph)
    contents = {index: clustered(pruned(stored(graph.main.tensors[index]), 0.6), 8) for index in further}
    restrictions = {index: Restriction(mask=True, clusters=8) for index in further}
    contents[first] = pruned(stored(graph.main.tensors[first]), 0.6)
    return with_constants(graph, contents), restrictions


@cache
def tuned(steps: int = 40, seed: int = 0) -> Finetuned:
    graph, restrictions = damaged()
    models = bytes(floating().content), bytes(graph.content)
    return call(finetune, *models, [images(SAMPLES, 0)], restrictions, steps, seed=seed)


def distance(graph: Graph, samples: Array) -> float:
    expected, found = (call(outputs, bytes(each.content), [samples])[0] for each in (floating(), graph))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.long
def test_it_comes_closer_on_samples_that_it_was_not_given() -> None:
    graph, _ = damaged()
    result = tuned()
    assert result.step > 0
    assert result.after < 0.8 * result.before
    other = images(50, 1)
    assert distance(with_constants(graph, result.constants), other) < 0.8 * distance(graph, other)


def test_what_was_true_of_the_weights_stays_true() -> None:
    graph, restrictions = damaged()
    result = tuned()
    biases = {bias_of(operator) for operator in graph.operators if operator.kind in WEIGHTED}
    assert {*result.constants} == {*weights_of(graph)} | biases
    for index, found in result.constants.items():
        before = stored(graph.main.tensors[index])
        assert (found.dtype, found.shape) == (before.dtype, before.shape)
        assert (found != before).any()
        if index in restrictions:
            assert (found[before == 0] == 0).all()
            assert len(np.unique(found)) <= 8
    (free,) = {*weights_of(graph)} - {*restrictions}
    zeros = stored(graph.main.tensors[free]) == 0
    assert result.constants[free][zeros].any()
    assert np.abs(result.constants[free].astype(int)).max() <= 127


def test_the_distance_is_that_of_litert() -> None:
    graph, _ = damaged()
    result = tuned()
    _, (held_out,) = module._split([images(SAMPLES, 0)], SAMPLES, np.random.default_rng(0), print)
    assert len(held_out) == 12
    assert result.before == pytest.approx(distance(graph, held_out), rel=1e-5)
    assert result.after == pytest.approx(distance(with_constants(graph, result.constants), held_out), rel=1e-5)


@pytest.mark.long
def test_the_same_seed_gives_the_same_result() -> None:
    graph, restrictions = damaged()
    models = bytes(floating().content), bytes(graph.content)
    again = call(finetune, *models, [images(SAMPLES, 0)], restrictions, 40)
    assert (again.step, again.before, again.after) == (tuned().step, tuned().before, tuned().after)
    for index, found in again.constants.items():
        np.testing.assert_array_equal(found, tuned().constants[index])


@pytest.mark.long
@pytest.mark.parametrize("steps", [0, 2])
def test_what_cannot_come_closer_stays_as_it_is(steps: int) -> None:
    graph, restrictions = damaged()
    content = bytes(graph.content)
    result = call(finetune, content, content, [images(SAMPLES, 0)], restrictions, steps)
    assert (result.step, result.before, result.after) == (0, 0.0, 0.0)
    for index, found in result.constants.items():
        np.testing.assert_array_equal(found, stored(graph.main.tensors[index]))


def test_progress_is_told() -> None:
    graph, restrictions = damaged()
    models = bytes(floating().content), bytes(graph.content)
    texts: list[str] = []
    call_with_progress(texts.append, finetune, *models, [images(SAMPLES, 0)], restrictions, 45)
    assert len(texts) == 23
    assert texts[:2] == ["step 2 of 45", "step 4 of 45"]
    assert texts[11].startswith("step 24 of 45: distance 0.")
    assert texts[-1].startswith("step 45 of 45: distance 0.")


def test_the_student_computes_what_litert_does() -> None:
    graph, restrictions = damaged()
    student = Student(graph.main, {*restrictions})
    samples = images(8, 2)
    (expected,) = call(outputs, bytes(graph.content), [samples])
    output = graph.main.outputs[0]
    found = jax.jit(jax.vmap(lambda sample: student.run(student.start, [sample])[output]))(samples)
    assert np.abs(np.asarray(found) - expected).max() < 3 / 256  # the scale of a SOFTMAX
    for index, codes in student.contents(student.start).items():
        before = stored(graph.main.tensors[index])
        assert np.abs(codes.astype(int) - before).max() <= (0 if codes.dtype == np.int8 else 1)


@cache
def dense(activations: str = "int8") -> Graph:
    """Two fully connected operators after one, without a SOFTMAX."""
    graph = floating_dense()
    samples = noise()
    calibration = Calibration("noise", False, (samples[:60],), (samples[60:],))
    return quantize(graph, calibration, activations=activations).graph


@cache
def floating_dense() -> Graph:
    net = Sketch("regression", seed=1)
    x = net.fully_connected(net.input("x", (1, 20)), units=24, activation="RELU", name="hidden")
    ends = [net.fully_connected(x, units=3, name=name) for name in ("first", "second")]
    return read_tflite(write_tflite(net.graph(ends)))


def noise() -> Array:
    return np.random.default_rng(0).normal(0, 1, (80, 1, 20)).astype(np.float32)


@pytest.mark.long
@settings(max_examples=6, deadline=None)
@given(
    share=st.floats(0, 1), clusters=st.one_of(st.none(), st.integers(3, 40)), mask=st.booleans(), seed=st.integers(0)
)
def test_any_restriction_holds_however_wild_the_training(
    share: float, clusters: int | None, mask: bool, seed: int
) -> None:
    graph = dense()
    indexes = weights_of(graph)
    start = {}
    for index in indexes:
        codes = pruned(stored(graph.main.tensors[index]), share)
        start[index] = clustered(codes, clusters) if clusters else codes
    changed = with_constants(graph, start)
    random = np.random.default_rng(seed)
    student = Student(changed.main, indexes if clusters else [])
    targets = {index: random.normal(0, 1, (4, 1, 3)).astype(np.float32) for index in graph.main.outputs}
    training = Training(
        student,
        indexes if mask else [],
        [random.normal(0, 1, (4, 1, 20)).astype(np.float32)],
        targets,
        graph.main.outputs,
    )
    for step in range(1, 5):
        training.step(step, 30.0, np.arange(4))
    for index, found in training.contents().items():
        if index not in start:
            continue
        assert found.dtype == np.int8
        assert found.min() >= -127
        # A code at the end of the range can stay there, and one that is pruned must.
        movable = np.abs(start[index]) < 127 if not mask else (start[index] != 0) & (np.abs(start[index]) < 127)
        assert (found != start[index]).any() or not movable.any()
        if mask:
            assert (found[start[index] == 0] == 0).all()
        if clusters:
            assert len(np.unique(found)) <= len(np.unique(start[index])) <= clusters


def test_models_without_a_softmax_and_with_16_bit_activations() -> None:
    made = dense("int16")
    weights = weights_of(made)
    sparse = with_constants(made, {index: pruned(stored(made.main.tensors[index]), 0.5) for index in weights})
    restrictions = {index: Restriction(mask=True, clusters=None, pattern="2:4") for index in weights}
    result = call(finetune, bytes(floating_dense().content), bytes(sparse.content), [noise()], restrictions, 60)
    assert result.after < 0.85 * result.before
    assert {array.dtype.name for array in result.constants.values()} == {"int8", "int64"}
    for index in weights:
        before = real(sparse.main.tensors[index])
        assert (result.constants[index][before == 0] == 0).all()


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, restrictions = damaged()
    content = bytes(graph.content)
    unknown = as_file(sandwich("NEG"))
    with pytest.raises(TransformError, match=r"fine-tuning does not know NEG \('middle'\)"):
        finetune(unknown, unknown, [np.zeros((4, 1, 16, 16, 8), np.float32)], {}, 5)
    with pytest.raises(TransformError, match="needs at least 2 samples"):
        finetune(content, content, [images(1, 0)], {}, 5)
    with pytest.raises(ValueError, match=r"'conv.*' has \d+ codes, and is restricted to 4"):
        finetune(content, content, [images(4, 0)], {weights_of(graph)[0]: Restriction(True, 4)}, 5)
    net = Sketch("other")
    other = write_tflite(net.graph([net.reshape(net.input("image", (1, 12, 12, 3)), (1, 432))]))
    with pytest.raises(TransformError, match="two models with the same outputs"):
        call(finetune, other, content, [images(4, 0)], restrictions, 5)
    monkeypatch.setitem(sys.modules, "jax", None)
    for name in ("mlia.transforms.distill.jax_graph", "mlia.transforms.distill.student"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(TransformError, match=r"fine-tuning needs JAX: pip install 'jax>=0.5'"):
        finetune(content, content, [images(4, 0)], restrictions, 5)

"""Layers with several inputs or outputs: attention, and recurrent layers whose state is given, returned or kept."""

import os
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras", reason="the dev extra brings keras and jax")

import keras
import numpy as np
from keras import layers as kl
from real_keras import compared, keras_model, kinds, randomized, run

from mlia.errors import ModelError
from mlia.graph.formats.keras import build_graph
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import quantize_synthetically

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def line(steps: int = 6, depth: int = 4) -> Any:
    return keras.Input((steps, depth))


def states(count: int) -> list[Any]:
    return [keras.Input((5,)) for _ in range(count)]


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (kl.LSTM(5, return_state=True, return_sequences=True), 2),
        (kl.LSTM(5, return_state=True, go_backwards=True), 2),
        (kl.GRU(5, return_state=True), 1),
        (kl.GRU(5, reset_after=False), 1),
        (kl.SimpleRNN(5, return_state=True), 1),
        (kl.RNN(kl.LSTMCell(5), return_state=True), 2),
        (kl.Bidirectional(kl.LSTM(5, return_sequences=True, return_state=True)), 4),
    ],
)
def test_states_are_given_and_returned(layer: Any, count: int) -> None:
    x, first = line(), states(count)
    compared(keras.Model([x, *first], layer(x, initial_state=first)))
    compared(keras.Model(x := line(), layer.__class__.from_config(layer.get_config())(x)))


def test_the_state_of_one_layer_begins_the_next() -> None:
    """An encoder and a decoder, the state of the one being what the other begins with."""
    x, y = line(), line(3)
    _, *state = kl.LSTM(5, return_state=True)(x)
    compared(keras.Model([x, y], kl.Dense(2)(kl.LSTM(5, return_sequences=True)(y, initial_state=state))))


@pytest.mark.parametrize("kind", [kl.LSTM, kl.GRU, kl.SimpleRNN])
def test_a_kept_state_is_input_and_output(kind: Any) -> None:
    """What an inference gives for the state is given to the next, as Keras does by itself."""
    x = keras.Input(batch_shape=(1, 6, 4), name="x")
    below = kind(5, stateful=True, return_sequences=True, name="below")(x)
    model = randomized(keras.Model(x, kl.Dense(2)(kind(3, stateful=True, name="above")(below))))
    graph = build_graph(keras_model(model))
    names = [f"{name}/state_{n}" for name in ("below", "above") for n in range(2 if kind is kl.LSTM else 1)]
    assert list(graph.signatures[0].inputs) == ["x", *names]
    assert graph.provenance.added[-1] == f"the state that is kept as input and output: {', '.join(names)}"
    content, random = write_tflite(graph), np.random.default_rng(3)
    kept = [np.zeros(graph.main.tensors[index].shape, np.float32) for index in graph.main.inputs[1:]]
    first = None
    for layer in model.layers[1:3]:
        layer.reset_states()
    for _ in range(3):
        sample = random.normal(0, 1, (1, 6, 4)).astype(np.float32)
        actual, *kept = run(content, [sample, *kept])
        np.testing.assert_allclose(actual, np.asarray(model(sample)), rtol=1e-4, atol=1e-6)
        first = actual if first is None else first
    assert not np.allclose(first, actual)


@pytest.mark.parametrize(
    "layer",
    [
        kl.MultiHeadAttention(2, 8),
        kl.MultiHeadAttention(3, 4, value_dim=5, output_shape=7, use_bias=False, dropout=0.1),
        kl.MultiHeadAttention(1, 4, output_shape=(3, 2)),
    ],
)
def test_attention(layer: Any) -> None:
    x, memory, keys = line(10, 16), line(6, 12), line(6, 9)
    graph = compared(keras.Model([x, memory, keys], layer(x, memory, key=keys)))
    assert kinds(graph).count("BATCH_MATMUL") == 2
    again = layer.__class__.from_config(layer.get_config())
    compared(keras.Model(x, kl.Add()([again(query=x, value=x), again(x, x)])))


@pytest.mark.parametrize("options", [{"use_causal_mask": True}, {"return_attention_scores": True}])
def test_attention_that_is_masked_or_shown_is_refused(options: dict[str, bool]) -> None:
    x = line()
    outputs = kl.MultiHeadAttention(2, 8)(x, x, **options)
    with pytest.raises(ModelError, match=f"it is called with the argument {next(iter(options))}"):
        build_graph(keras_model(keras.Model(x, outputs)))


def test_what_keras_2_stores_of_attention_and_states() -> None:
    """There tensors among the arguments are ["layer", call, output]; states stand beside the input, or are named."""
    entries = {"x": [None, 6, 4], "h": [None, 4], "c": [None, 4]}
    layers = [
        {"class_name": "InputLayer", "name": name, "config": {"batch_input_shape": shape}}
        for name, shape in entries.items()
    ]
    x = ["x", 0, 0]
    calls: dict[str, tuple[str, Any, dict[str, Any]]] = {
        "at": ("MultiHeadAttention", [[*x, {"value": x, "key": x}]], {"num_heads": 2, "key_dim": 3}),
        "one": ("LSTM", [[*x, {}], ["h", 0, 0, {}], ["c", 0, 0, {}]], {"units": 4}),
        "two": ("LSTM", [[*x, {"initial_state": [["h", 0, 0], ["c", 0, 0]]}]], {"units": 4}),
    }
    for name, (kind, node, config) in calls.items():
        layers.append({"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": [node]})
    ends = {"input_layers": [[name, 0, 0] for name in entries], "output_layers": [[name, 0, 0] for name in calls]}
    random = np.random.default_rng(0)
    shapes = {"at": [(4, 2, 3), (2, 3)] * 3 + [(2, 3, 4), (4,)], "one": [(4, 16), (4, 16), (16,)]}
    weights = {name: tuple(random.normal(0, 1, each).astype(np.float32) for each in shapes[name]) for name in shapes}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}
    graph = build_graph(KerasModel(config, {**weights, "two": weights["one"]}, "a test"))
    values = [random.normal(0, 1, (1, *shape[1:])).astype(np.float32) for shape in entries.values()]
    attended, one, two = run(write_tflite(graph), values)
    x_, h, c = (keras.Input(shape[1:]) for shape in entries.values())
    layers_ = [kl.MultiHeadAttention(2, 3), kl.LSTM(4)]
    model = keras.Model([x_, h, c], [layers_[0](x_, x_), layers_[1](x_, initial_state=[h, c])])
    for layer, name in zip(layers_, shapes, strict=True):
        layer.set_weights(weights[name])
    expected = [np.asarray(each) for each in model(values)]
    np.testing.assert_allclose(attended, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one, expected[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one, two)


def test_a_gru_is_quantized_without_scales_that_say_nothing() -> None:
    """Its first step from zeros leaves no tensor of zeros, and the bias of each step has the scale of that step."""
    model = keras.Sequential([keras.Input((6, 4)), kl.GRU(5)])
    plain = build_graph(keras_model(model))
    graph = build_graph(keras_model(randomized(model)))
    assert kinds(graph).count("MUL") == kinds(plain).count("MUL") + 1
    made = read_tflite(quantize_synthetically(write_tflite(graph))).main
    scales = [tensor.quantization.scale if tensor.quantization else () for tensor in made.tensors]
    for found in made.operators:
        if found.kind == "FULLY_CONNECTED":
            x, weights, bias = (np.float64(scales[index]) for index in found.inputs)
            np.testing.assert_allclose(bias, x * weights, rtol=1e-3)

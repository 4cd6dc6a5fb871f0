"""Whole networks, as Keras 2 and Keras 3 store them: wiring, names, and what cannot be read."""

import json
import os
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras", reason="the dev extra brings keras and jax")

import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl
from real_keras import assert_same, compared, keras_model, kinds, names, randomized, run

from mlia.errors import ModelError
from mlia.graph.formats.keras import build_graph
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.tflite_writer import write_tflite

# Keras converts arrays in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

EVERYTHING = {"start": None, "stop": None, "step": None}  # a slice, as Keras 2 stores it


def functional(layers: list[dict[str, Any]], output: Any, weights: dict[str, Any] | None = None) -> KerasModel:
    """A model as Keras 2 stores it, with one input x of four numbers."""
    entry = {"class_name": "InputLayer", "name": "x", "inbound_nodes": []}
    entry["config"] = {"name": "x", "batch_input_shape": [None, 4], "dtype": "float32"}
    config = {"name": "old", "layers": [entry, *layers], "input_layers": [["x", 0, 0]], "output_layers": [output]}
    return KerasModel({"class_name": "Functional", "config": config}, weights or {}, "a test")


def stored(kind: str, name: str, nodes: Any, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def computed(model: KerasModel, values: Any) -> Any:
    return run(write_tflite(build_graph(model)), [np.asarray(values, np.float32)])[0]


def test_names_of_inputs_outputs_and_operators() -> None:
    first, second = keras.Input((8, 8, 3), name="first"), keras.Input((5,), name="second")
    x = kl.GlobalMaxPooling2D(name="pool")(kl.Conv2D(4, 3, activation="relu", name="conv")(first))
    y = kl.Concatenate(name="both")([x, second])
    graph = compared(keras.Model([second, first], [kl.Dense(2, name="score")(y), x]))
    assert names(graph) == ["conv", "pool", "both", "score"]
    (signature,) = graph.signatures
    assert (signature.key, list(signature.inputs), list(signature.outputs)) == (
        "serving_default", ["second", "first"], ["score", "pool"],
    )  # fmt: skip
    assert [graph.main.tensors[index].name for index in graph.main.inputs] == ["second", "first"]


def test_layers_called_twice_share_their_weights() -> None:
    first, second = keras.Input((5,), name="first"), keras.Input((5,), name="second")
    dense = kl.Dense(5, name="dense", activation="tanh")
    graph = compared(keras.Model([first, second], kl.Add(name="sum")([dense(dense(first)), dense(second)])))
    linear = ["dense/linear", "dense/linear#2", "dense/linear#3"]
    assert sorted(names(graph)) == ["dense", "dense#2", "dense#3", *linear, "sum"]
    weights = {op.inputs[1] for op in graph.operators if op.kind == "FULLY_CONNECTED"}
    assert len(weights) == 1


def test_models_inside_models() -> None:
    line = keras.Sequential([keras.Input((4,)), kl.Dense(4, name="inner"), kl.BatchNormalization()], name="line")
    entry = keras.Input((4,))
    fork = keras.Model(entry, [kl.Dense(4, name="left")(entry), line(kl.Dense(4, name="right")(entry))], name="fork")
    image, other = keras.Input((4,), name="image"), keras.Input((4,), name="other")
    left, right = fork(image)
    again, _ = fork(other)
    outputs = [left, kl.Multiply(name="product")([right, again, line(left)]), *fork(right)]
    graph = compared(keras.Model([image, other], outputs))
    assert "fork/left" in names(graph)
    assert "fork/line/inner" in names(graph)
    assert "line/inner" in names(graph)


def test_operations_between_layers() -> None:
    ops = keras.ops
    image = keras.Input((8, 4), name="image")
    x = ops.pad(image * 2.0 + 1.0, ((0, 0), (1, 1), (0, 0)))
    x = ops.relu(x[:, 1:-1:2, :3]) - ops.sigmoid(image)[:, 0:4, 1:]
    x = ops.expand_dims(ops.squeeze(ops.expand_dims(x, 1), 1) ** 2, -1)
    x = ops.reshape(ops.clip(ops.transpose(x, (0, 2, 1, 3)), -0.5, 6), (-1, 3, 4)) / (ops.square(image[:, :3]) + 3)
    x = ops.concatenate([ops.matmul(x, ops.transpose(x, (0, 2, 1))), ops.leaky_relu(-x, 0.1)], axis=-1)
    x = ops.max(x, axis=1, keepdims=True) - ops.mean(1 - x, axis=1, keepdims=True)
    x = ops.gelu(ops.maximum(ops.softmax(x), ops.exp(ops.minimum(x, 0))))
    compared(keras.Model(image, [x, ops.sum(x, axis=(1, 2))]))


@pytest.mark.long
def test_a_small_residual_network_is_as_short_as_it_can_be() -> None:
    def block(x: Any, filters: int, stride: int) -> Any:
        y = kl.Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = kl.Conv2D(filters, 3, padding="same")(kl.ReLU()(kl.BatchNormalization()(y)))
        x = kl.Conv2D(filters, 1, strides=stride)(x) if stride > 1 else x
        return kl.ReLU()(kl.Add()([kl.BatchNormalization()(y), x]))

    image = keras.Input((16, 16, 3))
    x = block(block(kl.Conv2D(8, 3, padding="same")(image), 8, 1), 16, 2)
    x = kl.Dense(10, activation="softmax")(kl.Flatten()(kl.AveragePooling2D(8)(x)))
    graph = compared(keras.Model(image, x))
    assert sorted(kinds(graph)) == sorted(
        ["CONV_2D"] * 6 + ["ADD"] * 2 + ["AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_published_architectures(name: str) -> None:
    options = {"weights": None, "input_shape": (64, 64, 3), "classifier_activation": None, "classes": 10}
    model = getattr(keras.applications, name)(**options, alpha=0.35 if name.endswith("V2") else 1.0)
    graph = build_graph(keras_model(randomized(model)))
    assert_same(model, graph)
    assert not {"PAD", "MUL"} & set(kinds(graph)) or name.endswith("V3Small")
    assert graph.provenance.added == ()


def test_the_batch_and_open_sizes_are_given_by_the_caller() -> None:
    model = keras.Sequential([keras.Input((None, 6), name="speech"), kl.Conv1D(4, 3), kl.GlobalMaxPooling1D()])
    assert compared(model, shapes={"speech": (2, 20, 6)}).main.tensors[0].shape == (2, 20, 6)
    assert build_graph(keras_model(model), 1, {"": (1, 30, 6)}).main.tensors[0].shape == (1, 30, 6)
    with pytest.raises(ModelError, match=r"'speech' has the open shape \(\?, \?, 6\)"):
        build_graph(keras_model(model))
    with pytest.raises(ModelError, match="does not fit"):
        build_graph(keras_model(model), 1, {"speech": (1, 20, 5)})
    with pytest.raises(ModelError, match="no input 'sound'; its inputs are 'speech'"):
        build_graph(keras_model(model), 1, {"sound": (1, 20, 6)})


def test_functions_of_tensorflow_that_keras_2_wraps() -> None:
    layers = [
        stored("TFOpLambda", "plus", [["x", 0, 0, {"y": 1.5, "name": None}]], function="__operators__.add"),
        stored("TFOpLambda", "minus", [["_CONSTANT_VALUE", -1, 1.0, {"y": ["plus", 0, 0]}]], function="math.subtract"),
        stored("TFOpLambda", "relu", [["minus", 0, 0, {}]], function="nn.relu"),
        stored("TFOpLambda", "join", [[["relu", 0, 0, {"axis": 1}], ["x", 0, 0, {"axis": 1}]]], function="concat"),
        stored(
            "SlicingOpLambda", "cut",
            [["join", 0, 0, {"slice_spec": [EVERYTHING, {"start": 1, "stop": 7, "step": 2}]}]],
            function="__operators__.getitem",
        ),
        stored(
            "TensorFlowOpLayer", "half", [[["cut", 0, 0, {}]]],
            node_def={"name": "half", "op": "Mul", "input": ["cut", "half/y"]}, constants={"1": 0.5},
        ),
    ]  # fmt: skip
    x = np.array([[-3.0, 2.0, -1.0, 0.25]])
    expected = np.concatenate([np.maximum(1 - (x + 1.5), 0), x], 1)[:, 1:7:2] * 0.5
    np.testing.assert_allclose(computed(functional(layers, ["half", 0, 0]), x), expected, rtol=1e-6)


def test_keras_2_counts_calls_of_models_from_1() -> None:
    weights = (np.eye(4, dtype=np.float32) * 2, np.ones(4, np.float32))
    entry = {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, 4], "dtype": "float32"}}
    dense = {"class_name": "Dense", "config": {"name": "dense", "units": 4, "activation": "linear"}}
    inner = stored("Sequential", "inner", [[["x", 0, 0, {}]], [["inner", 1, 0, {}]]], layers=[entry, dense])
    model = functional([inner], ["inner", 2, 0], {"inner/dense": weights})
    np.testing.assert_allclose(computed(model, [[1, 2, 3, 4]]), [[7, 11, 15, 19]])


def test_keras_2_defines_the_hard_sigmoid_otherwise() -> None:
    model = functional([stored("Activation", "a", [[["x", 0, 0, {}]]], activation="hard_sigmoid")], ["a", 0, 0])
    np.testing.assert_allclose(computed(model, [[-3, -1, 1, 2.4]]), [[0, 0.3, 0.7, 0.98]], atol=1e-6)


def test_sequential_of_keras_1_is_a_list() -> None:
    dense = {
        "class_name": "Dense",
        "config": {"name": "d", "units": 2, "use_bias": False, "batch_input_shape": [None, 4]},
    }
    model = KerasModel({"class_name": "Sequential", "config": [dense]}, {"d": (np.ones((4, 2)),)}, "a test")
    assert computed(model, [[1, 2, 3, 4]]).tolist() == [[10, 10]]
    assert list(build_graph(model).signatures[0].inputs) == ["d_input"]


def test_tuples_of_saved_models_are_lists() -> None:
    shape = {"class_name": "__tuple__", "items": [2, 2]}
    model = functional([stored("Reshape", "r", [[["x", 0, 0, {}]]], target_shape=shape)], ["r", 0, 0])
    model.config["config"]["layers"][0]["config"]["batch_input_shape"] = {
        "class_name": "TensorShape",
        "items": [None, 4],
    }
    assert computed(model, [[1, 2, 3, 4]]).tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (stored("Lambda", "l", [[["x", 0, 0, {}]]], function="code"), "'l' of class Lambda: it holds Python code"),
        (stored("Mystery", "m", [[["x", 0, 0, {}]]]), "the layer 'm' of class Mystery: this class is not"),
        (stored("Dense", "d", [[["x", 0, 0, {}]]], units=3), "it has 0 arrays of weights instead of 2"),
        (stored("Dense", "d", [[["x", 0, 0, {}]]]), "'d' of class Dense: its configuration or its weights"),
        (stored("Activation", "a", [[["x", 0, 0, {}]]], activation="mine"), "the activation 'mine' is not read"),
        (stored("Reshape", "r", [[["x", 0, 0, {}]]], target_shape=[3]), r"it reshapes \(1, 4\) to \(1, 3\)"),
        (stored("RepeatVector", "r", [[["x", 0, 0, {}]]], n=2**40), "'r' of class RepeatVector: its configuration"),
        (stored("RepeatVector", "r", [[["x", 0, 0, {}]]], n=2**30), r"would have the shape \(1, 1073741824, 4\)"),
        (stored("MaxPooling2D", "p", [[["x", 0, 0, {}]]]), r"its input has the shape \(1, 4\), and it takes rank 4"),
        (stored("Softmax", "s", [[["x", 0, 0, {"mask": ["x", 0, 0]}]]]), "it is called with the argument mask"),
        (stored("Dropout", "d", [[["x", 0, 0, {"training": True}]]]), "it is called with the argument training"),
        (stored("TFOpLambda", "t", [["x", 0, 0, {}]], function="linalg.inv"), "tf.linalg.inv is not known"),
        (stored("Dropout", "d", [[["nowhere", 0, 0, {}]]]), "'d' reads what no layer before it makes"),
        (stored("Dropout", "d", [[["d", 0, 0, {}]]]), "'d' reads what no layer before it makes"),
        (stored("Dropout", "x", [[["x", 0, 0, {}]]]), "two of its layers are called 'x'"),
        (stored("Functional", "f", [[["x", 0, 0, {}]]]), "it holds no layers"),
        (stored("MyNet", "n", [[["x", 0, 0, {}]]]), "'n' of class MyNet: this class is not known"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(layer: dict[str, Any], line: str) -> None:
    with pytest.raises(ModelError, match=line) as raised:
        build_graph(functional([layer], [layer["name"], 0, 0]))
    assert "\n" not in str(raised.value)


def test_models_with_code_of_their_own_are_refused() -> None:
    with pytest.raises(ModelError, match="of the class MyModel, which only its own code can run"):
        build_graph(KerasModel({"class_name": "MyModel", "config": {"name": "mine"}}, {}, "a test"))


def test_channels_first_is_refused() -> None:
    model = functional([stored("Flatten", "f", [[["x", 0, 0, {}]]], data_format="channels_first")], ["f", 0, 0])
    with pytest.raises(ModelError, match="'f' of class Flatten: its data_format is 'channels_first'"):
        build_graph(model)


def test_weights_of_another_shape_or_kind_are_refused() -> None:
    dense = stored("Dense", "d", [[["x", 0, 0, {}]]], units=3)
    for kernel in (np.ones((4, 2)), np.ones((5, 3)), np.ones(12), np.full((4, 3), "a"), np.ones((4, 3), complex)):
        with pytest.raises(ModelError, match="layer 'd'"):
            build_graph(functional([dense], ["d", 0, 0], {"d": (kernel, np.ones(3))}))


def _spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path, *(spot for key, part in parts for spot in _spots(part, (*path, key)))][(not path) :]


@cache
def _convolution_model() -> KerasModel:
    first = keras.Input((8, 8, 2), name="first")
    x = kl.ReLU(6)(kl.BatchNormalization()(kl.Conv2D(3, 3, strides=2, padding="same")(first))) * 2.0
    x = kl.LSTM(3)(kl.Reshape((-1, 3))(kl.ZeroPadding2D()(x)))
    return keras_model(keras.Model(first, kl.Dense(2)(kl.Concatenate()([x, x]))))


_JUNK = st.sampled_from([None, -1, 0, 3, 10**12, 2**70, 1.5, float("nan"), "same", "", [], [1, 2], {}, {"a": 1}, True])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**6), _JUNK)
def test_a_damaged_configuration_is_one_line_or_a_model(number: int, junk: Any) -> None:
    config = deepcopy(_convolution_model().config)
    spots = _spots(config)
    spot = spots[number % len(spots)]
    part: Any = config
    for key in spot[:-1]:
        part = part[key]
    part[spot[-1]] = junk
    with suppress(ModelError):
        assert build_graph(KerasModel(config, _convolution_model().weights, "a test")).main.outputs


def test_resnet_8_of_keras_2_agrees_with_its_tflite_file(shared: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared / "mlperf_tiny/pretrainedResnet.h5") as file:
        weights = {
            name: tuple(np.asarray(group[each]) for each in group.attrs["weight_names"])
            for name, group in file["model_weights"].items()
            if isinstance(group, h5py.Group)
        }
        model = KerasModel(json.loads(file.attrs["model_config"]), weights, "Keras h5")
    graph = build_graph(model)
    reference = (shared / "mlperf_tiny/pretrainedResnet.tflite").read_bytes()
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    (ours,), (theirs,) = run(write_tflite(graph), [image]), run(reference, [image])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert len(graph.operators) == 16


def test_what_is_damaged_is_said_in_words() -> None:
    weights = {"d": (np.ones((4, 3)), np.ones(3))}
    dense = stored("Dense", "d", [[["x", 0, 0, {}]]], units=None)
    with pytest.raises(ModelError, match="are damaged: a value is of another kind than it has to be; export"):
        build_graph(functional([dense], ["d", 0, 0], weights))
    del dense["config"]["units"]
    with pytest.raises(ModelError, match="are damaged: there is no 'units'; export"):
        build_graph(functional([dense], ["d", 0, 0], weights))


def test_weights_beyond_float32_are_read_without_a_warning() -> None:
    dense = stored("Dense", "d", [[["x", 0, 0, {}]]], units=3)
    graph = build_graph(functional([dense], ["d", 0, 0], {"d": (np.full((4, 3), 1e300), np.ones(3))}))
    constants = [np.frombuffer(each.data, "f4") for each in graph.main.tensors if len(each.data)]
    assert any(np.isinf(values).all() for values in constants)

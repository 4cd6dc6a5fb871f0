"""Each layer: LiteRT computes from our graph what Keras computes."""

import os
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras", reason="the dev extra brings keras and jax")

import keras
import numpy as np
from keras import layers as kl
from real_keras import assert_same, compared, keras_model, kinds, names

from mlia.graph.formats.keras import build_graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import quantize_synthetically

# Keras converts arrays in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IMAGE, LINE, VECTOR = (9, 11, 6), (12, 6), (10,)


def single(shape: tuple[int, ...], *layers: Any) -> Any:
    return keras.Sequential([keras.Input(shape, name="input"), *layers])


CONVOLUTIONS = [
    (IMAGE, kl.Conv2D(4, 3)),
    (IMAGE, kl.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu")),
    (IMAGE, kl.Conv2D(4, (1, 1), use_bias=False, activation="tanh")),
    (IMAGE, kl.Conv2D(8, 3, groups=2, padding="same")),
    (IMAGE, kl.Conv2D(4, 3, dilation_rate=(2, 3), padding="same", activation="relu6")),
    (IMAGE, kl.DepthwiseConv2D(3, padding="same", activation="relu")),
    (IMAGE, kl.DepthwiseConv2D(3, strides=2, depth_multiplier=3, use_bias=False)),
    (IMAGE, kl.DepthwiseConv2D(3, dilation_rate=2)),
    (IMAGE, kl.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2, activation="relu")),
    (IMAGE, kl.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")),
    (IMAGE, kl.Conv2DTranspose(4, (2, 3), strides=(1, 2))),
    (IMAGE, kl.Conv2DTranspose(4, 2, strides=3, use_bias=False)),
    (LINE, kl.Conv1D(4, 3)),
    (LINE, kl.Conv1D(4, 3, strides=2, padding="same", activation="relu")),
    (LINE, kl.Conv1D(4, 3, dilation_rate=2, padding="causal")),
    (LINE, kl.Conv1D(6, 3, groups=3)),
    (LINE, kl.DepthwiseConv1D(3, strides=2, depth_multiplier=2, activation="relu")),
    (LINE, kl.SeparableConv1D(4, 3, padding="same")),
    (LINE, kl.SeparableConv1D(4, 3, dilation_rate=2, activation="relu")),
    (LINE, kl.Conv1DTranspose(4, 3, strides=2, padding="same")),
    (LINE, kl.Conv1DTranspose(4, 4, strides=2)),
    (VECTOR, kl.Dense(4, activation="softmax")),
    (LINE, kl.Dense(4, activation="relu")),
    (IMAGE, kl.Dense(4, use_bias=False)),
]

SHAPES = [
    (IMAGE, kl.MaxPooling2D()),
    (IMAGE, kl.MaxPooling2D((3, 2), strides=(2, 1), padding="same")),
    (IMAGE, kl.AveragePooling2D((2, 3), padding="same")),
    (IMAGE, kl.AveragePooling2D(3, strides=1)),
    (LINE, kl.MaxPooling1D(3, strides=2, padding="same")),
    (LINE, kl.AveragePooling1D(2)),
    (IMAGE, kl.GlobalAveragePooling2D()),
    (IMAGE, kl.GlobalMaxPooling2D(keepdims=True)),
    (LINE, kl.GlobalAveragePooling1D(keepdims=True)),
    (LINE, kl.GlobalMaxPooling1D()),
    (IMAGE, kl.ZeroPadding2D(((1, 2), (0, 3)))),
    (LINE, kl.ZeroPadding1D((2, 1))),
    (IMAGE, kl.Cropping2D(((1, 2), (0, 3)))),
    (LINE, kl.Cropping1D((2, 1))),
    (IMAGE, kl.UpSampling2D((2, 3))),
    (IMAGE, kl.UpSampling2D(2, interpolation="bilinear")),
    (LINE, kl.UpSampling1D(3)),
    (IMAGE, kl.Resizing(5, 17)),
    (IMAGE, kl.Resizing(13, 7, interpolation="nearest")),
    (IMAGE, kl.Flatten()),
    (IMAGE, kl.Reshape((-1, 3))),
    (IMAGE, kl.Permute((3, 1, 2))),
    (VECTOR, kl.RepeatVector(3)),
]

ARITHMETIC = [
    (IMAGE, kl.BatchNormalization()),
    (VECTOR, kl.BatchNormalization(scale=False)),
    (IMAGE, kl.BatchNormalization(axis=1, center=False)),
    (LINE, kl.LayerNormalization()),
    (LINE, kl.LayerNormalization(scale=False, epsilon=1e-5)),
    (LINE, kl.LayerNormalization(center=False)),
    (IMAGE, kl.Rescaling(1 / 127.5, offset=-1)),
    (IMAGE, kl.Normalization(mean=[1.0, 2, 3, 4, 5, 6], variance=[1.0, 4, 9, 16, 25, 36])),
    (IMAGE, kl.Normalization(axis=None, mean=3.0, variance=2.0, invert=True)),
    (VECTOR, kl.ReLU()),
    (VECTOR, kl.ReLU(6)),
    (VECTOR, kl.ReLU(1.5)),
    (VECTOR, kl.ReLU(1.5, negative_slope=0.1)),
    (VECTOR, kl.ReLU(1.5, negative_slope=0.1, threshold=0.3)),
    (VECTOR, kl.LeakyReLU()),
    (IMAGE, kl.PReLU(shared_axes=[1, 2])),
    (VECTOR, kl.PReLU()),
    (VECTOR, kl.ELU(0.7)),
    (IMAGE, kl.Softmax(axis=1)),
]

RECURRENT = [
    (LINE, kl.LSTM(5)),
    (LINE, kl.LSTM(5, return_sequences=True, go_backwards=True)),
    (LINE, kl.LSTM(5, use_bias=False)),
    (LINE, kl.LSTM(5, recurrent_activation="hard_sigmoid")),
    (LINE, kl.LSTM(5, activation="relu", return_sequences=True)),
    (LINE, kl.GRU(5)),
    (LINE, kl.GRU(5, reset_after=False, return_sequences=True)),
    (LINE, kl.GRU(5, use_bias=False, go_backwards=True)),
    (LINE, kl.SimpleRNN(5)),
    (LINE, kl.SimpleRNN(5, return_sequences=True, activation="relu")),
    (LINE, kl.Bidirectional(kl.LSTM(5, return_sequences=True))),
    (LINE, kl.Bidirectional(kl.GRU(5), merge_mode="ave")),
    (LINE, kl.TimeDistributed(kl.Dense(4, activation="relu"))),
    ((4, *IMAGE), kl.TimeDistributed(kl.Conv2D(3, 3, activation="relu"))),
]


def title(value: Any) -> str | None:
    return type(value).__name__ if isinstance(value, kl.Layer) else None


@pytest.mark.parametrize(("shape", "layer"), CONVOLUTIONS + SHAPES + ARITHMETIC + RECURRENT, ids=title)
def test_litert_computes_what_keras_does(shape: tuple[int, ...], layer: Any) -> None:
    graph = compared(single(shape, layer), batch=2)
    assert names(graph)[-1] == layer.name


@pytest.mark.parametrize(
    "layer",
    [kl.Dropout(0.3), kl.RandomFlip(), kl.SpatialDropout2D(0.2), kl.GaussianNoise(0.1), kl.Activation("linear")],
)
def test_layers_that_only_train_leave_nothing(layer: Any) -> None:
    assert kinds(compared(single(IMAGE, kl.MaxPooling2D(), layer))) == ["MAX_POOL_2D"]


def test_normalization_that_was_adapted() -> None:
    layer = kl.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 2, (20, *IMAGE)).astype(np.float32))
    model = single(IMAGE, layer)
    assert_same(model, build_graph(keras_model(model)))


@pytest.mark.parametrize(
    "name",
    [
        "relu", "relu6", "leaky_relu", "elu", "selu", "tanh", "sigmoid", "hard_sigmoid", "hard_silu", "swish", "gelu",
        "softmax", "softplus", "exponential", "mish", "softsign", "log_softmax", "hard_tanh",
    ],
)  # fmt: skip
def test_activations(name: str) -> None:
    compared(single((4, 10), kl.Activation(name, name="act")), spread=4)


@pytest.mark.parametrize("merge", [kl.Add, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum, kl.Concatenate])
def test_merges_of_three(merge: Any) -> None:
    inputs = [keras.Input(IMAGE, name=name) for name in "abc"]
    graph = compared(keras.Model(inputs, merge(name="merged")(inputs)), 2)
    assert names(graph)[-1] == "merged"


@pytest.mark.parametrize(
    ("merge", "first", "second"),
    [
        (kl.Subtract(), IMAGE, IMAGE),
        (kl.Multiply(), IMAGE, (1, 1, 6)),
        (kl.Concatenate(axis=1), (3, 11, 6), IMAGE),
        (kl.Dot(1), VECTOR, VECTOR),
        (kl.Dot((2, 1)), (4, 5), (5, 3)),
        (kl.Dot((1, 2)), (5, 4), (3, 5)),
        (kl.Dot((2, 2)), (4, 5), (3, 5)),
    ],
)
def test_merges_of_two(merge: Any, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    inputs = [keras.Input(first), keras.Input(second)]
    compared(keras.Model(inputs, merge(inputs)), 2)


def test_the_fused_lstm_can_be_quantized() -> None:
    graph = compared(single(LINE, kl.LSTM(5), kl.Dense(2)))
    assert kinds(graph) == ["UNIDIRECTIONAL_SEQUENCE_LSTM", "STRIDED_SLICE", "FULLY_CONNECTED"]
    quantized = read_tflite(quantize_synthetically(write_tflite(graph)))
    assert {quantized.main.tensors[op.outputs[0]].dtype for op in quantized.operators} == {"int8"}


def test_embedding_takes_integers() -> None:
    model = keras.Sequential([keras.Input((7,), dtype="int32"), kl.Embedding(8, 5), kl.GlobalAveragePooling1D()])
    assert kinds(compared(model)) == ["GATHER", "MEAN"]


@pytest.mark.parametrize(
    "layer",
    [
        kl.Conv2D(4, 3, use_bias=False),
        kl.Conv2D(6, 3, groups=3),
        kl.DepthwiseConv2D(3, depth_multiplier=2),
        kl.SeparableConv2D(4, 3),
        kl.Conv2DTranspose(4, 3),
        kl.Dense(4),
    ],
    ids=title,
)
def test_normalization_and_activation_are_folded(layer: Any) -> None:
    plain = kinds(compared(single(IMAGE, layer)))
    layers = [layer, kl.BatchNormalization(), kl.Activation("relu")]
    graph = compared(single(IMAGE, *layers))
    assert kinds(graph) == plain + (["RELU"] if plain == ["TRANSPOSE_CONV"] else [])


def test_a_line_of_one_axis_stays_two_axes() -> None:
    block = [
        kl.Conv1D(4, 3, use_bias=False, name="first"),
        kl.BatchNormalization(),
        kl.ReLU(),
        kl.MaxPooling1D(name="p"),
    ]
    graph = compared(single(LINE, *block, kl.Conv1D(4, 3, name="second")))
    assert kinds(graph) == ["RESHAPE", "CONV_2D", "MAX_POOL_2D", "CONV_2D", "RESHAPE"]
    assert names(graph) == ["first/expand", "first", "p", "second/planar", "second"]
    assert graph.provenance.added == ("2 RESHAPE",)


def test_normalization_that_something_else_reads_stays() -> None:
    image = keras.Input(IMAGE)
    x = kl.Conv2D(6, 1)(image)
    y = kl.BatchNormalization()(x)
    graph = compared(keras.Model(image, [kl.Add()([x, y]), kl.ReLU()(y)]))
    assert sorted(kinds(graph)) == ["ADD", "ADD", "CONV_2D", "MUL", "RELU"]


@pytest.mark.parametrize(
    ("pad", "stride", "size", "folded"),
    [
        (((0, 1), (0, 1)), 2, 16, True),
        (((1, 1), (1, 1)), 1, 16, True),
        (((1, 1), (1, 1)), 2, 16, False),
        (((1, 1), (1, 1)), 2, 15, True),
        (((2, 2), (2, 2)), 1, 16, False),
    ],
)
def test_zeros_around_a_convolution_become_same_padding(pad: Any, stride: int, size: int, folded: bool) -> None:
    for layer in (kl.Conv2D(4, 3, strides=stride), kl.DepthwiseConv2D(3, strides=stride)):
        graph = compared(single((size, size, 2), kl.ZeroPadding2D(pad), layer))
        assert (len(graph.operators) == 1) == folded


def test_what_conversion_adds_is_counted() -> None:
    graph = compared(single(LINE, kl.Conv1D(4, 3, padding="causal"), kl.Softmax(axis=1)))
    assert graph.provenance.added == ("1 PAD", "2 TRANSPOSE", "2 RESHAPE")
    assert graph.provenance.format == "a test"

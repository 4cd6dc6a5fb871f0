"""Compression runs in child processes; here too, because the functions need LiteRT."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Operator, OptionValue
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.recipe import Clustering, Layer, Pruning, Recipe
from mlia.testing import Sketch, quantize_synthetically
from mlia.transforms.calibration import Array, synthetic_calibration
from mlia.transforms.child import call
from mlia.transforms.codes.activations import Stream
from mlia.transforms.codes.aims import aims_of, check_layers
from mlia.transforms.codes.compress import Aim, compress
from mlia.transforms.codes.patches import is_depthwise, rows_of, weights_matrix
from mlia.transforms.constants import real, stored, with_constants
from mlia.transforms.dequantize import WEIGHTED, bias_of
from mlia.transforms.fidelity import Difference
from mlia.transforms.interpreter import outputs
from mlia.transforms.quantize import quantize


def branches() -> Graph:
    """Convolutions of many geometries, an addition, and a fully connected end."""
    net = Sketch("branches", seed=4)
    x = net.input("image", (1, 12, 10, 3))
    x = net.convolution(x, filters=16, kernel=(3, 3), stride=(2, 1), name="first")
    left = net.convolution(x, filters=16, kernel=(3, 5), name="wide")
    right = net.depthwise(x, kernel=(3, 3), name="depthwise")
    right = net.convolution(right, filters=16, activation="NONE", name="pointwise")
    options: dict[str, OptionValue] = {"fused_activation_function": "RELU"}
    x = net.operator("ADD", [left, right], (1, 6, 10, 16), "sum", options_table="AddOptions", options=options)
    x = net.average_pool(x, kernel=(6, 10), name="pool")
    x = net.reshape(x, (1, 16), name="flatten")
    return read_tflite(write_tflite(net.graph([net.fully_connected(x, units=5, name="dense")])))


@pytest.fixture(scope="module")
def pair() -> tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]]:
    graph = branches()
    calibration = synthetic_calibration(graph)
    return graph, quantize(graph, calibration).graph, calibration.calibrating, calibration.held_out


def error(original: Graph, changed: Graph, samples: tuple[Array, ...]) -> float:
    difference = Difference()
    for expected, found in zip(
        *(call(outputs, bytes(g.content), samples)[0] for g in (original, changed)), strict=True
    ):
        difference.add(expected, found)
    return difference.figures("output").relative_error


def test_rows_times_weights_are_what_the_operator_computes() -> None:
    graph = branches()
    samples = [stack[:] for stack in synthetic_calibration(graph, samples=3).calibrating]
    stream = Stream(graph, samples)
    for operator in graph.operators:
        if operator.kind not in WEIGHTED:
            continue
        values = stream.input_of(graph, operator)
        rows = rows_of(graph.main, operator, values, 10_000, np.random.default_rng(0))
        bias = bias_of(operator)
        assert rows is not None
        assert bias is not None
        weights = weights_matrix(operator, real(graph.main.tensors[operator.inputs[1]]))
        computed = np.einsum("ork,ok->ro", rows, weights) if is_depthwise(operator) else rows @ weights.T
        computed = computed + real(graph.main.tensors[bias])
        if operator.options.get("fused_activation_function") == "RELU":
            computed = np.maximum(computed, 0)
        expected = Stream(graph, samples).input_of(graph, reader_of(graph, operator))
        np.testing.assert_allclose(computed, expected.reshape(computed.shape), rtol=1e-4, atol=1e-4)


def reader_of(graph: Graph, operator: Operator) -> Operator:
    """The operator that reads this one's output first, or an identity behind the last."""
    output = operator.outputs[0]
    for reader in graph.operators:
        if output in reader.inputs:
            return Operator(reader.index, reader.kind, (output,), reader.outputs)
    return Operator(len(graph.operators), "RESHAPE", (output,), ())


def test_pruned_and_clustered_as_asked(pair: tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]]) -> None:
    floating, quantized, samples, held_out = pair
    aims, skipped = aims_of(quantized, Recipe(pruning=Pruning(0.6), clustering=Clustering(16)))
    assert {item.what for item in skipped} == {"pruning of first", "pruning of depthwise"}
    found = {}
    for given in (samples, ()):
        made = call(compress, bytes(floating.content), bytes(quantized.content), given, aims)
        assert not made.uncompensated
        changed = with_constants(quantized, made.constants)
        for aim in aims:
            weights = stored(changed.main.tensors[changed.operators[aim.operator].inputs[1]])
            assert len(np.unique(weights)) <= 16
            if aim.prune:
                assert (weights == 0).mean() >= 0.6
        found[bool(given)] = error(floating, changed, held_out)
    assert found[True] < 0.7 * found[False]


@pytest.mark.parametrize("given", [True, False])
def test_two_of_four_input_channels_at_each_position_of_the_kernel(given: bool) -> None:
    net = Sketch("odd", seed=2)
    x = net.input("image", (1, 6, 6, 6))
    x = net.convolution(x, filters=7, kernel=(3, 3), name="six")
    x = net.depthwise(x, name="depthwise")
    x = net.convolution(x, filters=4, kernel=(3, 2), name="seven")
    graph = read_tflite(write_tflite(net.graph([net.reshape(x, (1, 144))])))
    calibration = synthetic_calibration(graph)
    quantized = quantize(graph, calibration).graph
    layers = (Layer("", pruning=0.5),)
    aims, skipped = aims_of(quantized, Recipe(pruning=Pruning(0.5, "2:4"), layers=layers))
    assert {item.what: item.reason for item in skipped} == {
        "pruning of depthwise": "2:4 keeps two of every four input channels, and it has 1"
    }
    samples = calibration.calibrating if given else ()
    made = call(compress, bytes(graph.content), bytes(quantized.content), samples, aims)
    changed = with_constants(quantized, made.constants)
    assert [aim.operator for aim in aims] == [0, 2]
    for aim, last in zip(aims, (2, 3), strict=True):
        weights = stored(changed.main.tensors[changed.operators[aim.operator].inputs[1]])
        kept = weights != 0
        assert (kept[..., :4].sum(axis=-1) <= 2).all()
        assert (kept[..., 4:].sum(axis=-1) <= 2).all()
        assert kept[..., 4 : 4 + last].mean() > (0.9 if last == 2 else 0.6)  # a last group of two loses none


def test_little_is_concluded_from_noise(
    pair: tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]],
) -> None:
    floating, quantized, samples, _ = pair
    aims, _ = aims_of(quantized, Recipe(pruning=Pruning(0.5), clustering=Clustering(16)))
    contents = bytes(floating.content), bytes(quantized.content)
    fitted, careful, blind = (
        call(compress, *contents, given, aims, is_noise).constants
        for given, is_noise in ((samples, False), (samples, True), ((), False))
    )
    assert set(careful) == set(blind) < set(fitted)  # no biases
    weights = [index for index in blind if (fitted[index] != blind[index]).any()]
    assert weights
    for index in weights:
        assert (careful[index] != blind[index]).mean() < (fitted[index] != blind[index]).mean()


def test_twice_the_same(pair: tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]]) -> None:
    floating, quantized, samples, _ = pair
    aims, _ = aims_of(quantized, Recipe(clustering=Clustering(8)))
    made = [call(compress, bytes(floating.content), bytes(quantized.content), samples, aims) for _ in range(2)]
    for index, array in made[0].constants.items():
        assert (array == made[1].constants[index]).all()


def test_the_integer_model_can_be_its_own_reference(
    pair: tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]],
) -> None:
    _, quantized, samples, held_out = pair
    aims, _ = aims_of(quantized, Recipe(clustering=Clustering(32)))
    made = call(compress, bytes(quantized.content), bytes(quantized.content), samples, aims)
    assert error(quantized, with_constants(quantized, made.constants), held_out) < 0.1


def test_names_that_a_quantizer_gave_are_found_in_the_model_itself() -> None:
    net = Sketch("named")
    x = net.fully_connected(net.input("x", (1, 20)), units=20, name="first")
    graph = read_tflite(quantize_synthetically(write_tflite(net.graph([net.fully_connected(x, units=5, name="last")]))))
    tensors = tuple(replace(tensor, name=f"{tensor.name}_int8") for tensor in graph.main.tensors)
    named = read_tflite(write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=tensors),))))
    aims, _ = aims_of(named, Recipe(clustering=Clustering(16)))
    samples = synthetic_calibration(named).calibrating
    made = call(compress, bytes(named.content), bytes(named.content), samples, aims)
    assert len(aims) == 2
    assert not made.uncompensated


def test_models_with_state_are_not_compensated(shared: Path) -> None:
    graph = read_tflite((shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes())
    aims, _ = aims_of(graph, Recipe(clustering=Clustering(16)))
    samples = synthetic_calibration(graph, samples=4).calibrating
    made = call(compress, bytes(graph.content), bytes(graph.content), samples, aims)
    assert set(made.uncompensated.values()) == {"the model keeps state between runs"}


def transposed() -> Graph:
    """A convolution, and one that is transposed, whose first input is the shape of its output."""
    net = Sketch("transposed", seed=1)
    x = net.convolution(net.input("image", (1, 8, 8, 3)), filters=8, kernel=(3, 3), name="down")
    shape = net.constant("shape", np.array([1, 16, 16, 6], np.int32))
    weights = net.constant("weights", np.random.default_rng(0).normal(size=(6, 3, 3, 8)).astype(np.float32))
    options: dict[str, OptionValue] = {"padding": "SAME", "stride_w": 2, "stride_h": 2}
    inputs, table = [shape, weights, x], "TransposeConvOptions"
    x = net.operator(
        "TRANSPOSE_CONV", inputs, (1, 16, 16, 6), "up", dtype="float32", options_table=table, options=options
    )
    return read_tflite(write_tflite(net.graph([x])))


def test_transposed_convolutions_are_pruned_uncompensated() -> None:
    graph = transposed()
    calibration = synthetic_calibration(graph)
    quantized = quantize(graph, calibration).graph
    aims, _ = aims_of(quantized, Recipe(pruning=Pruning(0.5)))
    contents = bytes(graph.content), bytes(quantized.content)
    made = call(compress, *contents, calibration.calibrating, [aim for aim in aims if aim.operator == 1])
    assert made.uncompensated == {1: "what a TRANSPOSE_CONV of its kind multiplies is not understood"}
    (weights,) = made.constants.values()
    assert (weights == 0).mean() >= 0.5


def reads_of_the_input() -> Graph:
    """Convolutions that read an image as it is, behind arithmetic, joined with features, and not at all."""
    net = Sketch("reads", seed=3)
    image = net.input("image", (1, 8, 8, 4))
    scale = net.constant("scale", np.full((1, 1, 1, 4), 0.5, np.float32))
    options: dict[str, OptionValue] = {"fused_activation_function": "NONE"}
    half = net.operator("MUL", [image, scale], (1, 8, 8, 4), "half", options_table="MulOptions", options=options)
    left = net.convolution(image, filters=4, name="direct")
    right = net.convolution(half, filters=4, name="behind")
    both = net.operator("ADD", [left, right], (1, 8, 8, 4), "both", options_table="AddOptions", options=options)
    joined = net.operator("ADD", [both, half], (1, 8, 8, 4), "joined", options_table="AddOptions", options=options)
    x = net.convolution(joined, filters=16, kernel=(3, 3), name="later")
    return net.graph([net.convolution(x, filters=16, kernel=(3, 3), name="last")])


def test_operators_that_read_the_input_are_spared() -> None:
    graph = read_tflite(quantize_synthetically(write_tflite(reads_of_the_input())))
    aims, skipped = aims_of(graph, Recipe(pruning=Pruning(0.5)))
    names = [graph.main.operator_name(graph.operators[aim.operator]) for aim in aims]
    assert names == ["later", "last"]
    assert [item.what for item in skipped] == ["pruning of direct", "pruning of behind"]
    assert {item.reason for item in skipped} == {
        "it reads the model's input, and all others miss what it loses; it is only pruned when --layer says so"
    }


def test_an_operator_with_much_of_the_weights_is_pruned_wherever_it_is() -> None:
    net = Sketch("dense")
    x = net.fully_connected(net.input("x", (1, 100)), units=20, name="first")
    graph = read_tflite(
        quantize_synthetically(write_tflite(net.graph([net.fully_connected(x, units=50, name="next")])))
    )
    aims, skipped = aims_of(graph, Recipe(pruning=Pruning(0.5)))
    assert [aim.prune for aim in aims] == [0.5, 0.5]
    assert not skipped


def test_weights_that_are_not_understood_are_listed(shared: Path) -> None:
    graph = read_tflite((shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes())
    _, skipped = aims_of(graph, Recipe(clustering=Clustering(16)))
    assert [item.reason for item in skipped] == ["those of UNIDIRECTIONAL_SEQUENCE_LSTM are not understood"]


def test_overrides_reach_their_operators(pair: tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]]) -> None:
    quantized = pair[1]
    layers = (
        Layer("^first$", pruning=0.3),
        Layer("wise$", pruning=False, clustering=4),
        Layer("dense", clustering=False),
    )
    aims, skipped = aims_of(quantized, Recipe(pruning=Pruning(0.5), clustering=Clustering(8), layers=layers))
    names = {quantized.main.operator_name(quantized.operators[aim.operator]): aim for aim in aims}
    assert names["first"].prune == 0.3
    assert (names["pointwise"].prune, names["pointwise"].clusters) == (0, 4)
    assert (names["dense"].prune, names["dense"].clusters) == (0.5, None)
    assert {item.what for item in skipped} >= {"pruning of pointwise", "clustering of dense"}
    with pytest.raises(TransformError, match="'nowhere' is found in no operator with weights; there are first, wide"):
        check_layers(Recipe(layers=(Layer("nowhere", pruning=0.5),)), quantized)


def test_weights_that_cannot_be_changed_alone_are_left(
    pair: tuple[Graph, Graph, tuple[Array, ...], tuple[Array, ...]],
) -> None:
    aims, skipped = aims_of(pair[0], Recipe(clustering=Clustering(8)))
    assert not aims
    assert {item.reason for item in skipped} == {"they are float32, not int8"}
    assert Aim(0).clusters is None

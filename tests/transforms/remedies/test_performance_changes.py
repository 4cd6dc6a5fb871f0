"""Remedies that change numbers or the interface: how much, and what they refuse."""

from collections.abc import Callable

import numpy as np
import pytest

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch, case_of, fixed
from mlia.transforms.interpreter import outputs
from mlia.transforms.proof import prove
from mlia.transforms.remedies import activations, applying, averages, cutting, interface, maxima
from tests.rules.cases import performance_operators as models


def kinds(content: bytes) -> list[str]:
    return [operator.kind for operator in read_tflite(content).operators]


def cycles(content: bytes) -> int:
    found = case_of(content, "ethos-u55-128").performance.inference_cycles
    assert found is not None
    return found


def difference(before: bytes, after: bytes) -> float:
    """The largest, in codes of the first output."""
    main = read_tflite(before).main
    random = np.random.default_rng(0)
    samples = [random.integers(-128, 128, (4, *main.tensors[index].shape)).astype(np.int8) for index in main.inputs]
    quantization = main.tensors[main.outputs[0]].quantization
    assert quantization is not None
    pairs = zip(outputs(before, samples), outputs(after, samples), strict=True)
    return float(max(np.abs(one - other).max() for one, other in pairs) / quantization.scale[0])


@pytest.mark.parametrize(("keep", "scale", "codes"), [(True, None, 1), (False, None, 1), (True, models.NARROW, 3)])
def test_a_pool_is_close_to_the_mean(keep: bool, scale: Quantization | None, codes: int) -> None:
    content = models.average("MEAN", keep, scale)
    pooled = fixed(averages.means_as_pools, content)
    assert "MEAN" not in kinds(pooled)
    assert difference(content, pooled) <= codes + 0.01
    assert cycles(pooled) < cycles(content)


def test_channels_are_cut_with_their_scales() -> None:
    content = models.chain(17)
    narrow = fixed(lambda graph: cutting.with_fewer_channels(graph, lambda count: count // 16 * 16 or count), content)
    graph = read_tflite(narrow)
    assert [graph.main.tensors[operator.outputs[0]].shape[3] for operator in graph.operators] == [16, 16, 16, 8]
    weights = graph.main.tensors[graph.operators[1].inputs[1]]
    assert weights.shape == (16, 3, 3, 16)
    assert weights.quantization is not None
    assert len(weights.quantization.scale) == 16
    assert cycles(narrow) * 2 < cycles(content)


def test_channels_without_weights_are_cut_first_and_change_nothing() -> None:
    content = models.chain(17)

    def without_weights(graph: Graph) -> Graph:
        """Channel 3 of the first two convolutions computes nothing."""
        from mlia.transforms.constants import patched, stored

        contents = {}
        for operator in graph.operators[:3]:
            values = stored(graph.main.tensors[operator.inputs[1]]).copy()
            values[3] = 0
            contents[operator.inputs[1]] = values
        return patched(graph, contents)

    idle = fixed(without_weights, content)
    cut = fixed(lambda graph: cutting.with_fewer_channels(graph, lambda count: 16 if count == 17 else count), idle)
    assert difference(idle, cut) == 0


def test_inputs_and_outputs_lose_their_transposes() -> None:
    content = models.channels_first(True)
    assert kinds(content).count("TRANSPOSE") == 4
    inside = fixed(applying.without_transposes, content)
    assert kinds(inside).count("TRANSPOSE") == 2
    assert difference(content, inside) == 0
    turned = read_tflite(fixed(interface.with_inputs_transposed, inside))
    assert [operator.kind for operator in turned.operators] == ["CONV_2D", "CONV_2D"]
    assert turned.main.tensors[turned.main.inputs[0]].shape == (1, 24, 24, 16)
    assert turned.main.tensors[turned.main.outputs[0]].shape == (1, 24, 24, 16)


def test_the_last_softmax_is_left_out() -> None:
    content = models.classified(4)
    without = read_tflite(fixed(interface.without_final_softmax, content))
    assert without.operators[-1].kind == "FULLY_CONNECTED"
    assert without.main.outputs == without.operators[-1].outputs


@pytest.mark.parametrize("kind", ["RELU", "QUANTIZE"])
def test_joined_scales_differ_by_a_rounding(kind: str) -> None:
    net = IntegerSketch("joined")
    x = net.filter("CONV_2D", net.image("x", (1, 8, 8, 4)), filters=8, name="conv")
    y = net.operator(kind, [x], net.shape(x), "y", quantization=Quantization((0.06,), (-20,)))
    content = write_tflite(net.graph([y]))
    joined = fixed(activations.joined_results, content)
    assert kinds(joined) == ["CONV_2D"]
    # The convolution clips at its own scale's ends no more.
    assert read_tflite(joined).main.tensors[read_tflite(joined).main.outputs[0]].quantization == Quantization(
        (pytest.approx(0.06),), (-20,)
    )


@pytest.mark.parametrize("kind", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_sums_write_in_the_scale_of_what_follows(kind: str) -> None:
    content = models.sum_rescaled(kind)
    joined = fixed(activations.joined_results, content)
    assert kinds(joined) == ["CONV_2D", "CONV_2D", "ADD", "CONV_2D"]
    assert read_tflite(joined).operators[2].options["fused_activation_function"] == kind
    assert difference(content, joined) <= 3


def test_swishes_become_hard_swishes_or_relus() -> None:
    content = models.activated("SWISH", 8)
    assert kinds(fixed(activations.hard_swishes, content)) == ["CONV_2D", "HARD_SWISH"] * 3
    assert kinds(fixed(activations.plain_relus, content)) == ["CONV_2D"] * 3


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("window", "stride"), [((4, 5), (1, 1)), ((5, 4), (2, 3)), ((9, 7), (1, 2))])
def test_maxima_in_turn_are_the_same(padding: str, window: tuple[int, int], stride: tuple[int, int]) -> None:
    net = IntegerSketch("pools")
    x = net.image("x", (1, 13, 11, 3))
    for name in "ab":
        height, width = (
            -(-size // step) if padding == "SAME" else -(-(size - taps + 1) // step)
            for size, taps, step in zip(net.shape(x)[1:3], window, stride, strict=True)
        )
        if min(height, width) < 1:
            break
        options = {"stride_h": stride[0], "stride_w": stride[1], "filter_height": window[0], "filter_width": window[1]}
        shape = (1, height, width, 3)
        activation = {"fused_activation_function": "RELU"}
        x = net.plain(
            "MAX_POOL_2D", x, shape=shape, name=name, table="Pool2DOptions", padding=padding, **options, **activation
        )
    content = write_tflite(net.graph([x]))
    turned = fixed(maxima.maxima_in_turn, content)
    assert len(kinds(turned)) == 2 * len(kinds(content))
    assert prove(content, turned) == ""


def test_slopes_become_their_mean() -> None:
    graph = read_tflite(fixed(activations.slopes_alike, models.with_slopes(True)))
    assert graph.operators[1].kind == "LEAKY_RELU"
    assert graph.operators[1].options["alpha"] == pytest.approx(0.03 * 7.5)


@pytest.mark.parametrize(
    "change",
    [
        maxima.maxima_in_turn,
        activations.slopes_alike,
        averages.means_as_pools,
        lambda graph: cutting.with_fewer_channels(graph, lambda count: count),
        interface.with_inputs_transposed,
        interface.without_final_softmax,
        activations.hard_swishes,
        activations.plain_relus,
        activations.joined_results,
        applying.without_transposes,
        applying.without_idle_operators,
    ],
)
def test_with_nothing_to_change_they_refuse(change: Callable[[Graph], Graph]) -> None:
    with pytest.raises(TransformError):
        fixed(change, models.chain(16))

"""Sequences laid along the width: the same bits, and refusals."""

import pytest

from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch, fixed
from mlia.transforms.proof import prove
from mlia.transforms.remedies.rows import rows_instead_of_columns


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 1), (3, 1))])
def test_convolutions_over_time_compute_the_same(
    padding: str, stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    net = IntegerSketch("time")
    x = net.image("x", (1, 21, 1, 3))
    x = net.filter("CONV_2D", x, filters=4, kernel=(4, 1), stride=stride, dilation=dilation, padding=padding, name="a")
    y = net.filter("DEPTHWISE_CONV_2D", x, filters=8, kernel=(3, 1), padding=padding, name="b")
    content = write_tflite(net.graph([x, y]))
    turned = fixed(rows_instead_of_columns, content)
    assert prove(content, turned) == ""
    shapes = {tensor.name: tensor.shape for tensor in read_tflite(turned).main.tensors}
    assert shapes["a/lying"][1] == 1


def test_what_lies_between_is_turned_too() -> None:
    net = IntegerSketch("between")
    x = net.image("x", (1, 16, 1, 4))
    a = net.filter("CONV_2D", x, filters=4, kernel=(3, 1), name="a")
    options = {"fused_activation_function": "NONE"}
    b = net.operator("ADD", [a, x], (1, 16, 1, 4), "b", options_table="AddOptions", options=options)
    sizes = {"stride_w": 1, "stride_h": 2, "filter_width": 1, "filter_height": 2}
    c = net.plain("MAX_POOL_2D", b, shape=(1, 8, 1, 4), name="c", table="Pool2DOptions", padding="VALID", **sizes)
    d = net.filter("CONV_2D", c, filters=4, kernel=(3, 1), name="d")
    content = write_tflite(net.graph([d]))
    turned = fixed(rows_instead_of_columns, content)
    assert prove(content, turned) == ""
    assert [operator.kind for operator in read_tflite(turned).operators].count("RESHAPE") == 2


@pytest.mark.parametrize(("shape", "kernel"), [((1, 16, 2, 4), (3, 1)), ((1, 16, 1, 4), (3, 3))])
def test_other_convolutions_are_left_alone(shape: tuple[int, ...], kernel: tuple[int, int]) -> None:
    net = IntegerSketch("other")
    content = write_tflite(net.graph([net.filter("CONV_2D", net.image("x", shape), filters=4, kernel=kernel)]))
    with pytest.raises(TransformError, match="no convolution runs along the height"):
        fixed(rows_instead_of_columns, content)

"""Tensors beyond what a target can address are refused before anybody works on them."""

import pytest

import mlia
from mlia.errors import BackendError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch


def scaled(side: int, depth: int) -> Graph:
    """An image through a depthwise filter: side * side * depth bytes in, and out."""
    net = IntegerSketch("large")
    out = net.filter("DEPTHWISE_CONV_2D", net.image("image", (1, side, side, depth)), filters=depth)
    return read_tflite(write_tflite(net.graph([out])))


LARGE = scaled(60_000, 2)  # 7.2e9 bytes


@pytest.mark.parametrize("target", ["ethos-u55-128", "cortex-m55"])
def test_a_tensor_of_more_than_32_bits_of_addresses(target: str) -> None:
    said = rf"^the tensor 'image' takes 6\.7 GiB \(7,200,000,000 bytes\), and {target} can address 4 GiB$"
    with pytest.raises(BackendError, match=said):
        mlia.check(LARGE, target, try_remedies=False)


def test_the_simulator_does_not_begin_with_it() -> None:
    with pytest.raises(BackendError, match=r"ethos-u55-128 can address 4 GiB"):
        mlia.verify(LARGE, "ethos-u55-128")


def test_an_arena_of_tensors_that_fit_one_by_one() -> None:
    with pytest.raises(BackendError, match=r"^the tensor arena takes [4-6]\.\d GiB .* cortex-m55 can address 4 GiB$"):
        mlia.check(scaled(50_000, 1), "cortex-m55")


def test_40_bits_are_enough_for_more() -> None:
    with pytest.raises(BackendError) as caught:  # the compiler has a limit of its own
        mlia.check(LARGE, "ethos-u85-256", try_remedies=False)
    assert "Vela refused the model" in str(caught.value)
    with pytest.raises(BackendError, match=r"ethos-u85-256 can address 1,024 GiB"):
        mlia.check(scaled(1_000_000, 2), "ethos-u85-256", try_remedies=False)


def test_what_fits_is_costed() -> None:
    assert mlia.check(scaled(20_000, 1), "ethos-u55-128", try_remedies=False).targets[0].results[0].compiled == ()

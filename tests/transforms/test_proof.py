"""Two models are the same when all bits of their outputs are."""

import numpy as np
import pytest
from conftest import SAMPLE

from mlia.errors import TransformError
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch, Sketch
from mlia.transforms.proof import prove


def padded(value: int = 0, shape: tuple[int, ...] = (1, 8, 8, 4)) -> bytes:
    """An addition of a constant, so that one code of difference can be made."""
    net = IntegerSketch("added")
    x = net.image("in", shape)
    other = net.constant("other", np.full((1,), value, np.int8), net.Q)
    options = {"fused_activation_function": "NONE"}
    return write_tflite(
        net.graph([net.operator("ADD", [x, other], shape, "sum", options_table="AddOptions", options=options)])
    )


def test_a_model_equals_itself() -> None:
    assert prove(SAMPLE.read_bytes(), SAMPLE.read_bytes()) == ""
    assert prove(padded(), padded()) == ""


def test_one_code_is_a_difference() -> None:
    assert prove(padded(0), padded(1)).startswith("'sum' differs by up to 1")


def test_other_ends_are_a_difference() -> None:
    assert prove(padded(), padded(shape=(1, 8, 4, 8))) == "its inputs are not what they were"


def test_what_does_not_run_is_no_proof() -> None:
    net = IntegerSketch("custom")
    x = net.image("in", (1, 8, 8, 4))
    broken = write_tflite(net.graph([net.operator("CUSTOM", [x], (1, 8, 8, 4), "sum", custom_code="Mine")]))
    assert prove(padded(), broken).startswith("LiteRT cannot run the model")
    with pytest.raises(TransformError, match="LiteRT cannot run the model"):
        prove(broken, padded())


def test_float_models_are_compared_bit_by_bit() -> None:
    def dense(seed: int) -> bytes:
        net = Sketch("dense", seed)
        return write_tflite(net.graph([net.fully_connected(net.input("in", (1, 8)), units=4)]))

    assert prove(dense(0), dense(0)) == ""
    assert "differs" in prove(dense(0), dense(1))

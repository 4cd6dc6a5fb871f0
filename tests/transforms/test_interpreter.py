"""What LiteRT refuses is our own error, wherever it refuses it."""

from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace

import mlia
from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from mlia.transforms.interpreter import Model, ReferenceModel, infer_shapes, outputs, telling_refusals
from mlia.verification import Outcome


def network() -> Graph:
    net = IntegerSketch("reshaped")
    x = net.filter("CONV_2D", net.image("image", (1, 4, 4, 2)), filters=2)
    return net.graph([net.plain("RESHAPE", x, net.integers("size", 1, 32), shape=(1, 32), name="flat")])


def of_the_future() -> bytes:
    """An operator in a version that LiteRT does not know; the compiler asks for no versions."""
    graph = network()
    (convolution, reshape) = graph.operators
    operators = (convolution, replace(reshape, version=99))
    return write_tflite(replace(graph, subgraphs=(replace(graph.main, operators=operators),)))


GOOD, UNKNOWN = write_tflite(network()), of_the_future()
SAMPLE = [np.zeros((1, 4, 4, 2), np.int8)]
WRONG = [np.zeros((1, 4, 4, 3), np.int8)]


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda: Model(UNKNOWN), "RESHAPE"),
        (lambda: ReferenceModel(UNKNOWN), "RESHAPE"),
        (lambda: Model(b"no model"), "."),
        (lambda: Model(GOOD).run(WRONG), "Dimension mismatch"),
        (lambda: Model(GOOD).real(999), "."),
        (lambda: ReferenceModel(GOOD).run(WRONG), "Dimension mismatch"),
        (lambda: ReferenceModel(GOOD).tensor(999), "."),
        (lambda: outputs(UNKNOWN, [np.stack(SAMPLE)]), "RESHAPE"),
        (lambda: infer_shapes(UNKNOWN, [(1, 4, 4, 2)]), "RESHAPE"),
    ],
)
def test_every_refusal_is_told(use: Callable[[], object], reason: str) -> None:
    with pytest.raises(TransformError, match=f"^LiteRT cannot run the model: .*{reason}"):
        use()


def test_shapes_that_do_not_work_are_another_matter() -> None:
    with pytest.raises(TransformError, match=r"^the model does not work with inputs of 1x5x5x2 \(--input-shape"):
        infer_shapes(GOOD, [(1, 5, 5, 2)])


def test_what_is_refused_is_one_line_without_a_full_stop() -> None:
    with pytest.raises(TransformError, match=r"^LiteRT cannot run the model: a reason$"), telling_refusals():
        raise RuntimeError("\na reason.\nwith details")


def test_verify_compares_the_operators_that_are_not_refused() -> None:
    found = mlia.verify(read_tflite(UNKNOWN), "ethos-u55-32")
    assert [check.outcome for check in found.operators] == [Outcome.EXACT, Outcome.NOT_COMPUTED]


def test_verify_tells_it_where_the_shapes_are_only_known_by_a_run() -> None:
    graph = read_tflite(UNKNOWN)
    image, *rest = graph.main.tensors
    image = replace(image, shape_signature=(-1, 4, 4, 2))
    content = write_tflite(replace(graph, subgraphs=(replace(graph.main, tensors=(image, *rest)),)))
    with pytest.raises(TransformError, match=r"^LiteRT cannot run the model: .*'RESHAPE' version '99'"):
        mlia.verify(read_tflite(content), "ethos-u55-32")

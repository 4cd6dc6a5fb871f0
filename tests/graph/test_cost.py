import pytest
from conftest import SAMPLE

from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Operator, Subgraph, Tensor
from mlia.graph.tflite import read_tflite


def subgraph_of(
    kind: str, *shapes: tuple[int, ...] | None, states: tuple[int, ...] = (), **options: bool
) -> tuple[Operator, Subgraph]:
    """One operator; shapes are its inputs' (None for one left out) and, last, its output's."""
    computed = {0, len(shapes) - 1, *states}
    tensors = tuple(
        Tensor(str(i), shape or (), "int8", data=memoryview(b"" if i in computed else b"weights"))
        for i, shape in enumerate(shapes)
    )
    inputs = tuple(-1 if shape is None else i for i, shape in enumerate(shapes[:-1]))
    operator = Operator(0, kind, inputs, (len(shapes) - 1,), options)
    return operator, Subgraph(0, "", tensors, (operator,), (), ())


@pytest.mark.parametrize(
    ("kind", "shapes", "expected"),
    [
        ("CONV_2D", [(1, 8, 8, 3), (16, 3, 3, 3), (16,), (1, 8, 8, 16)], 8 * 8 * 16 * 27),
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 4), (1, 3, 3, 8), (8,), (1, 8, 8, 8)], 8 * 8 * 8 * 9),
        ("FULLY_CONNECTED", [(2, 64), (12, 64), (12,), (2, 12)], 2 * 64 * 12),
        ("TRANSPOSE_CONV", [(4,), (8, 2, 2, 3), (1, 5, 5, 3), (1, 10, 10, 8)], 5 * 5 * 3 * 4 * 8),
        ("BATCH_MATMUL", [(4, 5, 6), (4, 6, 7), (4, 5, 7)], 4 * 5 * 6 * 7),
        ("SVDF", [(1, 10), (8, 10), (8, 6), (1, 8)], 8 * 10 + 8 * 6),
        ("SOFTMAX", [(1, 10), (1, 10)], 0),
        ("CONV_2D", [(1, 8, 8, 3), (1, 8, 8, 16)], 0),
    ],
)
def test_macs(kind: str, shapes: list[tuple[int, ...]], expected: int) -> None:
    assert macs(*subgraph_of(kind, *shapes)) == expected


def test_macs_of_a_transposed_matrix() -> None:
    assert macs(*subgraph_of("BATCH_MATMUL", (6, 5), (6, 7), (5, 7), adj_x=True)) == 5 * 6 * 7


def test_macs_of_an_lstm_leave_out_its_states() -> None:
    gates = [(20, 28)] * 4 + [(20, 20)] * 4
    shapes = [(1, 28, 28), *gates, None, None, None, *[(20,)] * 4, None, None, (1, 20), (1, 20), (1, 28, 20)]
    operator, subgraph = subgraph_of("UNIDIRECTIONAL_SEQUENCE_LSTM", *shapes, states=(18, 19))
    assert macs(operator, subgraph) == 28 * 4 * (20 * 28 + 20 * 20)


def test_the_sample_has_the_macs_of_its_paper_and_its_own_weights() -> None:
    # Hello Edge, table 5: DS-CNN (small) needs 5.4 MOps, two a multiply-accumulate.
    graph = read_tflite(SAMPLE.read_bytes())
    total = sum(macs(operator, graph.main) for operator in graph.operators)
    assert total == 320_000 + 4 * 72_000 + 4 * 512_000 + 768
    assert total * 2 == pytest.approx(5.4e6, rel=0.02)
    weights = sum(weights_bytes(operator, graph.main) for operator in graph.operators)
    assert weights == 64 * 40 + 4 * (64 * 9) + 4 * (64 * 64) + 12 * 64

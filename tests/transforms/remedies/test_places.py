"""Operators whose outputs share a name are told apart, in any order of remedies."""

from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.rules.performance.shape import FewInputChannels
from mlia.testing import IntegerSketch, advise_one, fixed
from mlia.transforms.proof import prove
from mlia.transforms.remedies.folding import folded_columns
from mlia.transforms.remedies.kernels import plain_convolutions
from mlia.transforms.remedies.places import Place, operator_at, place_of
from mlia.transforms.remedies.rows import place_when_lying, rows_instead_of_columns


def three_alike(
    size: tuple[int, int] = (40, 40), kernels: tuple[tuple[int, int], ...] = ((3, 3), (5, 5), (3, 5))
) -> bytes:
    net = IntegerSketch("alike")
    x = net.image("x", (1, *size, 1))
    return write_tflite(net.graph([net.filter("CONV_2D", x, filters=4, kernel=each, name="same") for each in kernels]))


def test_a_place_is_found_again() -> None:
    main = read_tflite(three_alike()).main
    places = [place_of(main, operator) for operator in main.operators]
    assert places == [Place("same", 0), Place("same", 1), Place("same", 2)]
    assert [operator_at(main, place) for place in places if place] == [*main.operators]
    assert operator_at(main, Place("same", 3)) is None
    assert operator_at(main, Place("other")) is None


def test_the_operator_that_is_meant_is_changed() -> None:
    content = three_alike()
    folded = fixed(lambda graph: folded_columns(graph, Place("same", 1), 2), content)
    assert prove(content, folded) == ""
    kinds = [operator.kind for operator in read_tflite(folded).operators]
    assert kinds == ["CONV_2D", "RESHAPE", "CONV_2D", "RESHAPE", "CONV_2D"]
    third = fixed(lambda graph: plain_convolutions(graph, [Place("same", 2)]), folded)
    assert prove(content, third) == ""
    assert [operator.kind for operator in read_tflite(third).operators][:5] == [*kinds[:4], "RESHAPE"]


def test_each_finding_is_about_its_own_operator() -> None:
    content = three_alike()
    findings = advise_one(FewInputChannels, content, "ethos-u85-256")
    assert len(findings) == 3
    made = {fixed(fix.change, content) for finding in findings for fix in finding.fixes[-1:] if fix.change}
    assert len(made) == 3


def test_what_is_turned_keeps_its_place() -> None:
    graph = read_tflite(three_alike((40, 1), ((3, 1), (3, 3), (5, 1))))  # the one in the middle cannot lie
    lying = rows_instead_of_columns(graph)
    found = operator_at(lying.main, place_when_lying(graph, Place("same", 2)))
    assert found is not None
    weights = lying.main.tensor(found.inputs[1])
    assert weights is not None
    assert weights.shape == (4, 1, 5, 1)

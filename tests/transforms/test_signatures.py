"""Models with several entry points: the main one is quantized, with what it calls, and the others are named."""

from msgspec.structs import replace

from mlia.graph.graph import Graph, Signature
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch
from mlia.transforms.calibration import synthetic_calibration
from mlia.transforms.quantize import quantize
from mlia.transforms.signatures import main_alone


def alone(name: str) -> Graph:
    net = Sketch(name)
    return net.graph([net.fully_connected(net.input("x", (1, 8)), units=4, name=name)])


def with_signatures(*graphs: Graph) -> Graph:
    """The models as subgraphs of one, each the body of a signature of its name."""
    subgraphs = tuple(replace(graph.main, index=number, name=f"body_{number}") for number, graph in enumerate(graphs))
    signatures = tuple(
        Signature(f"entry_{each.index}", each.index, {"x": each.inputs[0]}, {"y": each.outputs[0]})
        for each in subgraphs
    )
    return read_tflite(write_tflite(replace(graphs[0], subgraphs=subgraphs, signatures=signatures)))


def test_the_main_signature_is_quantized_and_the_other_one_named() -> None:
    graph = with_signatures(alone("first"), alone("second"))
    made = quantize(graph, synthetic_calibration(graph))
    assert not made.graph.computes_in_float
    assert not made.kept_in_float
    assert len(made.graph.subgraphs) == 1
    assert made.changes[0] == "only signature 'entry_0' is quantized, without 'entry_1'"


def test_what_the_main_subgraph_calls_stays_and_is_numbered_anew() -> None:
    graph = with_signatures(alone("first"), alone("second"), alone("third"))
    calling = replace(
        graph.operators[0],
        index=1,
        kind="WHILE",
        options_table="WhileOptions",
        options={"cond_subgraph_index": 2, "body_subgraph_index": 2},
    )
    main = replace(graph.main, operators=(*graph.operators, calling))
    found, changes = main_alone(replace(graph, subgraphs=(main, *graph.subgraphs[1:]), signatures=graph.signatures[:2]))
    assert [each.name for each in found.subgraphs] == ["body_0", "body_2"]
    assert found.operators[1].called == (1, 1)
    assert [each.key for each in found.signatures] == ["entry_0"]
    assert changes == ("only signature 'entry_0' is quantized, without 'entry_1'",)


def test_a_model_with_one_entry_stays_the_same() -> None:
    graph = with_signatures(alone("first"))
    assert main_alone(graph) == (graph, ())

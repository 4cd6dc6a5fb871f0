import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mlia.graph.fuse import with_fused_activations
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch


def run(graph: Graph, values: np.ndarray) -> list[np.ndarray]:
    interpreter = Interpreter(model_content=bytes(graph.content))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def with_activations(read_twice: bool) -> Graph:
    net = Sketch("apart")
    x = net.input("x", (1, 6, 6, 3))
    conv = net.convolution(x, filters=4, kernel=(3, 3), activation="NONE", name="conv")
    relu = net.unary("RELU", conv, "relu")
    deep = net.depthwise(relu, activation="NONE", name="depthwise")
    out = net.unary("RELU6", deep, "relu6")
    return read_tflite(write_tflite(net.graph([out, conv] if read_twice else [out])))


def test_activations_are_joined_and_compute_the_same() -> None:
    graph = with_activations(read_twice=False)
    fused = with_fused_activations(graph)
    assert [operator.kind for operator in fused.operators] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert [fused.main.operator_name(operator) for operator in fused.operators] == ["relu", "relu6"]
    assert [operator.index for operator in fused.operators] == [0, 1]
    values = np.random.default_rng(0).normal(0, 3, (1, 6, 6, 3)).astype(np.float32)
    assert np.allclose(run(graph, values)[0], run(fused, values)[0])
    assert with_fused_activations(fused) is fused


def test_what_another_operator_reads_too_stays() -> None:
    fused = with_fused_activations(with_activations(read_twice=True))
    assert [operator.kind for operator in fused.operators] == ["CONV_2D", "RELU", "DEPTHWISE_CONV_2D"]

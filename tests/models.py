"""Tiny int8 models that tests build."""

import numpy as np
from msgspec.structs import replace

from mlia.graph.graph import Graph, Quantization
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch

Q = Quantization((0.05,), (0,))


def int8_convolution(net: Sketch, x: int, name: str, filters: int = 8, channels: int = 8, stride: int = 1) -> int:
    """A 3x3 int8 convolution on 16x16 inputs."""
    weights = np.random.default_rng(0).integers(-100, 100, (filters, 3, 3, channels)).astype(np.int8)
    per_channel = Quantization((0.01,) * filters, (0,) * filters)
    w = net.constant(f"{name}/w", weights, per_channel)
    b = net.constant(f"{name}/b", np.zeros(filters, np.int32), Quantization((0.0005,) * filters, (0,) * filters))
    side = -(-16 // stride)
    return net.operator(
        "CONV_2D",
        [x, w, b],
        (1, side, side, filters),
        name,
        quantization=Q,
        options_table="Conv2DOptions",
        options={
            "padding": "SAME", "stride_w": stride, "stride_h": stride, "fused_activation_function": "NONE",
            "dilation_w_factor": 1, "dilation_h_factor": 1,
        },
    )  # fmt: skip


def sandwich(kind: str, names: tuple[str, str, str] = ("first", "middle", "last"), custom_code: str = "") -> Graph:
    """Two convolutions with an operator without options between them."""
    net = Sketch("sandwich")
    x = net.input("in", (1, 16, 16, 8), "int8", Q)
    x = int8_convolution(net, x, names[0])
    x = net.operator(kind, [x], (1, 16, 16, 8), names[1], custom_code=custom_code)
    return net.graph([int8_convolution(net, x, names[2])])


def strided(stride: int) -> Graph:
    net = Sketch("strided")
    x = net.input("in", (1, 16, 16, 8), "int8", Q)
    return net.graph([int8_convolution(net, x, "conv", stride=stride)])


def loop() -> Graph:
    """A WHILE between two convolutions, with a convolution in its body."""
    main = Sketch("loop")
    x = int8_convolution(main, main.input("in", (1, 16, 16, 8), "int8", Q), "before")
    options: dict[str, bool | int | float | str | tuple[int | float, ...] | None]
    options = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
    x = main.operator("WHILE", [x], (1, 16, 16, 8), "while", options_table="WhileOptions", options=options)
    graph = main.graph([int8_convolution(main, x, "after")])
    condition = Sketch("condition")
    x = condition.input("c", (1, 16, 16, 8), "int8", Q)
    condition_graph = condition.graph([condition.operator("LESS", [x, x], (), "less", dtype="bool")])
    body = Sketch("body")
    x = body.input("b", (1, 16, 16, 8), "int8", Q)
    body_graph = body.graph([int8_convolution(body, x, "inside")])
    further = (replace(condition_graph.main, index=1, name="cond"), replace(body_graph.main, index=2, name="body"))
    return replace(graph, subgraphs=(graph.main, *further))


def with_uncalled(graph: Graph, number: int) -> Graph:
    """The model and further subgraphs, a convolution each, that nothing calls."""
    further = []
    for index in range(len(graph.subgraphs), len(graph.subgraphs) + number):
        net = Sketch(f"uncalled {index}")
        x = net.input(f"{index}/in", (1, 16, 16, 8), "int8", Q)
        made = net.graph([int8_convolution(net, x, f"{index}/conv")])
        further.append(replace(made.main, index=index, name=f"uncalled {index}"))
    return replace(graph, subgraphs=(*graph.subgraphs, *further))


def as_file(graph: Graph) -> bytes:
    return write_tflite(graph)

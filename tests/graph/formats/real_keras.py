"""Real Keras models for the tests: as a KerasModel, and what LiteRT computes beside what Keras does."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mlia.graph.formats.keras import build_graph
from mlia.graph.formats.keras_model import KerasModel
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite

TOLERANCE = 1e-4  # relative to the largest value of the output


def keras_model(model: Any) -> KerasModel:
    stored = json.loads(model.to_json())
    return KerasModel(
        config={"class_name": stored["class_name"], "config": stored["config"]},
        weights=_weights(model, ""),
        container="a test",
    )


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with weights that nothing can be mistaken with: no zeros, no ones, positive variances."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if "seed" in weight.path or "count" in weight.path:
            continue
        if "variance" in weight.path:
            weight.assign(random.uniform(0.5, 1.5, shape))
        elif "gamma" in weight.path:
            weight.assign(random.uniform(0.6, 1.4, shape) * random.choice([-1, 1], shape, p=[0.1, 0.9]))
        else:
            fan_in = max(int(np.prod(shape[:-1])), 1) if len(shape) > 1 else 25
            weight.assign(random.normal(0, 1 / np.sqrt(fan_in), shape))
    return model


def compared(model: Any, batch: int = 1, spread: float = 1.0, shapes: Mapping[str, tuple[int, ...]] = {}) -> Graph:
    """The graph of a model with random weights, of which LiteRT computes what Keras does."""
    graph = build_graph(keras_model(randomized(model)), batch, shapes)
    assert_same(model, graph, spread)
    return graph


def assert_same(model: Any, graph: Graph, spread: float = 1.0) -> float:
    random = np.random.default_rng(1)
    tensors = [graph.main.tensors[index] for index in graph.main.inputs]
    values = [
        random.integers(0, 8, t.shape).astype(np.int32)
        if t.dtype == "int32"
        else random.normal(0, spread, t.shape).astype(np.float32)
        for t in tensors
    ]
    expected = model(values if len(values) > 1 else values[0], training=False)
    expected = [np.asarray(each) for each in keras.tree.flatten(expected)]
    content = write_tflite(graph)
    actual = run(content, values)
    assert [each.shape for each in actual] == [each.shape for each in expected]
    worst = max(
        float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-6))
        for ours, theirs in zip(actual, expected, strict=True)
    )
    assert worst < TOLERANCE
    read = read_tflite(content).main
    assert [op.kind for op in read.operators] == kinds(graph)
    assert [read.operator_name(op) for op in read.operators] == names(graph)
    return worst


def run(content: bytes, values: Sequence[Any]) -> list[Any]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.operators]


def names(graph: Graph) -> list[str]:
    return [graph.main.operator_name(op) for op in graph.operators]


def _weights(model: Any, path: str) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for layer in model.layers:
        name = f"{path}{layer.name}"
        if isinstance(layer, keras.Model):
            found |= _weights(layer, f"{name}/")
        elif isinstance(layer, keras.layers.Layer):
            found[name] = tuple(layer.get_weights())
    return found

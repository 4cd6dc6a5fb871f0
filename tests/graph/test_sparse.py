"""Constants that are stored sparse: dense in the Graph and in every file that is made of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from mlia.errors import ModelError
from mlia.graph import tflite_writer
from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import Tensor
from mlia.graph.load import load_model
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite

RANDOM = np.random.default_rng(5)


def by_rows(values: Any) -> tuple[Any, dict[str, Any]]:
    """(rows, columns): all rows, of each the columns that are not zero."""
    kept = values != 0
    segments = (0, *np.cumsum(kept.sum(1)).tolist())
    return values[kept], {
        "traversal_order": (0, 1),
        "block_map": (),
        "dim_metadata": [{"format": "DENSE", "dense_size": len(values)}, csr(segments, np.nonzero(kept)[1].tolist())],
    }


def by_blocks(values: Any) -> tuple[Any, dict[str, Any]]:
    """The same in blocks of 1x4 that are kept whole where one of the four is not zero."""
    blocks = values.reshape(len(values), -1, 4)
    kept = blocks.any(2)
    segments = (0, *np.cumsum(kept.sum(1)).tolist())
    return blocks[kept].reshape(-1), {
        "traversal_order": (0, 1, 2),
        "block_map": (1,),
        "dim_metadata": [
            {"format": "DENSE", "dense_size": len(values)},
            csr(segments, np.nonzero(kept)[1].tolist()),
            {"format": "DENSE", "dense_size": 4},
        ],
    }


def csr(segments: Any, indices: Any) -> dict[str, Any]:
    return {
        "format": "SPARSE_CSR",
        "array_segments_type": 1,
        "array_segments": ("Int32Vector", {"values": tuple(segments)}),
        "array_indices_type": 3,
        "array_indices": ("Uint8Vector", {"values": memoryview(bytes(indices))}),
    }


def sparse_file(
    monkeypatch: pytest.MonkeyPatch, weights: Any, data: Any, sparsity: dict[str, Any], densify: bool = False
) -> bytes:
    """A FULLY_CONNECTED whose weights have this sparsity; with `densify` an operator makes them dense first."""
    net = GraphBuilder("sparse")
    x = net.input("x", (1, weights.shape[1]))
    w = stored = net.tensor(Tensor("w", weights.shape, "float32", data=memoryview(np.float32(data).tobytes())))
    if densify:
        w = net.operator("DENSIFY", [w], weights.shape, "dense", dtype="float32", options_table="DensifyOptions")
    bias = net.constant("bias", np.zeros(len(weights), np.float32))
    y = net.operator(
        "FULLY_CONNECTED", [x, w, bias], (1, len(weights)), "y", dtype="float32", options_table="FullyConnectedOptions"
    )
    plain = tflite_writer._tensor
    name = net.graph([y]).main.tensors[stored].name
    with monkeypatch.context() as patch:
        patch.setattr(
            tflite_writer,
            "_tensor",
            lambda tensor, buffers: plain(tensor, buffers) | ({"sparsity": sparsity} if tensor.name == name else {}),
        )
        return write_tflite(net.graph([y]))


def run(content: bytes, x: Any) -> Any:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def weights() -> Any:
    values = RANDOM.normal(0, 1, (6, 16)).astype(np.float32)
    values[RANDOM.random(values.shape) < 0.7] = 0
    return values


@pytest.mark.parametrize("densify", [False, True])
@pytest.mark.parametrize("stored", [by_rows, by_blocks])
def test_sparse_weights_are_stored_dense_and_told(
    stored: Any, densify: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = weights()
    (tmp_path / "sparse.tflite").write_bytes(sparse_file(monkeypatch, values, *stored(values), densify))
    graph = load_model(tmp_path / "sparse.tflite")
    assert graph.provenance.added == ("1 sparse constants stored dense",)
    assert [operator.kind for operator in graph.operators] == ["FULLY_CONNECTED"]
    x = RANDOM.normal(0, 1, (1, 16)).astype(np.float32)
    np.testing.assert_allclose(run(bytes(graph.content), x), x @ values.T, rtol=1e-5, atol=1e-6)
    assert not any(tensor.is_sparse for tensor in graph.main.tensors)


@pytest.mark.parametrize(
    "damage",
    [
        {"traversal_order": (0, 0)},
        {"block_map": (7,)},
        {"dim_metadata": [{"format": "DENSE", "dense_size": 6}]},
        {"dim_metadata": [{"format": "DENSE", "dense_size": -6}, {"format": "DENSE", "dense_size": -16}]},
        {"dim_metadata": [{"format": "DENSE", "dense_size": 6}, csr((0, 1), (0,))]},
        {"dim_metadata": [{"format": "DENSE", "dense_size": 6}, csr((0, 5, 1, 2, 3, 4, 6), range(6))]},
        {"dim_metadata": [{"format": "DENSE", "dense_size": 6}, csr((0, 0, 0, 0, 0, 0, 1), (200,))]},
        {"dim_metadata": [{"format": "DENSE", "dense_size": 6}, {"format": "DENSE", "dense_size": 1 << 30}]},
    ],
)
def test_sparsity_that_does_not_fit_is_damage(damage: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    values = weights()
    data, sparsity = by_rows(values)
    with pytest.raises(ModelError, match="a sparse tensor does not fit its shape"):
        read_tflite(sparse_file(monkeypatch, values, data, sparsity | damage))

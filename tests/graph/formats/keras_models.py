"""The tiny models of Keras that the tests read, what they hold, and seeded ways to damage a file."""

import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlia.errors import ModelError
from mlia.graph.formats.keras_model import KerasModel

FIXTURES = Path(__file__).parent / "fixtures"


def unpacked(name: str, folder: Path) -> Path:
    """A fixture that is kept packed, unpacked into a folder."""
    with zipfile.ZipFile(FIXTURES / name) as archive:
        archive.extractall(folder)
    return folder


def assert_holds(model: KerasModel, name: str) -> None:
    """Array n of the model, counted over its layers, is n, n + 0.001, n + 0.002, … as make_keras.py set it."""
    expected = json.loads((FIXTURES / f"{name}.json").read_text())
    assert set(model.weights) == set(expected)
    number = 0
    for path, shapes in expected.items():
        assert [list(array.shape) for array in model.weights[path]] == shapes
        for array in model.weights[path]:
            assert array.dtype == np.float32
            assert np.allclose(array.ravel(), number + np.arange(array.size) / 1000, atol=1e-5)
            number += 1


def damaged(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Cuts, flipped bits, overwritten words and missing bytes, each at a random place."""
    chance = random.Random(seed)
    for _ in range(count):
        copy, at = bytearray(content), chance.randrange(len(content))
        match chance.randrange(4):
            case 0:
                del copy[at:]
            case 1:
                copy[at] ^= 1 << chance.randrange(8)
            case 2:
                copy[at : at + 4] = chance.choice([b"\xff" * 4, bytes(4), chance.randbytes(4)])
            case _:
                del copy[at : at + chance.randrange(1, 64)]
        yield bytes(copy)


def assert_one_line(error: pytest.ExceptionInfo[ModelError] | ModelError) -> None:
    text = str(error.value if isinstance(error, pytest.ExceptionInfo) else error)
    assert text
    assert "\n" not in text
    assert len(text) < 600

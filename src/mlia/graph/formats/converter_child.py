"""What the converter scripts share: one request in, one answer out. They find it by path; it imports no mlia."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


class Refusal(Exception):
    """What the user is told in one line."""


def show(shape: Any) -> str:
    """A shape as text, with ? where a size is open."""
    return "x".join("?" if size < 0 else str(size) for size in shape)


def first_line(error: BaseException) -> str:
    """What an error says in one line; what a mistake in a library's code says is for its programmers alone."""
    if isinstance(error, TypeError | AttributeError | LookupError | NameError | AssertionError):
        return "its own code fails on what the file says"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def write_samples(folder: str, inputs: dict[str, Any], compute: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Two seeded samples of the inputs, given as (shape, type) by name, and what the source computes for them.

    Our parent runs the converted file beside them. Arrays are called "sample:name", in the source's own layout.
    """
    import numpy

    samples: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for seed in range(2):
        random = numpy.random.default_rng(seed)
        sample = {}
        for name, (shape, dtype) in inputs.items():
            is_float = numpy.dtype(dtype).kind == "f"
            values = random.standard_normal(shape) if is_float else random.integers(0, 2, shape)
            sample[name] = numpy.asarray(values).astype(dtype)
        samples |= {f"{seed}:{name}": array for name, array in sample.items()}
        expected |= {f"{seed}:{name}": numpy.asarray(array) for name, array in compute(sample).items()}
    numpy.savez(os.path.join(folder, "samples.npz"), **samples)
    numpy.savez(os.path.join(folder, "expected.npz"), **expected)


def serve(convert: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """One request, one answer; what the converter prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            answer = convert(json.loads(sys.argv[1]))
        except Refusal as refusal:
            answer = {"error": str(refusal)}
        except MemoryError:
            answer = {"error": "converting it takes more memory than a converter may use"}
        answers.write(json.dumps(answer) + "\n")

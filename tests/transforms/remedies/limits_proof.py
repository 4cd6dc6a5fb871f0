"""Runs a TFLite file before and after a remedy in LiteRT's reference kernels."""

from collections.abc import Callable
from typing import Any

import numpy

from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.testing import fixed


def furthest(content: bytes, change: Callable[[Graph], Graph]) -> int:
    """The largest difference of any output, in codes, on random inputs and on the lowest and highest ones."""
    changed = fixed(change, content)
    assert _kinds(changed) != _kinds(content) or changed != content
    before, after = _interpreter(content), _interpreter(changed)
    assert _signature(before) == _signature(after)
    random = numpy.random.default_rng(0)
    largest = 0
    for trial in range(3):
        for mine, theirs in zip(before.get_input_details(), after.get_input_details(), strict=True):
            limits = numpy.iinfo(mine["dtype"])
            ends = numpy.array([limits.min, limits.max])
            values = (
                random.choice(ends, mine["shape"]) if trial else random.integers(*ends, mine["shape"], endpoint=True)
            )
            before.set_tensor(mine["index"], values.astype(mine["dtype"]))
            after.set_tensor(theirs["index"], values.astype(mine["dtype"]))
        before.invoke()
        after.invoke()
        for mine, theirs in zip(before.get_output_details(), after.get_output_details(), strict=True):
            expected, found = (run.get_tensor(each["index"]).astype(numpy.int64)
                               for run, each in ((before, mine), (after, theirs)))  # fmt: skip
            largest = max(largest, int(abs(expected - found).max()))
    return largest


def _kinds(content: bytes) -> list[str]:
    return [operator.kind for operator in read_tflite(content).operators]


def _signature(run: Any) -> list[Any]:
    details = (*run.get_input_details(), *run.get_output_details())
    return [(each["name"], each["shape"].tolist(), each["dtype"]) for each in details]


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    run = Interpreter(
        model_content=bytes(content), num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    run.allocate_tensors()
    return run

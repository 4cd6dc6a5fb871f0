"""Operators of a model computed by LiteRT from the NPU's own tensors, each with those before it that cannot be seen.

For child processes only: LiteRT can abort on some models.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy

from mlia.backends.simulator.kernels import Kernels, Step
from mlia.graph.graph import ACTING, Graph, Operator, Subgraph
from mlia.transforms.calibration import Array


class Theirs(Protocol):
    """The reference's side of a comparison: a model that has run a sample."""

    @property
    def uncomputed(self) -> Collection[int]:
        """The operators that LiteRT has not computed."""

    def run(self, sample: Sequence[Array]) -> None:
        """Run one sample."""

    def tensor(self, index: int) -> Array | None:
        """What the last run computed for a tensor; None where it is unknown."""


class Alone:
    """Parts of a model, each from tensors that are given to the tensor that is asked for."""

    def __init__(self, graph: Graph, kernels: Kernels) -> None:
        self._graph = graph
        self._kernels = kernels
        self._makers = {index: operator for operator in graph.main.operators for index in operator.outputs}
        self._models: dict[tuple[int, tuple[int, ...]], Step | None] = {}

    def expected(self, index: int, seen: Mapping[int, Array], theirs: Theirs, must_run: bool = False) -> Array | None:
        """A tensor as the reference computes it from the nearest tensors before it that can be seen.

        None if it cannot be run by itself, and (without `must_run`) if they are the reference's. `theirs` has run the
        whole model.
        """
        operators, inputs = self.before(index, seen)
        if _are_same(inputs, seen, theirs):
            return theirs.tensor(index) if must_run else None
        key = index, inputs
        if key not in self._models:
            self._models[key] = self._model(index, operators, inputs)
        model = self._models[key]
        found = None if model is None else model.run([seen[each] for each in inputs])
        return None if found is None else found[0]

    def is_as_the_reference(self, index: int, seen: Mapping[int, Array], theirs: Theirs) -> bool:
        """Whether the nearest tensors before one that can be seen are the reference's."""
        return _are_same(self.before(index, seen)[1], seen, theirs)

    def before(self, index: int, seen: Mapping[int, Array]) -> tuple[list[Operator], tuple[int, ...]]:
        """The operators that lead to a tensor from those that can be seen, and these."""
        operators: dict[int, Operator] = {}
        inputs: dict[int, None] = {}
        waiting = [self._makers[index]]
        while waiting:
            operator = waiting.pop()
            operators[operator.index] = operator
            for each in operator.inputs:
                if each in seen:
                    inputs[each] = None
                elif each in self._makers and self._makers[each].index not in operators:
                    waiting.append(self._makers[each])
        return [operators[number] for number in sorted(operators)], tuple(sorted(inputs))

    def _model(self, index: int, operators: Sequence[Operator], inputs: tuple[int, ...]) -> Step | None:
        """None for what remembers, or does not run by itself."""
        main = self._graph.main
        if any(remembers_more(main, operator) for operator in operators):
            return None
        return Step(self._kernels, self._graph, main, operators, inputs, (index,))


def remembers_more(main: Subgraph, operator: Operator) -> bool:
    """Whether an operator has more to it than its inputs."""
    variables = any(index >= 0 and main.tensors[index].is_variable for index in operator.inputs)
    return variables or operator.kind in ACTING or operator.kind == "READ_VARIABLE"


def _are_same(inputs: Sequence[int], seen: Mapping[int, Array], theirs: Theirs) -> bool:
    for each in inputs:
        theirs_one = theirs.tensor(each)
        if theirs_one is None or not numpy.array_equal(seen[each], theirs_one):
            return False
    return True

"""Which of LiteRT's kernels compute what: its reference kernels, its optimized ones where those fail, or none.

Reference kernels abort on some sound models, and refuse others. Then the model is computed operator by operator, so
that what fails costs no more than itself. For child processes only: a kernel that aborts ends the process, whose parent
begins another with what it was told last.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import CrashError, MliaError
from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Array
from mlia.transforms.forms import in_plain_form
from mlia.transforms.interpreter import ReferenceModel
from mlia.transforms.rewrites.network import without_unused_tensors

_Answer = TypeVar("_Answer")
_BETWEEN = " "  # kinds in one message


class Level(IntEnum):
    """What computes an operator."""

    REFERENCE = 0
    OPTIMIZED = 1
    NONE = 2


class Choice(Struct, frozen=True):
    """How a model is computed: all at once, or (`is_stepwise`) operator by operator, with other kernels by kind."""

    is_stepwise: bool = False
    levels: Mapping[str, Level] = {}

    def without(self, kinds: Collection[str]) -> "Choice":
        """The choice after these kinds ended the process."""
        levels = {kind: Level(min(self.levels.get(kind, 0) + 1, Level.NONE)) for kind in kinds}
        return Choice(True, {**self.levels, **levels})


class Kernels:
    """The kernels of one process, what it was told of them, and which of them it used."""

    def __init__(self, choice: Choice, progress: Callable[[str], None] | None = None) -> None:
        self.is_stepwise = choice.is_stepwise
        self._levels = choice.levels
        self._progress = progress
        self._used: dict[str, Level] = {}

    def level(self, kinds: Collection[str]) -> Level:
        """The best that takes all of them."""
        return max((Level(self._levels.get(kind, Level.REFERENCE)) for kind in kinds), default=Level.REFERENCE)

    def tell(self, kinds: Collection[str]) -> None:
        """Say what is run next, in case that it is the last that this process does."""
        if self._progress is not None:
            self._progress(_BETWEEN.join(kinds))

    def use(self, kinds: Collection[str], level: Level) -> None:
        """Note what was computed by what."""
        for kind in kinds:
            self._used[kind] = max(self._used.get(kind, Level.REFERENCE), level)

    def notes(self) -> tuple[str, ...]:
        """What was not computed by reference kernels, in words."""
        optimized = sorted(kind for kind, level in self._used.items() if level == Level.OPTIMIZED)
        none = sorted(kind for kind, level in self._used.items() if level == Level.NONE)
        found = []
        if optimized:
            found.append(
                f"LiteRT's reference kernels cannot compute {', '.join(optimized)} here; its optimized ones did"
            )
        if none:
            found.append(
                f"LiteRT cannot compute {', '.join(none)} here: not compared, and what reads it got seeded noise"
            )
        return tuple(found)


class Step:
    """Some operators as a model of their own, from `inputs` to `outputs`, in LiteRT."""

    def __init__(
        self,
        kernels: Kernels,
        graph: Graph,
        subgraph: Subgraph,
        operators: Sequence[Operator],
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        self.kinds = sorted({each.custom_code or each.kind for each in operators})
        self._kernels = kernels
        self._level = Level.REFERENCE
        self._model: ReferenceModel | None = None
        numbered = tuple(replace(operator, index=index) for index, operator in enumerate(operators))
        part = replace(subgraph, operators=numbered, inputs=tuple(inputs), outputs=tuple(outputs))
        self._graph = in_plain_form(Graph((part, *graph.subgraphs[1:]), graph.description))
        self.refusal = ""

    def reset(self) -> None:
        """Variables, other than resources, hold again what they held at first."""
        if self._model is not None:
            self._model.reset()

    def run(self, inputs: Sequence[Array]) -> list[Array] | None:
        """The outputs; None where no kernel computes them, and `refusal` says what the last one said."""
        while (level := max(self._level, self._kernels.level(self.kinds))) < Level.NONE:
            self._kernels.tell(self.kinds)
            try:
                if self._model is None or level != self._level:
                    content = write_tflite(without_unused_tensors(self._graph))
                    self._model = ReferenceModel(content, is_optimized=level == Level.OPTIMIZED)
                    self._level = level
                found = self._model.run(inputs)
            except (RuntimeError, ValueError, MliaError) as error:
                self.refusal = self.refusal or str(error)
                self._level, self._model = Level(level + 1), None
                continue
            self._kernels.use(self.kinds, level)
            self._kernels.tell(())
            return found
        self._kernels.use(self.kinds, Level.NONE)
        return None


def surviving(call: Callable[[Choice, Callable[[str], None]], _Answer]) -> _Answer:
    """Call a child again and again, each time without what ended it, until it answers.

    Raises:
        CrashError: it died of something else.
    """
    choice = Choice()
    while True:
        told: list[str] = []
        try:
            return call(choice, told.append)
        except CrashError:
            kinds = told[-1].split(_BETWEEN) if told and told[-1] else []
            if choice.is_stepwise and not kinds:
                raise
            choice = choice.without(kinds) if choice.is_stepwise else Choice(is_stepwise=True)

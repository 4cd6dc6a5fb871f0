"""Options of the verbs, in groups: how work is done, and what a check looks at."""

from collections.abc import Callable, Sequence
from os import PathLike

from msgspec import Struct

from mlia.backends.vela.process import DEFAULT_TIMEOUT_S
from mlia.errors import MliaError
from mlia.graph.graph import InputShapes

DEFAULT_BUDGET_S = 20.0


def silent(text: str) -> None:
    """Progress that nobody is told of."""


class Options(Struct, frozen=True):
    """How the work of a verb is done: `mlia.check(model, target, options=mlia.Options(timeout_s=60))`."""

    input_shapes: InputShapes = {}
    """Sizes of inputs by name, where the model leaves them open; "" for the only input."""
    estimator: str | None = None
    """Whose cycles to tell: "calibrated", by a model fitted to measurements, or "vela", the compiler's own; None for
    calibrated, in compare for that of a saved report beside the model."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """How long the compiler may take, in seconds, for each compilation."""
    progress: Callable[[str], None] = silent
    """Is told what is being done, in a few words."""

    def refuse(self, verb: str, *names: str) -> None:
        """Refuse options that a verb has no use for.

        Raises:
            MliaError: one of them is set.
        """
        for name in names:
            if getattr(self, name) != getattr(DEFAULT, name):
                raise MliaError(f"{verb}() has no use for the option {name}")


DEFAULT = Options()


class Scope(Struct, frozen=True):
    """What a check looks at, tries and writes: `mlia.check(model, target, scope=mlia.Scope(select=("CMP",)))`."""

    compatibility: bool = True
    """Report where the operators run."""
    performance: bool = True
    """Report cycles, latency and memory."""
    select: Sequence[str] = ()
    """Beginnings of the codes of rules to ask; all rules when empty."""
    ignore: Sequence[str] = ()
    """Beginnings of the codes of rules to leave out."""
    try_budget_s: float = DEFAULT_BUDGET_S
    """No remedy is begun after so many seconds. Only when they run out does a report depend on time."""
    keep_tried: str | PathLike[str] | None = None
    """A new or empty folder for copies that were tried: .tflite models and .toml profiles, named by the rule's code."""
    fix: str | PathLike[str] | None = None
    """Where to write the model with all lossless remedies that bring something, each proven bit by bit in LiteRT; for
    one Ethos-U target."""


EVERYTHING = Scope()

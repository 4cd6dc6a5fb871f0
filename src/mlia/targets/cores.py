"""What is known of a core: its instructions, and how many cycles each kind of work takes on it."""

import os
from functools import cache
from typing import Literal

import msgspec
from msgspec import Struct

from mlia.errors import TargetError

CORES = os.path.join(os.path.dirname(__file__), "cores")


@cache
def core_names() -> tuple[str, ...]:
    """The cores that there are figures of, by their numbers; a file of its own for each."""
    names = [name.removesuffix(".toml") for name in os.listdir(CORES) if name.endswith(".toml")]
    return tuple(sorted(names, key=lambda name: (int("".join(filter(str.isdigit, name)) or 0), name)))


class Core(Struct, frozen=True, forbid_unknown_fields=True):
    """A Cortex-M core and the software that runs networks on it.

    With a data cache the host cleans it for the NPU. `cycles` is how long one unit of each kind of work takes, by the
    names in costs.TERMS. The true figure is expected between low and high times the estimate: `fitted` for what was
    measured, `prior` for what was reasoned only.
    """

    name: str
    extension: Literal["MVE", "DSP", "none"]
    has_fpu: bool
    has_data_cache: bool
    stack: str
    version: str
    sources: tuple[str, ...]
    note: str
    fitted_low: float
    fitted_high: float
    prior_low: float
    prior_high: float
    cycles: dict[str, float]


@cache
def load_core(name: str) -> Core:
    """The core of that name ("cortex-m55").

    Raises:
        TargetError: there is none.
    """
    if name not in core_names():
        raise TargetError(f"no figures for a core named '{name}'; there are {', '.join(core_names())}")
    with open(os.path.join(CORES, f"{name}.toml"), "rb") as file:
        return msgspec.toml.decode(file.read(), type=Core)


def describe_core(name: str) -> list[str]:
    """Where the figures of a core come from, in a few lines.

    Raises:
        TargetError: there is no such core.
    """
    core = load_core(name)
    extension = "no DSP extension" if core.extension == "none" else f"{core.extension} extension"
    unit = "floating-point unit" if core.has_fpu else "no floating-point unit"
    fitted = f"{100 * (core.fitted_low - 1):+.0f} to {100 * (core.fitted_high - 1):+.0f} %"
    prior = f"{100 * (core.prior_low - 1):+.0f} to {100 * (core.prior_high - 1):+.0f} %"
    return [
        f"{core.stack}, {extension}, {unit}; coefficients of {core.version}",
        *(f"based on {source}" for source in core.sources),
        f"band: {fitted} where it was fitted, {prior} elsewhere",
        *([core.note] if core.note else []),
    ]

"""Where the coefficients for a target come from: its own profile, or what ships for its family."""

import os
from functools import cache

import msgspec

from mlia.errors import TargetError
from mlia.targets.coefficients import Coefficients
from mlia.targets.target import Target

FOLDER = os.path.join(os.path.dirname(__file__), "coefficients")


@cache
def load_coefficients(family: str) -> Coefficients:
    """The coefficients that ship for a family ("ethos-u55").

    Raises:
        TargetError: there are none.
    """
    path = os.path.join(FOLDER, f"{family}.toml")
    if not os.path.isfile(path):
        raise TargetError(f"no calibrated figures for the NPU family '{family}'")
    with open(path, "rb") as file:
        return msgspec.toml.decode(file.read(), type=Coefficients)


def coefficients_for(target: Target) -> Coefficients:
    """The target's own coefficients, or those of its NPU's family.

    Raises:
        TargetError: there are none.
    """
    return target.coefficients or load_coefficients(target.npu.family)


def memories_of(target: Target) -> tuple[str, ...]:
    """The target's memories as far as the estimate knows them: "dram of 7.5 bytes per cycle, latency 250"."""
    memories = {each.name: each for each in (target.system_config.axi0, target.system_config.axi1)}
    return tuple(
        f"{name} of {memory.bytes_per_cycle(target.npu):g} bytes per cycle, latency {memory.read_latency_cycles}"
        for name, memory in memories.items()
    )

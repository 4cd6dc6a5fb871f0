"""The coefficients of the model of the timing, by family of NPU: values, what they were fitted on and how well."""

import os
from functools import cache

import msgspec
from msgspec import Struct

from mlia.errors import TargetError
from mlia.targets.target import Target

FOLDER = os.path.join(os.path.dirname(__file__), "coefficients")


class Physics(Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of the model; the text of timing.py says where each of them acts.

    `counts_macs` when MACs are counted from shapes, for Vela's cycles of them hold more than the hardware spends;
    `block_cycles` go to each block of the output.
    `sram_share` is the share of the bandwidth of the SRAM that a step can use. `request_bytes` are moved by one of the
    requests for feature maps that a memory accepts at once, `requests` how many where the memory does not say;
    `decoder_bytes` and `copy_bytes` are under way at once for weights on their way to the decoder or a buffer.
    `fill` is the share of one block's work that nothing overlaps. Of the input of a block, `kept_bytes` stay in the
    NPU for the next slice of output channels and the rest is read again; 0 for what Vela counts.
    """

    counts_macs: bool
    block_cycles: float
    sram_share: float
    request_bytes: float
    requests: float
    decoder_bytes: float
    copy_bytes: float
    fill: float
    kept_bytes: float


class Coefficients(Struct, frozen=True, forbid_unknown_fields=True):
    """Of one family. The true figure is expected between band_low and band_high times the estimate.

    `n` rows of measurements; `error_percent` is the mean absolute error of networks that the fit had not seen, and
    `vela_error_percent` that of Vela's own estimate; `without` are kinds of work of which nothing was measured.
    """

    family: str
    fitted_on: tuple[str, ...]
    n: int
    error_percent: float
    vela_error_percent: float
    band_low: float
    band_high: float
    note: str
    without: tuple[str, ...]
    measured_memories: tuple[str, ...]
    physics: Physics


@cache
def load_coefficients(family: str) -> Coefficients:
    """The coefficients of a family ("ethos-u55").

    Raises:
        TargetError: there are none.
    """
    path = os.path.join(FOLDER, f"{family}.toml")
    if not os.path.isfile(path):
        raise TargetError(f"no calibrated figures for the NPU family '{family}'")
    with open(path, "rb") as file:
        return msgspec.toml.decode(file.read(), type=Coefficients)


def coefficients_for(target: Target) -> Coefficients:
    """The coefficients for a target's NPU.

    Raises:
        TargetError: there are none.
    """
    return load_coefficients(target.npu.family)


def unmeasured_memories(target: Target) -> tuple[str, ...]:
    """Which of the target's memories are unlike those of the measured runs, in words."""
    measured = coefficients_for(target).measured_memories
    memories = {memory.name: memory for memory in (target.system_config.axi0, target.system_config.axi1)}
    found = []
    for name, memory in memories.items():
        text = describe_memory(name, memory.bytes_per_cycle(target.npu), memory.read_latency_cycles)
        if text not in measured:
            found.append(text)
    return tuple(found)


def describe_memory(name: str, bytes_per_cycle: float, latency_cycles: int) -> str:
    """One line for a memory: "dram of 7.5 bytes per cycle, latency 250"."""
    return f"{name} of {bytes_per_cycle:g} bytes per cycle, latency {latency_cycles}"

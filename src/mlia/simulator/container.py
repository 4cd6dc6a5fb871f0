"""The payload that drives an Ethos-U: which NPU it is for, and the words of its command stream.

A payload is 32-bit little-endian words. After "COP1" come actions for the driver: a word whose low byte names the
action. Vela writes one configuration, empty actions that align what follows to 16 bytes, and one command stream
(agrees with Vela's payloads for all accelerators; published in Vela's driver_actions).
"""

from typing import TYPE_CHECKING

import numpy
from msgspec import Struct

from mlia.errors import SimulatorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOURCC = b"COP1"
_CONFIG, _STREAM, _NOTHING = 0x01, 0x02, 0x05
_FAMILIES = ("ethos-u55", "ethos-u65", "ethos-u85")
_LOG2_MACS = {"ethos-u55": range(5, 9), "ethos-u65": range(8, 10), "ethos-u85": range(7, 12)}


class Config(Struct, frozen=True):
    """The NPU that a stream is compiled for. `shram_kib` is the sum over `cores`; 0 on Ethos-U85."""

    product: int
    family: str
    macs_per_cycle: int
    shram_kib: int
    cores: int

    @property
    def name(self) -> str:
        """Such as "ethos-u55-128"."""
        return f"{self.family}-{self.macs_per_cycle}"


class Program(Struct, frozen=True):
    """A command stream: its words (uint32) and the NPU it is for."""

    config: Config
    words: "NDArray[numpy.uint32]"


def read_program(payload: bytes | memoryview) -> Program:
    """The program in the command stream tensor of a compiled model.

    Raises:
        SimulatorError: the payload is cut short, or has what is not known.
    """
    if bytes(payload[:4]) != _FOURCC:
        raise SimulatorError(f"a driver payload begins with COP1, not {bytes(payload[:4])!r}")
    if len(payload) % 4:
        raise SimulatorError(f"a driver payload is 32-bit words, but this one has {len(payload)} bytes")
    words = numpy.frombuffer(payload, "<u4").astype(numpy.uint32)
    config, stream, at = None, None, 1
    while at < len(words):
        action, word = int(words[at]) & 0xFF, int(words[at])
        if action == _CONFIG:
            config, length = _config(_ahead(words, at, 2)), 2
        elif action == _STREAM:
            length = word >> 16 | (word >> 8 & 0xFF) << 16
            if stream is not None:
                raise SimulatorError("a driver payload with more than one command stream is not known")
            stream = _ahead(words, at, length)
        elif action == _NOTHING:
            length = 0
        elif not word:
            # A zero is no action. Only as padding after the stream is it nothing.
            if stream is None or words[at:].any():
                raise SimulatorError(f"the driver payload has an empty action at byte {4 * at}")
            break
        else:
            raise SimulatorError(f"driver action {action:#x} at byte {4 * at} is not known")
        at += 1 + length
    if config is None or stream is None:
        raise SimulatorError(f"the driver payload has no {'configuration' if config is None else 'command stream'}")
    return Program(config, stream)


def _ahead(words: "NDArray[numpy.uint32]", at: int, count: int) -> "NDArray[numpy.uint32]":
    """The words after an action."""
    found = words[at + 1 : at + 1 + count]
    if len(found) < count:
        raise SimulatorError(f"the driver payload ends in the middle of the action at byte {4 * at}")
    return found


def _config(words: "NDArray[numpy.uint32]") -> Config:
    """The NPU's CONFIG register: log2 of its MACs, its shared RAM in KiB, its product."""
    register = int(words[0])
    product, log2_macs = register >> 28, register & 0xF
    if product >= len(_FAMILIES):
        raise SimulatorError(f"product {product} in the driver payload's configuration is no Ethos-U that is known")
    family = _FAMILIES[product]
    if log2_macs not in _LOG2_MACS[family]:
        raise SimulatorError(f"there is no {family} with {1 << log2_macs} MACs per cycle")
    cores = 2 if (family, log2_macs) == ("ethos-u65", 9) else 1
    # On Ethos-U85 these bits say how many memory ports there are.
    shram_kib = 0 if family == "ethos-u85" else register >> 8 & 0xFF
    return Config(product, family, 1 << log2_macs, shram_kib, cores)

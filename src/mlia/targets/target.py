"""What a target is: an NPU, the memories it reaches, where things are placed, and its host processor; and vela.ini, the
file in which Vela keeps memories and their use as a system configuration and a memory mode."""

import os
from configparser import ConfigParser
from configparser import Error as IniError
from functools import lru_cache
from importlib.util import find_spec
from typing import TypeAlias

from msgspec import Struct

from mlia.errors import BackendUnavailable, TargetError
from mlia.input import TEXT_BYTES, read_file
from mlia.targets.coefficients import Coefficients

# MACs per cycle each family is built with: Arm Ethos-U55, -U65 and -U85 technical reference manuals.
LEGAL_MACS = {
    "ethos-u55": (32, 64, 128, 256),
    "ethos-u65": (256, 512),
    "ethos-u85": (128, 256, 512, 1024, 2048),
}
# Bytes one AXI port moves per cycle: 64-bit ports on U55, 128-bit ports on U65 and U85 (same manuals).
AXI_PORT_BYTES = {"ethos-u55": 8, "ethos-u65": 16, "ethos-u85": 16}
# Without a limit of its own, a memory mode may use all the addresses a port can form: 32 or 40 bits.
ADDRESS_SPACE_BYTES = {"ethos-u55": 1 << 32, "ethos-u65": 1 << 40, "ethos-u85": 1 << 40}
MEMORY_KINDS = ("Sram", "Dram", "OnChipFlash", "OffChipFlash")  # Vela's words
FLASH = ("OnChipFlash", "OffChipFlash")
STRATEGIES = ("Performance", "Size")  # what Vela's scheduler minimizes: time, or memory whatever the time
SYSTEM, MODE = "System_Config.", "Memory_Mode."  # how vela.ini names its sections


class Npu(Struct, frozen=True):
    """An Ethos-U: `family` is ethos-u55, ethos-u65 or ethos-u85."""

    family: str
    macs_per_cycle: int
    clock_mhz: float

    @property
    def name(self) -> str:
        return self.family.replace("ethos-u", "Ethos-U")


class Processor(Struct, frozen=True):
    """The Cortex-M that runs what the NPU cannot."""

    core: str
    clock_mhz: float

    @property
    def name(self) -> str:
        return self.core.replace("cortex-m", "Cortex-M").replace("plus", "+")


class Memory(Struct, frozen=True):
    """One memory as the NPU sees it. `kind` is Vela's word: Sram, Dram, OnChipFlash or OffChipFlash.

    `max_reads` and `max_writes` are the transfers that may be under way at once; None where nothing is said.
    Only the estimate for Ethos-U85 uses them.
    """

    kind: str
    clock_scale: float
    read_latency_cycles: int
    write_latency_cycles: int
    burst_bytes: int
    ports: int = 1
    max_reads: int | None = None
    max_writes: int | None = None

    @property
    def name(self) -> str:
        """sram, dram, on_chip_flash or off_chip_flash: the word of profiles and reports."""
        return {"OnChipFlash": "on_chip_flash", "OffChipFlash": "off_chip_flash"}.get(self.kind, self.kind.lower())

    def bytes_per_cycle(self, npu: Npu) -> float:
        """Peak bandwidth in bytes per NPU cycle: port width x ports x clock scale (Vela's definition)."""
        return AXI_PORT_BYTES[npu.family] * self.ports * self.clock_scale

    def bandwidth_gb_s(self, npu: Npu) -> float:
        """Peak bandwidth in 10^9 bytes per second."""
        return self.bytes_per_cycle(npu) * npu.clock_mhz / 1000


class SystemConfig(Struct, frozen=True):
    """The memories behind the NPU's two AXI ports, and the clock Vela was given for them."""

    name: str
    clock_mhz: float
    axi0: Memory
    axi1: Memory


class MemoryMode(Struct, frozen=True):
    """Which port ("axi0" or "axi1") holds constants, the arena and the fast cache of the arena.

    `cache_limit_bytes` is how much of the cache (or arena) memory may be used; None for all of it.
    """

    name: str
    constants: str
    arena: str
    cache: str
    cache_limit_bytes: int | None = None


class Target(Struct, frozen=True):
    """A place to run a model. `vela_config` is the vela.ini text that the names of system config and mode refer to.

    `strategy` is one of STRATEGIES: what the compiler's scheduler minimizes. `coefficients` are of this very board;
    None for those of the family.
    """

    name: str
    description: str
    npu: Npu
    host: Processor
    system_config: SystemConfig
    memory_mode: MemoryMode
    vela_config: str
    vela_config_source: str
    strategy: str = STRATEGIES[0]
    coefficients: Coefficients | None = None

    def __str__(self) -> str:
        what = f"{self.npu.name}, {self.npu.macs_per_cycle} MACs per cycle at {self.npu.clock_mhz:g} MHz"
        return f"{self.name}: {what}, {self.memory_mode.name}, host {self.host.name}"

    @property
    def constants_memory(self) -> Memory:
        return self._port(self.memory_mode.constants)

    @property
    def arena_memory(self) -> Memory:
        return self._port(self.memory_mode.arena)

    @property
    def cache_memory(self) -> Memory:
        return self._port(self.memory_mode.cache)

    @property
    def arena_limit_bytes(self) -> int:
        """How much the compiler may plan with, as the `vela` command would pass it on."""
        limit = self.memory_mode.cache_limit_bytes
        return ADDRESS_SPACE_BYTES[self.npu.family] if limit is None else limit

    def _port(self, name: str) -> Memory:
        return self.system_config.axi0 if name == "axi0" else self.system_config.axi1


class CpuTarget(Struct, frozen=True):
    """A Cortex-M without an NPU: it runs the whole model with TensorFlow Lite Micro."""

    name: str
    description: str
    host: Processor

    def __str__(self) -> str:
        return f"{self.name}: {self.host.name} alone at {self.host.clock_mhz:g} MHz"


AnyTarget: TypeAlias = Target | CpuTarget


def check_npu(npu: Npu) -> None:
    """Refuse an NPU that does not exist.

    Raises:
        TargetError: unknown family, a number of MACs that it is not built with, or no clock.
    """
    if npu.family not in LEGAL_MACS:
        raise TargetError(f"unknown NPU family '{npu.family}': choose from {', '.join(LEGAL_MACS)}")
    legal = LEGAL_MACS[npu.family]
    if npu.macs_per_cycle not in legal:
        choices = ", ".join(map(str, legal))
        raise TargetError(f"{npu.name} does not come with {npu.macs_per_cycle} MACs per cycle: choose from {choices}")
    if not 0 < npu.clock_mhz <= 100_000:
        raise TargetError(f"a clock of {npu.clock_mhz:g} MHz is not possible: give clock_mhz between 0 and 100000")


def check_memory(memory: Memory) -> None:
    """Refuse numbers that no memory has: Vela would compute with them.

    Raises:
        TargetError: a number that is not finite, negative, or beyond reason.
    """
    limits = {
        "clock_scale": (memory.clock_scale, 1e-6, 16),
        "read_latency": (memory.read_latency_cycles, 0, 1_000_000),
        "write_latency": (memory.write_latency_cycles, 0, 1_000_000),
        "burst length": (memory.burst_bytes, 1, 65_536),
        "ports": (memory.ports, 1, 16),
        "max_reads": (memory.max_reads or 0, 0, 1_000_000),
        "max_writes": (memory.max_writes or 0, 0, 1_000_000),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise TargetError(f"{memory.name}: a {name} of {value:g} is not possible; it can be {low:g} to {high:g}")


def check_strategy(strategy: str) -> None:
    """Refuse what the compiler's scheduler does not know.

    Raises:
        TargetError: it is not one of STRATEGIES.
    """
    if strategy not in STRATEGIES:
        raise TargetError(f"strategy is '{strategy}': choose from {', '.join(STRATEGIES)}")


def why_impossible(npu: Npu, system_config: SystemConfig, memory_mode: MemoryMode) -> str | None:
    """Why this NPU cannot use these memories like this, or None when it can."""
    memories = {"axi0": system_config.axi0, "axi1": system_config.axi1}
    arena, cache = memories[memory_mode.arena].kind, memories[memory_mode.cache].kind
    if cache != "Sram":
        return f"the cache is in {cache}, but must be in Sram"
    if arena in FLASH:
        return f"the arena is in {arena}, which cannot be written"
    if npu.family == "ethos-u55" and arena != "Sram":
        # Ethos-U55 TRM: the second AXI master (M1) is read-only.
        return f"the arena is in {arena}, but an Ethos-U55 can only write to Sram"
    limit = memory_mode.cache_limit_bytes
    if limit is not None and not 0 < limit <= ADDRESS_SPACE_BYTES[npu.family]:
        return f"the cache limit of {limit} bytes is outside of what the NPU can address"
    return None


def installed_path() -> str:
    """Where the installed Vela keeps the file with Arm's own configurations.

    Raises:
        BackendUnavailable: Vela is not installed.
    """
    spec = find_spec("ethosu")
    for folder in spec.submodule_search_locations or () if spec else ():
        # os.path here and in profiles.py: importing pathlib takes 5 ms before the compiler can begin.
        path = os.path.join(folder, "config_files", "Arm", "vela.ini")
        if os.path.isfile(path):
            return path
    raise BackendUnavailable("the Vela compiler is not installed: pip install 'ethos-u-vela>=5.2,<5.3'")


def installed_version() -> str:
    """The version of the installed compiler, from the name of its metadata folder (importlib.metadata is slow).

    Raises:
        BackendUnavailable: Vela is not installed.
    """
    packages = installed_path()
    for _ in range(4):  # vela.ini, Arm, config_files, ethosu
        packages = os.path.dirname(packages)
    folders = [
        name for name in os.listdir(packages) if name.startswith("ethos_u_vela-") and name.endswith(".dist-info")
    ]
    if len(folders) == 1:
        return folders[0].split("-")[1].removesuffix(".dist")
    from importlib.metadata import version

    return version("ethos-u-vela")


class VelaIni:
    """A parsed vela.ini: system configurations and memory modes by name."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self._parser = ConfigParser(interpolation=None)
        try:
            self._parser.read_string(text, source)
        except IniError as error:
            raise TargetError(f"{source} is not a vela.ini: {str(error).splitlines()[0]}") from None

    @property
    def system_configs(self) -> list[str]:
        return [name.removeprefix(SYSTEM) for name in self._parser.sections() if name.startswith(SYSTEM)]

    @property
    def memory_modes(self) -> list[str]:
        return [name.removeprefix(MODE) for name in self._parser.sections() if name.startswith(MODE)]

    def system_config(self, name: str) -> SystemConfig:
        """The system configuration of that name; what is not given is 1, or 0 for latencies, as in Vela."""
        section = self._section(SYSTEM + name, self.system_configs)
        axi0, axi1 = (self._memory(section, port) for port in ("axi0_port", "axi1_port"))
        return SystemConfig(name, _number(section, "core_clock", 1, self.source) / 1e6, axi0, axi1)

    def memory_mode(self, name: str) -> MemoryMode:
        """The memory mode of that name."""
        section = self._section(MODE + name, self.memory_modes)

        def port(key: str) -> str:
            value = section.get(key, "Axi0").lower()
            if value not in ("axi0", "axi1"):
                raise TargetError(f"{self.source}: {key} of {name} is '{value}': choose Axi0 or Axi1")
            return value

        limit = section.get("arena_cache_size")
        limit_bytes = None if limit is None else int(_number(section, "arena_cache_size", 0, self.source))
        return MemoryMode(name, port("const_mem_area"), port("arena_mem_area"), port("cache_mem_area"), limit_bytes)

    def _section(self, name: str, known: list[str]) -> dict[str, str]:
        """A section with what it inherits; the section's own values win."""
        values: dict[str, str] = {}
        chain = []
        while name:
            if name in chain:
                raise TargetError(f"{self.source}: {name} inherits from itself")
            if not self._parser.has_section(name):
                what, _, short = name.rpartition(".")
                raise TargetError(
                    f"{self.source} has no {what.replace('_', ' ').lower() or 'section'} '{short}':"
                    f" choose from {', '.join(known)}"
                )
            chain.append(name)
            own = dict(self._parser.items(name))
            name = own.pop("inherit", "")
            values = own | values
        return values

    def _memory(self, section: dict[str, str], port: str) -> Memory:
        kind = section.get(port, "")
        if kind not in MEMORY_KINDS:
            raise TargetError(f"{self.source}: {port} is '{kind}': choose from {', '.join(MEMORY_KINDS)}")

        def number(key: str, default: float) -> float:
            return _number(section, f"{kind}_{key}".lower(), default, self.source)

        def count(key: str) -> int | None:
            return int(number(key, 0)) if f"{kind}_{key}".lower() in section else None

        memory = Memory(
            kind=kind,
            clock_scale=number("clock_scale", 1),
            read_latency_cycles=int(number("read_latency", 0)),
            write_latency_cycles=int(number("write_latency", 0)),
            burst_bytes=int(number("burst_length", 1)),
            ports=max(1, int(number("ports_used", 1))),
            max_reads=count("max_reads"),
            max_writes=count("max_writes"),
        )
        check_memory(memory)
        return memory


@lru_cache(maxsize=8)
def parse_vela_ini(text: str, source: str) -> VelaIni:
    """The content of a vela.ini, which is read several times in a run and takes 2 ms to parse.

    Raises:
        TargetError: it is not in that format.
    """
    return VelaIni(text, source)


def read_vela_ini(path: str) -> VelaIni:
    """Read a vela.ini file.

    Raises:
        TargetError: it cannot be read or is not in that format.
    """
    try:
        text = read_file(path, TEXT_BYTES).decode()
        return parse_vela_ini(text.replace("\r\n", "\n"), os.path.basename(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TargetError(f"cannot read {path}: {reason}") from None


def write_vela_ini(system_config: SystemConfig, memory_mode: MemoryMode) -> str:
    """The text of a vela.ini with one system configuration and one memory mode."""
    lines = [f"[{SYSTEM}{system_config.name}]", f"core_clock={system_config.clock_mhz * 1e6!r}"]
    lines += [f"axi0_port={system_config.axi0.kind}", f"axi1_port={system_config.axi1.kind}"]
    for memory in {memory.kind: memory for memory in (system_config.axi0, system_config.axi1)}.values():
        lines += [
            f"{memory.kind}_clock_scale={memory.clock_scale!r}",
            f"{memory.kind}_ports_used={memory.ports}",
            f"{memory.kind}_burst_length={memory.burst_bytes}",
            f"{memory.kind}_read_latency={memory.read_latency_cycles}",
            f"{memory.kind}_write_latency={memory.write_latency_cycles}",
        ]
        limits = {"max_reads": memory.max_reads, "max_writes": memory.max_writes}
        lines += [f"{memory.kind}_{key}={limit}" for key, limit in limits.items() if limit is not None]
    areas = {"const": memory_mode.constants, "arena": memory_mode.arena, "cache": memory_mode.cache}
    lines += [f"[{MODE}{memory_mode.name}]", *(f"{area}_mem_area={port.capitalize()}" for area, port in areas.items())]
    if memory_mode.cache_limit_bytes is not None:
        lines.append(f"arena_cache_size={memory_mode.cache_limit_bytes}")
    return "\n".join(lines) + "\n"


def _number(section: dict[str, str], key: str, default: float, source: str) -> float:
    try:
        number = float(section.get(key, default))
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e18:
        raise TargetError(f"{source}: {key} is '{section[key]}', which is not a number that it can be")
    return number

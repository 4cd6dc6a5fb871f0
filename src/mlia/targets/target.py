"""What a target is: an NPU, the memories it reaches, where things are placed, and its host processor."""

from msgspec import Struct

from mlia.errors import TargetError

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
FLASH = ("OnChipFlash", "OffChipFlash")


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
        return self.core.replace("cortex-m", "Cortex-M")


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
    """A place to run a model. `vela_config` is the vela.ini text that the two names below refer to."""

    name: str
    description: str
    npu: Npu
    host: Processor
    system_config: SystemConfig
    memory_mode: MemoryMode
    vela_config: str
    vela_config_source: str

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

"""Target profiles: a built-in name or the path of a TOML file -> Target."""

import os
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from mlia.errors import TargetError
from mlia.input import TEXT_BYTES, read_file
from mlia.targets.coefficients import Coefficients, check_coefficients
from mlia.targets.cores import core_names
from mlia.targets.target import (
    AXI_PORT_BYTES,
    FLASH,
    LEGAL_MACS,
    STRATEGIES,
    AnyTarget,
    CpuTarget,
    Memory,
    MemoryMode,
    Npu,
    Processor,
    SystemConfig,
    Target,
    VelaIni,
    check_memory,
    check_npu,
    check_strategy,
    installed_path,
    read_vela_ini,
    why_impossible,
    write_vela_ini,
)

# What names a target: a built-in profile, the path of a TOML profile, or the target itself.
TargetSource: TypeAlias = str | os.PathLike[str] | AnyTarget
BUILT_IN = os.path.join(os.path.dirname(__file__), "profiles")
_T = TypeVar("_T")


class NpuTable(msgspec.Struct, forbid_unknown_fields=True):
    """[npu]"""

    family: str
    macs_per_cycle: int
    clock_mhz: float


class HostTable(msgspec.Struct, forbid_unknown_fields=True):
    """[host]"""

    core: str
    clock_mhz: float


class VelaTable(msgspec.Struct, forbid_unknown_fields=True):
    """[vela]: names in Vela's own configuration file, or in `ini`, relative to the profile.

    `arena_cache_bytes` is used instead of the memory mode's own limit.
    """

    system_config: str
    memory_mode: str
    ini: str = ""
    arena_cache_bytes: int | None = None


class MemoryTable(msgspec.Struct, forbid_unknown_fields=True):
    """[memory.KIND]: peak bandwidth in 10^9 bytes per second, latencies in NPU cycles.

    `clock_scale` is the bandwidth as a part of what the ports can move, as Vela has it; one of both is given.
    """

    read_latency_cycles: int
    bandwidth_gb_s: float | None = None
    clock_scale: float | None = None
    write_latency_cycles: int = 0
    burst_bytes: int = 128
    ports: int = 1
    max_reads: int | None = None
    max_writes: int | None = None


class PlacementTable(msgspec.Struct, forbid_unknown_fields=True):
    """[placement]: the memory that holds constants, the arena, and the fast cache of the arena."""

    constants: str
    arena: str
    cache: str = "sram"
    cache_limit_bytes: int | None = None


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    """A profile file: [vela] names the memories, or [memory.*] and [placement] write them out.

    `mlia calibrate` writes [coefficients]: how long this very board takes.
    Without [npu] the target is the host alone, which needs no memories.
    """

    host: HostTable
    npu: NpuTable | None = None
    name: str = ""
    description: str = ""
    strategy: str = STRATEGIES[0]
    vela: VelaTable | None = None
    memory: dict[Literal["sram", "dram", "on_chip_flash", "off_chip_flash"], MemoryTable] = {}
    placement: PlacementTable | None = None
    coefficients: Coefficients | None = None


# Vela's words for what a placement of constants, arena and cache means.
MODES = {
    ("axi0", "axi0", "axi0"): "Sram_Only",
    ("axi1", "axi0", "axi0"): "Shared_Sram",
    ("axi1", "axi1", "axi0"): "Dedicated_Sram",
}
VELA_KIND = {"sram": "Sram", "dram": "Dram", "on_chip_flash": "OnChipFlash", "off_chip_flash": "OffChipFlash"}


def target_names() -> list[str]:
    """The names of the built-in profiles: by family and MACs, then Cortex-M cores from the smallest."""
    names = [name.removesuffix(".toml") for name in os.listdir(BUILT_IN) if name.endswith(".toml")]
    npus = [name for name in names if name not in core_names()]
    return [*sorted(npus, key=_by_number), *(core for core in core_names() if core in names)]


def _by_number(name: str) -> tuple[str, int, str]:
    """Names that end in a number by that, after what they begin with."""
    begin, _, end = name.rpartition("-")
    return (begin, int(end), "") if end.isdigit() else (name, -1, "")


def is_path(name: str) -> bool:
    """Whether a target is named by the path of its profile."""
    return "/" in name or "\\" in name or name.endswith(".toml")


def load_target(name: str) -> AnyTarget:
    """The target of a built-in profile's name, or of the path of a TOML profile.

    Args:
        name: such as "ethos-u55-256", or a path.

    Raises:
        TargetError: no such profile, a profile that cannot be read, or hardware that cannot exist.
    """
    path = os.path.join(BUILT_IN, f"{name}.toml")
    if is_path(name):
        path = name
    elif name not in target_names():
        family, _, number = name.rpartition("-")
        if family in LEGAL_MACS and number.isascii() and number.isdigit():
            check_npu(Npu(family, int(number), clock_mhz=1))
        raise TargetError(f"no target '{name}'{_did_you_mean(name)}; `mlia target list` shows them all")
    try:
        profile = msgspec.toml.decode(read_file(path, TEXT_BYTES).decode(), type=Profile)
    except OSError as error:
        raise TargetError(f"cannot read the target profile {path}: {error.strerror}") from None
    except RecursionError:
        raise TargetError(f"the target profile {path} is not valid: it is nested too deeply") from None
    except UnicodeDecodeError:
        raise TargetError(f"the target profile {path} is not valid: it is not text in UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise TargetError(f"the target profile {path} is not valid: {str(error).rstrip('.')}") from None
    try:
        return _target(profile, path)
    except OverflowError:
        raise TargetError(f"target {profile.name or os.path.basename(path)}: a number is beyond all reason") from None
    except TargetError as error:
        raise TargetError(f"target {profile.name or os.path.basename(path)}: {error}") from None


def load_targets(
    target: TargetSource | Sequence[TargetSource],
) -> list[AnyTarget]:
    """One or several targets, each by its name, the path of its profile, or as it is.

    Raises:
        TargetError: as load_target.
    """
    asked = list(target) if isinstance(target, Sequence) and not isinstance(target, str) else [target]
    if not asked:
        raise TargetError("no target is given; name at least one")
    return [one_target(entry) for entry in asked]


def one_target(target: TargetSource) -> AnyTarget:
    """A target by its name, the path of its profile, or as it is.

    Raises:
        TargetError: as load_target, or nothing that names a target.
    """
    if isinstance(target, Target | CpuTarget):
        return target
    if isinstance(target, str | os.PathLike):
        return load_target(os.fspath(target))
    kind = "None" if target is None else f"a value of type {type(target).__name__}"
    raise TargetError(f"a target is a name, the path of a profile, a Target or a CpuTarget, and not {kind}")


def _did_you_mean(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name.lower().replace("_", "-"), target_names(), n=3, cutoff=0.5)
    return f": did you mean {' or '.join(near)}?" if near else ""


def _target(profile: Profile, path: str) -> AnyTarget:
    host = Processor(profile.host.core, profile.host.clock_mhz)
    name, description = profile.name or os.path.basename(path).removesuffix(".toml"), profile.description
    if host.core not in core_names():
        raise TargetError(f"no core '{host.core}'; there are {', '.join(core_names())}")
    if not 0.1 <= host.clock_mhz <= 100_000:
        raise TargetError(f"the host's clock of {host.clock_mhz:g} MHz is not possible")
    if profile.npu is None:
        if profile.vela or profile.memory or profile.placement:
            raise TargetError("memories are described for an NPU, and there is no [npu]")
        if profile.strategy != STRATEGIES[0]:
            raise TargetError("a strategy is for the compiler of an NPU, and there is no [npu]")
        if profile.coefficients:
            raise TargetError("coefficients are of an NPU, and there is no [npu]")
        return CpuTarget(name, description, host)
    npu = Npu(profile.npu.family, profile.npu.macs_per_cycle, profile.npu.clock_mhz)
    check_npu(npu)
    check_strategy(profile.strategy)
    if profile.vela and (profile.memory or profile.placement):
        raise TargetError("give either [vela] or [memory.*] and [placement], not both")
    if profile.vela:
        system_config, memory_mode, config, source = _named(npu, profile.vela, path)
    else:
        system_config, memory_mode = _written_out(npu, profile, name)
        config, source = write_vela_ini(system_config, memory_mode), f"written out in {os.path.basename(path)}"
    if profile.coefficients:
        check_coefficients(profile.coefficients, npu.family)
    return Target(
        name,
        description,
        npu,
        host,
        system_config,
        memory_mode,
        config,
        source,
        profile.strategy,
        profile.coefficients,
    )


def _named(npu: Npu, table: VelaTable, path: str) -> tuple[SystemConfig, MemoryMode, str, str]:
    """The memories by their names in a vela.ini; impossible pairs are refused with the possible ones."""
    ini = read_vela_ini(os.path.join(os.path.dirname(path), table.ini) if table.ini else installed_path())
    system_config, memory_mode = ini.system_config(table.system_config), ini.memory_mode(table.memory_mode)
    text = ini.text
    if table.arena_cache_bytes is not None:
        memory_mode = replace(memory_mode, cache_limit_bytes=table.arena_cache_bytes)
        text = write_vela_ini(system_config, memory_mode)
    reason = _of_another_family(npu, system_config.name) or why_impossible(npu, system_config, memory_mode)
    if not reason and npu.clock_mhz != system_config.clock_mhz:
        raise TargetError(
            f"clock_mhz is {npu.clock_mhz:g}, but {system_config.name} describes memories for"
            f" {system_config.clock_mhz:g} MHz; give that clock, or write the memories out"
        )
    if reason:
        legal = _legal_pairs(npu, ini) or ["none in this file"]
        raise TargetError(
            f"{npu.name} cannot use {system_config.name} with {memory_mode.name}: {reason};"
            f" possible: {', '.join(legal)}"
        )
    return system_config, memory_mode, text, table.ini or "Vela's Arm/vela.ini"


def _of_another_family(npu: Npu, system_config: str) -> str | None:
    """Arm's configurations carry the family in their name; port widths and clocks are meant for it."""
    for family in AXI_PORT_BYTES:
        prefix = family.replace("ethos-u", "Ethos_U")
        if system_config.startswith(prefix + "_") and family != npu.family:
            return f"{system_config} describes an {family.replace('ethos-u', 'Ethos-U')} system"
    return None


def _legal_pairs(npu: Npu, ini: VelaIni) -> list[str]:
    """Every possible pair, as "SYSTEM with MODE, MODE"."""
    pairs = []
    modes = [ini.memory_mode(name) for name in ini.memory_modes]
    for name in ini.system_configs:
        system_config = ini.system_config(name)
        if not _of_another_family(npu, name):
            legal = [mode.name for mode in modes if not why_impossible(npu, system_config, mode)]
            pairs += [f"{name} with {' or '.join(legal)}"] if legal else []
    return pairs


def _written_out(npu: Npu, profile: Profile, name: str) -> tuple[SystemConfig, MemoryMode]:
    """The memories that the profile itself gives, called by its name; the mode has Vela's word for that placement."""
    placement = profile.placement
    if placement is None or not 1 <= len(profile.memory) <= 2:
        raise TargetError("give [vela], or [placement] and one or two [memory.*]: sram and perhaps a second one")
    memories: dict[str, Memory] = {kind: _memory(npu, kind, table) for kind, table in profile.memory.items()}
    ports = {kind: f"axi{index}" for index, kind in enumerate(sorted(memories, key=lambda kind: kind != "sram"))}
    by_port = {ports[kind]: memory for kind, memory in memories.items()}

    def port(what: str, kind: str) -> str:
        if kind not in ports:
            raise TargetError(
                f"placement.{what} is '{kind}', which is not a [memory.*]: choose from {', '.join(ports)}"
            )
        return ports[kind]

    system_config = SystemConfig(
        re.sub(r"[^\w.-]", "_", name, flags=re.ASCII),  # it is the name of a section in Vela's file
        npu.clock_mhz,
        by_port["axi0"],
        by_port.get("axi1", by_port["axi0"]),
    )
    constants, arena = port("constants", placement.constants), port("arena", placement.arena)
    cache = port("cache", placement.cache)
    mode = MODES.get((constants, arena, cache), "own_placement")
    memory_mode = MemoryMode(mode, constants, arena, cache, placement.cache_limit_bytes)
    if reason := why_impossible(npu, system_config, memory_mode):
        writable = [kind for kind in ports if VELA_KIND[kind] not in FLASH]
        raise TargetError(f"{reason}; memories of this profile that can be written: {', '.join(writable) or 'none'}")
    return system_config, memory_mode


def _memory(npu: Npu, kind: str, table: MemoryTable) -> Memory:
    if (table.bandwidth_gb_s is None) == (table.clock_scale is None):
        raise TargetError(f"memory.{kind}: give either bandwidth_gb_s or clock_scale")
    port_gb_s = AXI_PORT_BYTES[npu.family] * npu.clock_mhz / 1000 * table.ports
    if table.bandwidth_gb_s is not None:
        if not table.bandwidth_gb_s > 0 or not 1 <= table.ports <= 16:
            raise TargetError(f"memory.{kind}: bandwidth_gb_s must be positive, and ports 1 to 16")
        if table.bandwidth_gb_s > port_gb_s * 1.0001:
            raise TargetError(
                f"memory.{kind}: {table.bandwidth_gb_s:g} GB/s is more than {table.ports} AXI port(s) can move"
                f" at {npu.clock_mhz:g} MHz ({port_gb_s:g} GB/s)"
            )
    scale = table.clock_scale if table.bandwidth_gb_s is None else table.bandwidth_gb_s / port_gb_s
    assert scale is not None, "one of both was given"
    memory = Memory(
        kind=VELA_KIND[kind],
        clock_scale=scale,
        read_latency_cycles=table.read_latency_cycles,
        write_latency_cycles=table.write_latency_cycles,
        burst_bytes=table.burst_bytes,
        ports=table.ports,
        max_reads=table.max_reads,
        max_writes=table.max_writes,
    )
    check_memory(memory)
    return memory

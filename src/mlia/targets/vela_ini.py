"""vela.ini, the file in which Vela keeps system configurations and memory modes: read and written."""

from configparser import ConfigParser
from configparser import Error as IniError
from importlib.util import find_spec
from pathlib import Path

from mlia.errors import BackendUnavailable, TargetError
from mlia.targets.target import Memory, MemoryMode, SystemConfig

SYSTEM, MODE = "System_Config.", "Memory_Mode."
MEMORY_KINDS = ("Sram", "Dram", "OnChipFlash", "OffChipFlash")


def installed_path() -> Path:
    """Where the installed Vela keeps the file with Arm's own configurations.

    Raises:
        BackendUnavailable: Vela is not installed.
    """
    spec = find_spec("ethosu")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "config_files/Arm/vela.ini"
        if path.is_file():
            return path
    raise BackendUnavailable("the Vela compiler is not installed: pip install 'ethos-u-vela>=5.2,<5.3'")


def installed_version() -> str:
    """The version of the installed compiler, from the name of its metadata folder (importlib.metadata is slow).

    Raises:
        BackendUnavailable: Vela is not installed.
    """
    packages = installed_path().parents[3]
    versions = [path.name.split("-")[1].removesuffix(".dist") for path in packages.glob("ethos_u_vela-*.dist-info")]
    if len(versions) == 1:
        return versions[0]
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
                what, short = name.split(".", 1)
                raise TargetError(
                    f"{self.source} has no {what.replace('_', ' ').lower()} '{short}': choose from {', '.join(known)}"
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

        return Memory(
            kind=kind,
            clock_scale=number("clock_scale", 1),
            read_latency_cycles=int(number("read_latency", 0)),
            write_latency_cycles=int(number("write_latency", 0)),
            burst_bytes=int(number("burst_length", 1)),
            ports=max(1, int(number("ports_used", 1))),
            max_reads=count("max_reads"),
            max_writes=count("max_writes"),
        )


def read_vela_ini(path: Path) -> VelaIni:
    """Read a vela.ini file.

    Raises:
        TargetError: it cannot be read or is not in that format.
    """
    try:
        return VelaIni(path.read_text("utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TargetError(f"cannot read {path}: {reason}") from None


def write_vela_ini(system_config: SystemConfig, memory_mode: MemoryMode) -> str:
    """The text of a vela.ini with one system configuration and one memory mode."""
    lines = [f"[{SYSTEM}{system_config.name}]", f"core_clock={system_config.clock_mhz * 1e6:g}"]
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
    lines.append(f"[{MODE}{memory_mode.name}]")
    areas = {"const": memory_mode.constants, "arena": memory_mode.arena, "cache": memory_mode.cache}
    lines += [f"{area}_mem_area={port.capitalize()}" for area, port in areas.items()]
    if memory_mode.cache_limit_bytes is not None:
        lines.append(f"arena_cache_size={memory_mode.cache_limit_bytes}")
    return "\n".join(lines) + "\n"


def _number(section: dict[str, str], key: str, default: float, source: str) -> float:
    try:
        return float(section.get(key, default))
    except ValueError:
        raise TargetError(f"{source}: {key} is '{section[key]}', which is not a number") from None

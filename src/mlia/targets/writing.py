"""A target as the text of a profile, from which `load_target` reads one that compiles to the same figures."""

import json
import re
import tomllib

from msgspec.structs import asdict, replace

from mlia.errors import TargetError
from mlia.targets.coefficients import Coefficients
from mlia.targets.target import (
    AXI_PORT_BYTES,
    STRATEGIES,
    AnyTarget,
    Memory,
    Target,
    installed_path,
    read_vela_ini,
)


def write_profile(target: AnyTarget) -> str:
    """The TOML text of a profile.

    Memories are named where Vela's own vela.ini has them, and written out otherwise.
    """
    lines = [f"name = {_text(target.name)}"]
    if target.description:
        lines.append(f"description = {_text(target.description)}")
    if isinstance(target, Target):
        if target.strategy != STRATEGIES[0]:
            lines.append(f"strategy = {_text(target.strategy)}")
        lines += ["", "[npu]", f"family = {_text(target.npu.family)}"]
        lines += [f"macs_per_cycle = {target.npu.macs_per_cycle}", f"clock_mhz = {_number(target.npu.clock_mhz)}"]
        lines += ["", *(_named(target) or _written_out(target))]
    host = target.host
    lines += ["", "[host]", f"core = {_text(host.core)}", f"clock_mhz = {_number(host.clock_mhz)}"]
    if isinstance(target, Target) and target.coefficients is not None:
        lines += ["", *write_coefficients(target.coefficients)]
    return "\n".join(lines) + "\n"


def with_coefficients(profile: str, found: Coefficients) -> str:
    """The text of a profile with these coefficients for its own, and everything else as it was.

    Raises:
        TargetError: the profile is written in a way in which they cannot be told from the rest.
    """
    end = "\r\n" if "\r\n" in profile else "\n"
    kept, is_ours = [], False
    for line in profile.splitlines():
        if re.match(r"\s*\[", line):
            is_ours = re.match(r"\s*\[+\s*coefficients\s*(\.[^]]*)?\]", line) is not None
        if not is_ours or not line.strip() or line.lstrip().startswith("#"):
            kept.append(line)
    text = end.join([*"\n".join(kept).rstrip().splitlines(), "", *write_coefficients(found), ""])
    try:
        before, after = (tomllib.loads(each) for each in (profile, text))
    except tomllib.TOMLDecodeError:
        before, after = {}, {"": ""}
    before.pop("coefficients", None)
    after.pop("coefficients", None)
    if before != after:
        raise TargetError("the profile's coefficients cannot be exchanged as it is written; have a new one written")
    return text


def write_coefficients(found: Coefficients, table: str = "coefficients") -> list[str]:
    """A table and its parts [physics] and [[bands]], a line for each figure; no table for a file of its own."""
    head, physics = asdict(found), asdict(found.physics)
    del head["physics"], head["bands"]
    lines = [f"[{table}]"] if table else []
    lines += [f"{name} = {_value(value)}" for name, value in head.items()]
    inside = f"{table}." if table else ""
    lines += ["", f"[{inside}physics]", *(f"{name} = {_value(value)}" for name, value in physics.items())]
    for band in found.bands:
        lines += ["", f"[[{inside}bands]]", *(f"{name} = {_value(value)}" for name, value in asdict(band).items())]
    return lines


def _named(target: Target) -> list[str]:
    """[vela], or nothing where Vela's own vela.ini has other memories under these names."""
    ini = read_vela_ini(installed_path())
    try:
        system_config = ini.system_config(target.system_config.name)
        mode = ini.memory_mode(target.memory_mode.name)
    except TargetError:
        return []
    limit = target.memory_mode.cache_limit_bytes
    is_own_limit = mode.cache_limit_bytes == limit
    is_same_mode = is_own_limit or (limit is not None and replace(mode, cache_limit_bytes=limit) == target.memory_mode)
    if system_config != target.system_config or not is_same_mode or target.npu.clock_mhz != system_config.clock_mhz:
        return []
    lines = ["[vela]", f"system_config = {_text(system_config.name)}", f"memory_mode = {_text(mode.name)}"]
    return lines if is_own_limit else [*lines, f"arena_cache_bytes = {limit}"]


def _written_out(target: Target) -> list[str]:
    config, mode = target.system_config, target.memory_mode
    lines = []
    for memory in {memory.kind: memory for memory in (config.axi0, config.axi1)}.values():
        lines += [f"[memory.{memory.name}]", _bandwidth(target, memory)]
        lines += [
            f"read_latency_cycles = {memory.read_latency_cycles}",
            f"write_latency_cycles = {memory.write_latency_cycles}",
            f"burst_bytes = {memory.burst_bytes}",
            f"ports = {memory.ports}",
        ]
        limits = {"max_reads": memory.max_reads, "max_writes": memory.max_writes}
        lines += [f"{key} = {limit}" for key, limit in limits.items() if limit is not None]
        lines.append("")
    lines += [
        "[placement]",
        f"constants = {_text(target.constants_memory.name)}",
        f"arena = {_text(target.arena_memory.name)}",
        f"cache = {_text(target.cache_memory.name)}",
    ]
    return lines if mode.cache_limit_bytes is None else [*lines, f"cache_limit_bytes = {mode.cache_limit_bytes}"]


def _bandwidth(target: Target, memory: Memory) -> str:
    """The bandwidth where it gives the same clock scale back, otherwise that itself."""
    port_gb_s = AXI_PORT_BYTES[target.npu.family] * target.npu.clock_mhz / 1000 * memory.ports
    bandwidth = float(f"{memory.clock_scale * port_gb_s:.9g}")
    if bandwidth / port_gb_s == memory.clock_scale and memory.clock_scale <= 1:
        return f"bandwidth_gb_s = {_number(bandwidth)}"
    return f"clock_scale = {memory.clock_scale!r}"


def _value(value: str | bool | int | float | tuple[str, ...]) -> str:
    """As TOML writes it, a list on one line."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _number(number: float) -> str:
    """The shortest that reads the same; whole numbers without a point."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def _text(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON; DEL is not allowed as it is."""
    sound = text.encode(errors="replace").decode()
    return json.dumps(sound, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Targets that differ from another in one thing: what a remedy that leaves the model alone changes.

The name of a variant says what changed: "ethos-u55-256, Sram_Only".
"""

from msgspec.structs import replace

from mlia.errors import TargetError
from mlia.targets.target import (
    LEGAL_MACS,
    MemoryMode,
    Target,
    check_npu,
    check_strategy,
    installed_path,
    parse_vela_ini,
    read_vela_ini,
    why_impossible,
    write_vela_ini,
)


def with_cache_limit(target: Target, limit_bytes: int) -> Target:
    """The target with so many bytes for the arena, or for its cache where the arena is not in SRAM.

    Raises:
        TargetError: not positive, or more than the NPU can address.
    """
    mode = replace(target.memory_mode, cache_limit_bytes=limit_bytes)
    what = f"{limit_bytes / 1024:g} KiB" if limit_bytes % 1024 == 0 else f"{limit_bytes} bytes"
    return _with_mode(target, mode, f"arena cache {what}")


def with_strategy(target: Target, strategy: str) -> Target:
    """The target with another aim of the compiler's scheduler.

    Raises:
        TargetError: the compiler has no such strategy.
    """
    check_strategy(strategy)
    return replace(target, name=f"{target.name}, {strategy}", strategy=strategy)


def legal_memory_modes(target: Target) -> list[MemoryMode]:
    """The memory modes of Vela's own vela.ini, and of the target's, that this NPU can use with these memories."""
    inis = (read_vela_ini(installed_path()), parse_vela_ini(target.vela_config, "vela.ini"))
    modes = {name: ini.memory_mode(name) for ini in inis for name in ini.memory_modes}
    modes[target.memory_mode.name] = target.memory_mode
    return [mode for mode in modes.values() if not why_impossible(target.npu, target.system_config, mode)]


def with_memory_mode(target: Target, name: str) -> Target:
    """The target with another memory mode, one of `legal_memory_modes`.

    Raises:
        TargetError: it is none of them.
    """
    legal = {mode.name: mode for mode in legal_memory_modes(target)}
    if name not in legal:
        raise TargetError(
            f"{target.npu.name} cannot use {target.system_config.name} with {name}; possible: {', '.join(legal)}"
        )
    return _with_mode(target, legal[name], name)


def with_macs(target: Target, macs_per_cycle: int) -> Target:
    """The target with another size of the same NPU, and the same memories and clock.

    Raises:
        TargetError: the family does not come with so many.
    """
    npu = replace(target.npu, macs_per_cycle=macs_per_cycle)
    check_npu(npu)
    return replace(target, name=f"{target.name}, {macs_per_cycle} MACs", npu=npu)


def next_macs(target: Target, step: int) -> int | None:
    """The MACs per cycle of the next larger (step 1) or smaller (step -1) NPU of the family; None at the end."""
    sizes = LEGAL_MACS[target.npu.family]
    place = sizes.index(target.npu.macs_per_cycle) + step
    return sizes[place] if 0 <= place < len(sizes) else None


def _with_mode(target: Target, mode: MemoryMode, what: str) -> Target:
    if reason := why_impossible(target.npu, target.system_config, mode):
        raise TargetError(f"{target.name}: {reason}")
    config = write_vela_ini(target.system_config, mode)
    return replace(target, name=f"{target.name}, {what}", memory_mode=mode, vela_config=config)

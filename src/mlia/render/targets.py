"""Targets as text: a list, or one with all that its figures depend on."""

from collections.abc import Sequence

from mlia.render.evidence import band_text, evidence_text
from mlia.render.text import Column, render_table
from mlia.targets.coefficients import Coefficients
from mlia.targets.target import STRATEGIES, AnyTarget, CpuTarget, Target


def render_target_list(targets: Sequence[AnyTarget]) -> str:
    """One line a target."""
    columns = [Column(name, align_right=False) for name in ("target", "system config", "memory mode", "MHz", "host")]
    rows = [
        (t.name, "-", "-", f"{t.host.clock_mhz:g}", t.host.name)
        if isinstance(t, CpuTarget)
        else (t.name, t.system_config.name, t.memory_mode.name, f"{t.npu.clock_mhz:g}", t.host.name)
        for t in targets
    ]
    return "\n".join(render_table(columns, rows, 200)) + "\n"


def render_target(target: AnyTarget, estimate: Sequence[str], coefficients: Coefficients | None = None) -> str:
    """Everything about one target.

    `estimate` says where the figures of its Cortex-M come from, `coefficients` those of its NPU, if it has one.
    """
    if isinstance(target, CpuTarget):
        name = target.name + (f": {target.description}" if target.description else "")
        lines = [name, f"  core           {target.host.name} at {target.host.clock_mhz:g} MHz"]
        return "\n".join([*lines, *_labeled(estimate)]) + "\n"
    npu = _labeled(_rests_on(coefficients), "NPU estimate") if coefficients else []
    return "\n".join([*_npu_lines(target), "", *npu, *_labeled(estimate)]) + "\n"


def _labeled(lines: Sequence[str], label: str = "CPU estimate") -> list[str]:
    return [f"  {label if not number else '':14} {line}" for number, line in enumerate(lines)]


def _rests_on(found: Coefficients) -> list[str]:
    lacks = [f"nothing measured: {', '.join(found.without)}"] if found.without else []
    return [f"Vela, calibrated {evidence_text(found)}", f"band: {band_text(found)}", found.note, *lacks]


def _npu_lines(target: Target) -> list[str]:
    npu, mode, config = target.npu, target.memory_mode, target.system_config
    limit = "none" if mode.cache_limit_bytes is None else f"{mode.cache_limit_bytes:,} bytes"
    strategy = [] if target.strategy == STRATEGIES[0] else [f"  strategy       {target.strategy}"]
    lines = [
        target.name + (f": {target.description}" if target.description else ""),
        f"  NPU            {npu.name}, {npu.macs_per_cycle} MACs per cycle at {npu.clock_mhz:g} MHz"
        f" ({2 * npu.macs_per_cycle * npu.clock_mhz / 1000:g} GOP/s at its peak)",
        f"  host           {target.host.name} at {target.host.clock_mhz:g} MHz",
        f"  system config  {config.name}",
        f"  memory mode    {mode.name}",
        f"  configured in  {target.vela_config_source}",
        f"  constants in   {target.constants_memory.name}",
        f"  arena in       {target.arena_memory.name}",
        f"  cache in       {target.cache_memory.name}, limit {limit}",
        *strategy,
        "",
    ]
    columns = [
        Column("memory", align_right=False),
        Column("GB/s"),
        Column("bytes per cycle"),
        Column("read latency"),
        Column("write latency"),
        Column("burst bytes"),
        Column("ports"),
    ]
    memories = {memory.name: memory for memory in (config.axi0, config.axi1)}.values()
    rows = [
        (
            memory.name,
            f"{memory.bandwidth_gb_s(npu):g}",
            f"{memory.bytes_per_cycle(npu):g}",
            f"{memory.read_latency_cycles} cycles",
            f"{memory.write_latency_cycles} cycles",
            str(memory.burst_bytes),
            str(memory.ports),
        )
        for memory in memories
    ]
    return [*lines, *render_table(columns, rows, 200)]

"""A performance -> the figures of it that are put side by side."""

from mlia.figures import Figures
from mlia.results import Performance

OFF_CHIP = ("dram", "flash")


def figures_of(performance: Performance, cpu_operators: int, file_bytes: int) -> Figures:
    """The figures that are compared, out of one compilation."""
    memory = performance.memory
    return Figures(
        latency_ms=performance.latency_ms,
        npu_latency_ms=performance.npu_latency_ms,
        total_cycles=performance.total_cycles,
        vela_total_cycles=performance.vela_total_cycles,
        npu_cycles=performance.npu_cycles,
        weights_bytes=memory.weights_bytes if memory else None,
        compressed_weights_bytes=memory.compressed_weights_bytes if memory else None,
        sram_bytes=performance.sram_bytes,
        planned_dram_bytes=memory.planned_dram_bytes if memory else None,
        flash_bytes=performance.flash_bytes,
        arena_bytes=performance.arena_bytes,
        off_chip_read_bytes=sum(each.read_bytes for each in performance.traffic if each.memory in OFF_CHIP),
        file_bytes=file_bytes,
        cpu_operators=cpu_operators,
    )

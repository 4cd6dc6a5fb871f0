"""Figures: what one version of a model costs on one target, as it is put beside another version."""

from msgspec import Struct


class Figures(Struct, frozen=True):
    """What one version of a model costs on one target: figures of its Performance, in the same words.

    Cycles, weights and `planned_dram_bytes` are None when nothing runs on the NPU. `off_chip_read_bytes` counts reads
    from DRAM and flash in one inference; `file_bytes` is the TFLite file before it is compiled. `lost_outputs` counts
    those that nothing in the compiled file writes.
    """

    latency_ms: float | None
    npu_latency_ms: float | None
    total_cycles: int | None
    vela_total_cycles: int | None
    npu_cycles: int | None
    weights_bytes: int | None
    compressed_weights_bytes: int | None
    sram_bytes: int
    planned_dram_bytes: int | None
    flash_bytes: int
    arena_bytes: int | None
    off_chip_read_bytes: int
    file_bytes: int
    cpu_operators: int
    lost_outputs: int = 0

    @property
    def known_ms(self) -> float | None:
        """Latency of the whole inference, or of the NPU's part alone where the host's is not known."""
        return self.npu_latency_ms if self.latency_ms is None else self.latency_ms

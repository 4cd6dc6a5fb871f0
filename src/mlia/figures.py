"""Figures: what one version of a model costs on one target, as it is put beside another version."""

from msgspec import Struct


class Figures(Struct, frozen=True):
    """What one version of a model costs on one target: figures of its performance, in the same words."""

    latency_ms: float | None
    """Time of the whole inference in ms; null where the host's part is not known."""
    npu_latency_ms: float | None
    """The NPU's part of it in ms; null where nothing runs on the NPU."""
    total_cycles: int | None
    """Cycles of the NPU, waiting included; null where nothing runs on the NPU."""
    vela_total_cycles: int | None
    """The compiler's own estimate of the same; null where nothing runs on the NPU."""
    npu_cycles: int | None
    """Cycles of the NPU in which its units compute; null where nothing runs on the NPU."""
    weights_bytes: int | None
    """Weights as the model has them; null where nothing runs on the NPU."""
    compressed_weights_bytes: int | None
    """Weights as the NPU stores them; null where nothing runs on the NPU."""
    sram_bytes: int
    """SRAM that a program needs."""
    planned_dram_bytes: int | None
    """Peak of DRAM by Vela's plan; null where nothing runs on the NPU."""
    flash_bytes: int
    """Size of the compiled file."""
    arena_bytes: int | None
    """Tensor arena that a program sets aside; null for TOSA."""
    off_chip_read_bytes: int
    """Bytes read from DRAM and flash in one inference."""
    file_bytes: int
    """Size of the TFLite file before it is compiled."""
    cpu_operators: int
    """How many operators run on the Cortex-M."""
    lost_outputs: int = 0
    """How many outputs nothing in the compiled file writes."""

    @property
    def known_ms(self) -> float | None:
        """Latency of the whole inference, or of the NPU's part alone where the host's is not known."""
        return self.npu_latency_ms if self.latency_ms is None else self.latency_ms

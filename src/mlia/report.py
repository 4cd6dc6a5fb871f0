"""Report: everything that one run learned. The only thing that a renderer sees."""

from msgspec import Struct

from mlia.results import Compatibility, Fidelity, Result

# Raised by one in front when a field changes its meaning or goes, behind when fields are added.
SCHEMA_VERSION = "1.0"


class TensorSummary(Struct, frozen=True):
    """An input or output of the model. A size of -1 is only known at run time."""

    name: str
    shape: tuple[int, ...]
    data_type: str


class Conversion(Struct, frozen=True):
    """What was done to the user's model before it was analyzed.

    `added` counts operators that the format's converter and the quantizer added. `quantized` says to what, or
    is empty; then `fidelity` is None.
    """

    source_format: str
    route: str
    added: tuple[str, ...]
    quantized: str = ""
    quantizer: str = ""
    calibration: str = ""
    fidelity: Fidelity | None = None


class ModelSummary(Struct, frozen=True):
    """The user's model. Size and hash are of the TFLite file that was analyzed, which `conversion` may have made."""

    name: str
    format: str
    size_bytes: int
    sha256: str
    operators: int
    subgraphs: int
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    conversion: Conversion | None = None


class MemorySummary(Struct, frozen=True):
    """One memory of the target: peak bandwidth and latencies, as the estimate assumes them."""

    name: str
    holds: tuple[str, ...]
    bandwidth_gb_s: float
    read_latency_cycles: int
    write_latency_cycles: int


class TargetSummary(Struct, frozen=True):
    """The target, with what the figures depend on."""

    name: str
    npu: str
    macs_per_cycle: int
    clock_mhz: float
    system_config: str
    memory_mode: str
    vela_config_source: str
    memories: tuple[MemorySummary, ...]
    host: str
    host_clock_mhz: float


class TargetReport(Struct, frozen=True):
    """What the backends said about the model on one target."""

    target: TargetSummary
    results: tuple[Result, ...]


class Report(Struct, frozen=True):
    """The answer to one `mlia check`."""

    schema_version: str
    mlia_version: str
    model: ModelSummary
    targets: tuple[TargetReport, ...]
    notes: tuple[str, ...]


def has_findings(report: Report) -> bool:
    """Whether anything stands in the model's way: an operator off the NPU, or a part that was refused."""
    for entry in report.targets:
        for result in entry.results:
            if result.compiled:
                return True
            if isinstance(result.compatibility, Compatibility) and result.compatibility.findings:
                return True
    return False

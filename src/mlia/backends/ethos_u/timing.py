"""How long compiled steps take on an Ethos-U: a model of few physical parameters, fitted to published measurements.

A step keeps four things busy at once: the units of the NPU, the SRAM, and the reading and the writing of the memory
behind it. Each has its time:

- units: the slower of MACs and output unit;
- SRAM: the larger of what is read and what is written, at a share of the bandwidth;
- the other memory: bytes by bandwidth, or, where the latency is longer, by the bytes that can be under way at once
  (bytes under way / latency is a bandwidth). Weights that are fetched ahead take the time in which the step before
  leaves that memory alone, and their own step waits for the rest of them.

The time of the step is the longest of them, plus a share of what the others take for one block, because the first
block has nothing to overlap with. A step is launched once or, where it is cut into stripes or slices of channels, more
often, and each launch begins with reads that it must wait for: its commands lie in the memory that has the constants.
That is a number of latencies whatever the launch does, and recurrent networks spend most of their time on it.

A memory has as many requests under way as it accepts, and as the part of the NPU that asks can keep: inputs, outputs,
the decoder of weights and the DMA each have their own number. A request is a whole burst, but for feature maps whose
channels lie side by side (NHWC): between layers they lie in bricks of 16 channels (NHCWB16), which move in bursts.

Fitted by tools/fit_ethos_u.py; no module here needs numpy.
"""

from collections.abc import Sequence

from msgspec import Struct

from mlia.backends.ethos_u.coefficients import coefficients_for
from mlia.backends.ethos_u.features import COUNTED, StepFeatures, Transfer
from mlia.results import Bound
from mlia.targets.coefficients import Physics
from mlia.targets.target import Memory, Target

# Vela counts four cycles for each weight when the output is a single micro-block; global pools measure one.
ONE_UNIT_SHARE = 0.25
MACS_OF_STREAM, MOST_STREAMS = 256, 4  # an Ethos-U85 has a stream of weights for so many MACs, and at least one
KEPT_MACS = 512  # NPUs with more MACs than these keep more of the input
_MEMORY_BOUND = {"sram": Bound.SRAM, "dram": Bound.DRAM, "flash": Bound.FLASH}


class StepTime(Struct, frozen=True):
    """Of one step: NPU cycles, in how many of them the NPU's units work, and what takes most of them."""

    cycles: float
    busy_cycles: float
    bound_by: Bound


NO_TIME = StepTime(0.0, 0.0, Bound.LATENCY)


class _Work(Struct):
    """What one step keeps busy, in cycles; `read` and `written` are of the memory behind the SRAM.

    Before any of that begins it waits for the `rest` of weights that were fetched ahead, and some `latency`.
    """

    units: float
    unit: Bound
    sram: float = 0.0
    read: float = 0.0
    written: float = 0.0
    rest: float = 0.0
    latency: float = 0.0
    outer: Bound = Bound.DRAM

    @property
    def longest(self) -> float:
        """The part that the others overlap with."""
        return max(self.units, self.sram, self.read, self.written)


def estimate(features: Sequence[StepFeatures], target: Target) -> tuple[StepTime, ...]:
    """The time of each step, in the order of the steps.

    Raises:
        TargetError: nothing was measured for this family.
    """
    return estimate_with(features, target, coefficients_for(target).physics)


def estimate_with(features: Sequence[StepFeatures], target: Target, physics: Physics) -> tuple[StepTime, ...]:
    """The same with other parameters, as the fit does. Like steps after like steps are worked out once."""
    known: dict[tuple[int, float | None], tuple[StepTime, float]] = {}  # steps live on, so their ids are theirs
    times: list[StepTime] = []
    ahead: float | None = None
    for step in features:
        if step.kind == "none":
            times.append(NO_TIME)
            continue
        key = id(step), ahead
        if key not in known:
            work = _work(step, target, physics, ahead)
            known[key] = _time(step, work, physics), work.longest - work.read
        time, ahead = known[key]
        times.append(time)
    return tuple(times)


def _work(step: StepFeatures, target: Target, physics: Physics, ahead: float | None) -> _Work:
    """`ahead` is how long the step before leaves the other memory alone, in cycles; None for the first one."""
    work, fetched_ahead = _Work(*_units(step, target, physics)), 0.0
    for transfer in step.transfers:
        memory = _memory(target, transfer.memory)
        if memory is None:
            continue
        bandwidth = memory.bytes_per_cycle(target.npu)
        if transfer.memory == "sram":
            read = sram_read(step, transfer, target, physics)
            work.sram += max(read, transfer.feature_map_written) / (bandwidth * physics.sram_share)
            continue
        bandwidth *= physics.memory_share
        work.outer = _MEMORY_BOUND[transfer.memory]
        copies = transfer.copied / _copy_rate(memory, bandwidth, physics)
        fetched = copies * step.prefetched_share if ahead is not None else 0.0
        fetched_ahead += fetched
        work.read += copies - fetched + _outer_read(step, transfer, memory, target, physics)
        work.written += _outer_written(transfer, memory, bandwidth, physics)
    work.latency = start_cycles(step, target, physics)
    if ahead is not None:
        work.rest = max(0.0, fetched_ahead - ahead)
    return work


def _units(step: StepFeatures, target: Target, physics: Physics) -> tuple[float, Bound]:
    """The slower of MACs and output unit, in cycles."""
    macs, output = float(step.mac_cycles), float(step.output_cycles)
    if physics.counts_macs and step.kind in COUNTED:
        macs = max(step.padded_macs / target.npu.macs_per_cycle, _decoding(step, target, physics))
        output *= ONE_UNIT_SHARE if step.is_one_unit else 1.0
    elif step.kind == "pool" and step.is_one_unit:
        macs, output = macs * ONE_UNIT_SHARE, output * ONE_UNIT_SHARE
    return (output, Bound.OUTPUT_UNIT) if output > macs else (macs, Bound.MACS)


def _decoding(step: StepFeatures, target: Target, physics: Physics) -> float:
    """Cycles to decode the weights, zeros included: what is left of dense layers when pruning has made them small."""
    if not physics.decoded_weights:
        return 0.0
    streams = min(MOST_STREAMS, max(1, target.npu.macs_per_cycle // MACS_OF_STREAM))
    return step.decoded_weights / (physics.decoded_weights * streams)


def _outer_read(step: StepFeatures, transfer: Transfer, memory: Memory, target: Target, physics: Physics) -> float:
    """Cycles to read inputs, weights and scales from the memory behind the SRAM."""
    bandwidth, latency = memory.bytes_per_cycle(target.npu) * physics.memory_share, memory.read_latency_cycles
    inputs = min(_inputs(step, transfer, target, physics), _counted(transfer))
    linear = inputs * transfer.linear_input_bytes / max(1, transfer.input_bytes)
    requests = _at_once(memory.max_reads, physics.requests)
    return (
        linear / _reached(bandwidth, requests * physics.request_bytes, latency)
        + (inputs - linear) / _reached(bandwidth, requests * memory.burst_bytes, latency)
        + (transfer.weights + transfer.scales)
        / _reached(bandwidth, _at_once(memory.max_reads, physics.weight_requests) * memory.burst_bytes, latency)
    )


def _outer_written(transfer: Transfer, memory: Memory, bandwidth: float, physics: Physics) -> float:
    """Cycles to write the output to the memory behind the SRAM."""
    requests, latency = _at_once(memory.max_writes, physics.requests), memory.write_latency_cycles
    in_bricks = transfer.feature_map_written - transfer.linear_written
    return transfer.linear_written / _reached(
        bandwidth, requests * physics.request_bytes, latency
    ) + in_bricks / _reached(bandwidth, requests * memory.burst_bytes, latency)


def _at_once(allowed: int | None, own: float) -> float:
    """Requests under way: what the memory allows, if it says so, and what this part of the NPU has at most."""
    return min(allowed or own, own)


def sram_read(step: StepFeatures, transfer: Transfer, target: Target, physics: Physics) -> float:
    """Bytes that a step reads from the SRAM."""
    inputs = _inputs(step, transfer, target, physics) if physics.kept_bytes else transfer.feature_map_read
    return inputs + transfer.weights + transfer.scales


def _inputs(step: StepFeatures, transfer: Transfer, target: Target, physics: Physics) -> float:
    """Bytes of inputs that are read: once, and again for each slice of output channels what was not kept."""
    if not physics.kept_bytes or step.kind not in ("convolution", "pool"):
        return float(transfer.input_bytes)
    kept = physics.kept_bytes * max(1.0, target.npu.macs_per_cycle / KEPT_MACS)
    lost = max(0.0, 1 - kept / max(1, step.input_block_bytes))
    return transfer.input_bytes * (1 + lost * (step.slices - 1))


def _counted(transfer: Transfer) -> int:
    return max(transfer.feature_map_read, transfer.input_bytes)


def _time(step: StepFeatures, work: _Work, physics: Physics) -> StepTime:
    parts = {work.unit: work.units, Bound.SRAM: work.sram}
    both = (work.units, work.sram, work.read, work.written)
    longest = max(both)
    if not longest:
        return StepTime(0.0, 0.0, work.unit)
    first = physics.fill * (sum(both) - longest) / (step.areas * step.slices)
    parts[work.outer] = max(work.read, work.written) + work.rest
    parts[Bound.LATENCY] = work.latency
    cycles = longest + first + work.rest + work.latency
    return StepTime(cycles, work.units, max(parts, key=lambda bound: parts[bound]))


def _copy_rate(memory: Memory, bandwidth: float, physics: Physics) -> float:
    """Bytes per cycle of the DMA."""
    requests = _at_once(memory.max_reads, physics.copy_requests)
    return _reached(bandwidth, requests * memory.burst_bytes, memory.read_latency_cycles)


def _reached(bandwidth: float, under_way: float, latency: float) -> float:
    """Bytes per cycle: the memory's, or fewer when its latency is long for what may be under way."""
    return min(bandwidth, under_way / latency) if latency else bandwidth


def _memory(target: Target, name: str) -> Memory | None:
    for memory in (target.system_config.axi0, target.system_config.axi1):
        if memory.name in (name, f"on_chip_{name}", f"off_chip_{name}"):
            return memory
    return None


def start_cycles(step: StepFeatures, target: Target, physics: Physics) -> float:
    """Cycles that the launches of a step wait for their commands, which lie in the memory that has the constants."""
    return physics.start_latencies * target.constants_memory.read_latency_cycles * step.launches

"""Rules about memory: how much SRAM the model needs, what needs it, and where things are placed."""

from collections.abc import Iterator
from functools import partial

from mlia.advice import Safety, Severity
from mlia.results import Bound, MemoryPlan, OperatorId, TensorLifetime
from mlia.rules.phrases import KIB, kib, percent, quoted
from mlia.rules.rule import Aim, Case, Finding, Fix, NpuRule, Rule
from mlia.rules.sram import BUFFER, SRAM, at_peak, in_sram, meet, most_in_use
from mlia.rules.waiting import FAR, bound_share
from mlia.targets.target import MemoryMode, Target
from mlia.targets.variants import legal_memory_modes, with_cache_limit, with_memory_mode, with_strategy

# What every system with an Ethos-U has; to save some of less is no advice.
SMALL_SRAM_BYTES = 64 * KIB
# From here on an eighth is still enough for a cascade of a few rows.
LARGE_SRAM_BYTES = 512 * KIB
WAITING = 0.08  # of the cycles: less is not worth another place for the weights
ENOUGH = 2 / 3  # of the peak: what is enough without the tensor that makes it
LARGE = 0.5  # of the peak: that tensor
LONG_STEPS = 8  # two are one operator
EARLY = 0.25  # of the time steps
PLACED = 97  # of 100 bytes: what is left when the compiler leaves gaps between tensors that it places


def _memory(case: Case) -> MemoryPlan | None:
    return case.performance.memory


def _nothing_runs(case: Case) -> str:
    return "" if _memory(case) is not None else "nothing runs on the NPU"


def _without_constants(case: Case) -> int:
    """The SRAM that is used for anything but constants, which no limit makes smaller."""
    memory = _memory(case)
    if memory is None:
        return 0
    return memory.planned_arena_bytes if case.target.constants_memory.name == SRAM else memory.planned_sram_bytes


def _needs_little(case: Case) -> str:
    if _memory(case) is None:
        return "nothing runs on the NPU"
    little = _without_constants(case) < SMALL_SRAM_BYTES
    return f"the model needs less than {kib(SMALL_SRAM_BYTES)} of SRAM" if little else ""


def _smaller(peak_bytes: int, least_bytes: int, target: Target) -> tuple[Fix, ...]:
    """Less SRAM to plan with: parts of the peak in whole KiB, and the strategy that knows nothing but memory."""
    parts = (2, 4, 8) if peak_bytes >= LARGE_SRAM_BYTES else (2, 4)
    fixes = []
    for part in parts:
        limit = max(peak_bytes * PLACED // 100 // part // KIB, 1) * KIB
        if limit >= least_bytes:
            fixes.append(
                Fix(
                    f"arena cache of {kib(limit)}",
                    Safety.LOSSLESS,
                    retarget=partial(with_cache_limit, limit_bytes=limit),
                )
            )
    # Where the arena is in DRAM, the strategy does not touch what SRAM caches of it.
    if target.arena_memory.name == SRAM and target.strategy != "Size":
        fixes.append(Fix("strategy Size", Safety.LOSSLESS, retarget=partial(with_strategy, strategy="Size")))
    return tuple(fixes)


class TooMuchSram(NpuRule):
    """The model needs more SRAM than the target has.

    ## Why it matters
    The compiler takes the limit of a memory mode as a wish: where it cannot keep it, it plans with more. Such a model
    does not start on the device.

    ## How it is found
    The compiler's peak of SRAM is compared with the limit of the memory mode (`arena_cache_bytes` of a profile).

    ## What to do
    Take the strategy `Size`, which needs the least SRAM; if that is too much, make the tensors at the peak smaller.
    Where only gaps between tensors are too much, a slightly lower limit makes the compiler plan with less.

    ## Limits
    Only for targets whose profile says how much SRAM there is. What the application needs besides is not counted.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-128: a DS-CNN that needs 16,000 bytes takes them at limits of 11,096 and 2,774.
    """

    code = "MEM001"
    name = "too-much-sram"
    severity = Severity.WARNING

    def skip(self, case: Case) -> str:
        if case.target.memory_mode.cache_limit_bytes is None:
            return "the profile says nothing of how much SRAM there is"
        return _nothing_runs(case)

    def check(self, case: Case) -> Iterator[Finding]:
        memory, limit = _memory(case), case.target.memory_mode.cache_limit_bytes
        peak = _without_constants(case)
        if memory is None or limit is None or peak <= limit:
            return
        fixes = []
        told, remedy = "", "Make these tensors smaller (input size, channels, an earlier stride), or take more SRAM."
        filled, _ = most_in_use(in_sram(memory.tensors))
        if filled <= limit and (lower := limit - (peak - filled)) > 0:
            told = f", {peak - filled:,} of them in gaps between tensors"
            remedy = "Set a slightly lower limit, so that the compiler plans with less."
            fixes.append(
                Fix(f"limit of {lower:,} bytes", Safety.LOSSLESS, retarget=partial(with_cache_limit, limit_bytes=lower))
            )
        if case.target.arena_memory.name == SRAM and case.target.strategy != "Size":
            remedy += ' The strategy "Size" (in the profile) may fit.'
            fixes.append(Fix("strategy Size", Safety.LOSSLESS, retarget=partial(with_strategy, strategy="Size")))
        yield Finding(
            (),
            f"{peak:,} bytes of SRAM where {limit:,} are allowed{told}; at the peak: {at_peak(memory)}",
            remedy,
            tuple(fixes),
            "the network must change" if not fixes else "",
            Aim.FIT,
        )


class SramToSpare(NpuRule):
    """The model uses more SRAM than its speed needs.

    ## Why it matters
    Without a limit the compiler spends SRAM on anything that saves a few cycles. With a limit it computes operators
    in stripes of a few rows, one after the other (cascades), and often loses next to nothing.

    ## How it is found
    The model is compiled with a half, a quarter (and of 512 KiB or more an eighth) of the SRAM that it uses now, less
    3 % for gaps between tensors, and with the strategy `Size`. What saves 5 % of SRAM counts: the least SRAM at which
    the model is at most 2 % slower is best, then come attempts that are up to 25 % slower, the fastest first.

    ## What to do
    Set `arena_cache_bytes` under `[vela]` in the target's profile, or `--arena-cache-size` of the `vela` command.

    ## Limits
    Below 64 KiB nothing is tried, nor are limits below the model's inputs or outputs together. The compiler takes a
    limit as a wish: set what an attempt really needs. The best limit may lie between those that are tried.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-256: four convolutions of 128x128 take 249 KiB instead of 518 KiB without any
    loss of time, and 213 KiB instead of 1,560 KiB at 0.2 %.
    """

    code = "MEM002"
    name = "sram-to-spare"

    def skip(self, case: Case) -> str:
        limit = case.target.memory_mode.cache_limit_bytes
        if limit is not None and _without_constants(case) > limit:
            return "the model needs more SRAM than allowed"
        return _needs_little(case)

    def check(self, case: Case) -> Iterator[Finding]:
        peak, limit = _without_constants(case), case.target.memory_mode.cache_limit_bytes
        allowed = f", of {kib(limit)} that it may use" if limit is not None else ", and was not asked to save any"
        if fixes := _smaller(peak, _least(case), case.target):
            yield Finding(
                (),
                f"the compiler spends {kib(peak)} of SRAM{allowed}",
                "Give it less: arena_cache_bytes under [vela] in the profile (vela --arena-cache-size).",
                fixes,
                aim=Aim.MEMORY,
                only_if_gain=True,
            )


class PeakOfOneTensor(NpuRule):
    """One tensor alone makes the peak of SRAM much higher than the rest of the model needs.

    ## Why it matters
    The arena is as large as the worst moment of an inference. Where a single tensor is responsible for it, a small
    change of the network halves the SRAM; anything else saves nothing.

    ## How it is found
    All tensors that are alive at the same step are added up, from the compiler's plan. The largest at the peak is
    named if it is at least half of the peak, and two thirds of the peak are enough whenever it is not alive.

    ## What to do
    A large tensor near the input gets small with a smaller input, or with a stride in the first operator. One that is
    read much later (a skip connection) gets small when it is pooled or reduced in channels before it waits.

    ## Limits
    Below 64 KiB nothing is said. The compiler's cascades already keep some tensors in parts.

    ## Source
    The live ranges of Vela 5.2's own allocation. Measured on ethos-u55-128: a keyword spotting MicroNet with a first
    tensor of 70,560 bytes needs 107,232 bytes at its start, and 66,400 later.
    """

    code = "MEM003"
    name = "peak-of-one-tensor"

    def skip(self, case: Case) -> str:
        return _needs_little(case)

    def check(self, case: Case) -> Iterator[Finding]:
        memory = _memory(case)
        lives = in_sram(memory.tensors) if memory is not None else []
        if not lives:
            return
        peak, alive = most_in_use(lives)
        largest = alive[0]
        rest, _ = most_in_use([life for life in lives if not meet(life, largest)])
        if (
            largest.usage == BUFFER
            or peak < SMALL_SRAM_BYTES
            or rest > ENOUGH * peak
            or largest.size_bytes < LARGE * peak
        ):
            return
        end = max(life.end_time for life in lives)
        waits = largest.end_time - largest.start_time > max(EARLY * end, LONG_STEPS)
        if waits:
            what = "It is read much later: pool it, or reduce its channels, before it waits."
        elif largest.start_time <= EARLY * end:
            what = "Take a smaller input, or a stride or fewer channels in the operator that makes it."
        else:
            what = "Give the operator that makes it fewer channels, or pool earlier."
        yield Finding(
            _makers(case, largest),
            f"{quoted(largest.name)} has {kib(largest.size_bytes)} of the {kib(peak)} at the peak; without it"
            f" {kib(rest)} are enough",
            what,
            why_not_tried="the network changes, and needs training",
            aim=Aim.MEMORY,
        )


class WaitsForWeights(NpuRule):
    """The NPU waits for memory, and another memory mode would bring weights or activations nearer.

    ## Why it matters
    Flash and DRAM are several times slower than SRAM. Where weights stand decides the speed of networks with many
    weights and few positions at which each is used.

    ## How it is found
    Where steps that wait for flash, DRAM or first data have 8 % of the cycles or more, every memory mode that the NPU
    can use with these memories and that places anything elsewhere is tried, unless it needs more SRAM than allowed.

    ## What to do
    Choose the memory mode in the profile, if the device has that much SRAM. With `Sram_Only` the application copies
    the model to SRAM when it starts; flash keeps the copy that it starts from.

    ## Limits
    The time to copy the weights at the start is not counted.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-256: MLPerf Tiny's ResNet-8 takes 0.226 ms with Sram_Only and 0.295 ms with
    Shared_Sram.
    """

    code = "MEM004"
    name = "slow-memory-mode"

    def skip(self, case: Case) -> str:
        return _nothing_runs(case)

    def check(self, case: Case) -> Iterator[Finding]:
        memory, waiting = _memory(case), bound_share(case, *FAR, Bound.LATENCY)
        if memory is None or waiting < WAITING:
            return
        fixes = []
        limit = case.target.memory_mode.cache_limit_bytes
        for mode in _elsewhere(case.target):
            needed = memory.planned_sram_bytes + (
                memory.constants_bytes if _kind(case.target, mode.constants) == SRAM else 0
            )
            if limit is None or needed <= limit:
                change = partial(with_memory_mode, name=mode.name)
                fixes.append(Fix(f"memory mode {mode.name}", Safety.LOSSLESS, retarget=change))
        if fixes:
            yield Finding(
                (),
                f"{percent(waiting)} of the NPU's cycles are in steps that wait for data; constants"
                f" ({kib(memory.constants_bytes)}) are in {_word(case.target.constants_memory.name)}, the arena in"
                f" {_word(case.target.arena_memory.name)}",
                "Use a faster mode if there is the SRAM; Sram_Only means to copy the model there at start.",
                tuple(fixes),
                only_if_gain=True,
            )


class WeightsInSram(NpuRule):
    """Constants occupy SRAM, and the model would be about as fast with them in another memory.

    ## Why it matters
    SRAM is the scarcest memory of a device, and the compiler reads weights ahead while the NPU computes, so that many
    models do not notice where weights stand.

    ## How it is found
    Where constants and the arena share SRAM, the memory modes that have constants elsewhere are tried. The one with the
    least SRAM at which the model is at most 2 % slower is best, then come those that are up to 25 % slower.

    ## What to do
    Choose the memory mode in the profile, and place the model in flash or DRAM.

    ## Limits
    Below 64 KiB of SRAM nothing is tried.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-128: a keyword spotting MicroNet needs 224 KiB of SRAM with Sram_Only, and
    105 KiB at 0.8 % more time with Shared_Sram.
    """

    code = "MEM005"
    name = "weights-in-sram"

    def skip(self, case: Case) -> str:
        if case.target.constants_memory.name != SRAM:
            return "constants are not in SRAM"
        memory = _memory(case)
        if memory is not None and memory.planned_sram_bytes < SMALL_SRAM_BYTES:
            return f"the model needs less than {kib(SMALL_SRAM_BYTES)} of SRAM"
        return _nothing_runs(case)

    def check(self, case: Case) -> Iterator[Finding]:
        memory = _memory(case)
        if memory is None:
            return
        fixes = [
            Fix(f"memory mode {mode.name}", Safety.LOSSLESS, retarget=partial(with_memory_mode, name=mode.name))
            for mode in _elsewhere(case.target)
            if _kind(case.target, mode.constants) != SRAM
        ]
        if fixes:
            yield Finding(
                (),
                f"{kib(memory.constants_bytes)} of the {kib(memory.planned_sram_bytes)} of SRAM are constants",
                "Keep them in flash or DRAM: choose the memory mode in the profile.",
                tuple(fixes),
                aim=Aim.MEMORY,
                only_if_gain=True,
            )


def _elsewhere(target: Target) -> list[MemoryMode]:
    """Legal memory modes that place constants, arena or cache in other memories than now, one for each placement."""

    def places(mode: MemoryMode) -> tuple[str, ...]:
        return tuple(_kind(target, port) for port in (mode.constants, mode.arena, mode.cache))

    others: dict[tuple[str, ...], MemoryMode] = {}
    for mode in legal_memory_modes(target):
        if places(mode) != places(target.memory_mode):
            others.setdefault(places(mode), mode)
    return list(others.values())


def _kind(target: Target, port: str) -> str:
    config = target.system_config
    return (config.axi0 if port == "axi0" else config.axi1).name


def _word(memory: str) -> str:
    return memory.replace("off_chip_", "").replace("on_chip_", "") if "flash" in memory else memory.upper()


def _least(case: Case) -> int:
    """What no limit on the arena goes below: all inputs wait whole in it, and so do all outputs."""
    memory, main = _memory(case), case.graph.main
    if memory is None or case.target.arena_memory.name != SRAM:
        return 0
    whole = {life.name: life.size_bytes for life in in_sram(memory.tensors)}
    sides = ({main.tensors[index].name for index in side} for side in (main.inputs, main.outputs))
    return max(sum(whole.get(name, 0) for name in names) for names in sides)


def _makers(case: Case, life: TensorLifetime) -> tuple[OperatorId, ...]:
    main = case.graph.main
    return tuple(
        OperatorId(main.index, operator.index)
        for operator in main.operators
        if any(main.tensors[index].name == life.name for index in operator.outputs)
    )


RULES: tuple[type[Rule], ...] = (TooMuchSram, SramToSpare, PeakOfOneTensor, WaitsForWeights, WeightsInSram)

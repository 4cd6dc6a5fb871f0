"""SAMPLE_REPORT: one report with something of everything, which every renderer's golden file shows."""

from msgspec.structs import astuple, replace

from mlia.advice import Advice, Advised, Attempt, Safety, Severity
from mlia.cpu_results import ArenaUse, CpuCompatibility, CpuCost, CpuPerformance, CpuTime, Kernel, SystemTime
from mlia.estimates import Calibration, Origin, Source
from mlia.figures import Figures
from mlia.report import (
    Blamed,
    Budget,
    CheckReport,
    Fixed,
    MemorySummary,
    ModelSummary,
    OperatorSummary,
    TargetReport,
    TargetSummary,
    TensorSummary,
)
from mlia.results import (
    Bound,
    Change,
    Compatibility,
    Compiled,
    Constraint,
    MemoryPlan,
    OperatorCost,
    OperatorId,
    Performance,
    Placement,
    Result,
    Skipped,
    Step,
    SubgraphCost,
    TensorLifetime,
    Traffic,
)

SOURCE = Source(Origin.ESTIMATED, "Vela", "5.2.0")
TIMED = Source(Origin.ESTIMATED, "calibrated Vela", "5.2.0")
JOINED = Step("Relu", 0, 0, 0, Bound.MACS)
VIOLATION = "Unsupported kernel stride: 5, 5"
RULE = "Stride values WxH must be at most 3"
LONG = "network/encoder/block_12/attention/projection_with_a_long_name/BiasAdd;network/encoder/block_12/other"


CPU_SOURCE = Source(Origin.ESTIMATED, "mlia's Cortex-M model", "2026-11-21")
STACK = "TFLM + CMSIS-NN"


def cpu_time(cycles: int) -> CpuTime:
    low, high = cycles * 8 // 10, cycles * 5 // 4
    return CpuTime(cycles, low, high, cycles / 500e3, low / 500e3, high / 500e3)


def cpu_cost(index: int, kind: str, name: str, kernel: Kernel, cycles: int | None) -> CpuCost:
    figures = astuple(cpu_time(cycles)) if cycles is not None else (None,) * 6
    return CpuCost(0, index, kind, name, kernel, *figures, None, 1000, 400)


CPU_COSTS = (
    cpu_cost(
        1, "CONV_2D", LONG, Kernel("CMSIS-NN", "convolution 1x1, MVE", True, "a 1x1 kernel needs no copy"), 20_000
    ),
    cpu_cost(2, "ELU", "activation", Kernel("TFLM reference", "elu, int8", True, "CMSIS-NN has no elu"), 90_000),
    cpu_cost(3, "MYSTERY", "odd", Kernel("TFLM reference", "", False, "TFLite Micro has no kernel for it"), None),
)
CALIBRATION = Calibration(
    fitted_on=("8 runs of 2 networks",),
    judged_on="networks left out of the fit",
    n=8,
    error_percent=1.3,
    vela_error_percent=2.4,
    band_low=0.9,
    band_high=1.11,
    not_measured=("int16", "dram of 12 bytes per cycle, latency 500"),
    note="int8 networks",
    like="convolutional networks",
    why="Vela counts 4 cycles per weight in 1x1 maps; measured: 1 (-9,000 of -8,000 cycles)",
)
SYSTEM = SystemTime(
    cpu=cpu_time(110_000),
    handover=cpu_time(10_000),
    segments=2,
    cpu_alone=cpu_time(4_000_000),
    speedup=26.7,
    speedup_low=20.1,
    speedup_high=35.2,
    npu_source=TIMED,
    cpu_source=CPU_SOURCE,
    handover_source=Source(Origin.ESTIMATED, "constants that are assumed", "2026-11-21"),
    stack=STACK,
    note="hand-over: constants that are assumed",
)


def placement(index: int, kind: str, name: str, segment: int | None = None, macs: int = 0) -> Placement:
    constraints = () if segment or kind == "RESHAPE" else (Constraint(VIOLATION, RULE),)
    on_npu = not constraints
    return Placement(
        0, index, kind, name, "NPU" if on_npu else "CPU", segment, macs, on_npu and not segment, constraints
    )


def cost(index: int, kind: str, name: str, cycles: int | None, macs: int = 0) -> OperatorCost:
    on_npu = cycles is not None
    return OperatorCost(
        subgraph=0,
        index=index,
        kind=kind,
        name=name,
        processor="NPU" if on_npu else "CPU",
        npu_cycles=cycles and cycles - 10,
        total_cycles=cycles,
        vela_total_cycles=cycles and cycles + 5,
        latency_ms=cycles / 500e3 if cycles is not None else None,
        cycles_percent=cycles / 300 if cycles is not None else None,
        macs=macs,
        mac_utilization=macs / (cycles * 256) if cycles else None,
        bound_by=Bound.FLASH if cycles else None,
        traffic=(Traffic("flash", 4096, 0), Traffic("sram", 1000, 2000)) if cycles else (),
        weights_bytes=4000 if macs else 0,
        compressed_weights_bytes=3000 if macs else None,
        steps=(Step("Conv2D", cycles - 10, cycles, cycles + 5, Bound.FLASH), JOINED) if cycles else (),
        note=""
        if cycles
        else "folded into its neighbors: costs nothing"
        if on_npu
        else "runs on the CPU: not estimated",
    )


TARGET = TargetSummary(
    name="ethos-u55-256",
    npu="Ethos-U55",
    macs_per_cycle=256,
    clock_mhz=500.0,
    system_config="Ethos_U55_High_End_Embedded",
    memory_mode="Shared_Sram",
    vela_config_source="Vela's Arm/vela.ini",
    memories=(
        MemorySummary("sram", ("arena", "cache"), 4.0, 32, 32),
        MemorySummary("off_chip_flash", ("constants",), 0.5, 64, 0),
    ),
    host="Cortex-M55",
    host_clock_mhz=500.0,
)
RESULT = Result(
    backend="vela",
    compatibility=Compatibility(
        source=SOURCE,
        operators=(
            placement(0, "CONV_2D", "network/stem/conv", 1, 800_000),
            placement(1, "CONV_2D", LONG, None, 200_000),
            placement(2, "RESHAPE", "network/flatten"),
            placement(3, "FULLY_CONNECTED", "network/classifier/dense", 2, 5_000),
        ),
        npu_operators=3,
        cpu_operators=1,
        npu_percent=75.0,
        npu_mac_percent=80.1,
        npu_segments=2,
    ),
    performance=Performance(
        source=TIMED,
        latency_ms=0.3,
        low_ms=0.25,
        high_ms=0.36,
        total_cycles=30_000,
        sram_bytes=22_652,
        flash_bytes=35_856,
        arena_bytes=22_652,
        macs=805_000,
        npu_latency_ms=0.0598,
        npu_cycles=29_980,
        handover_ms=0.02,
        cpu_latency_ms=0.22,
        vela_total_cycles=30_010,
        inference_cycles=29_900,
        clock_mhz=500.0,
        compiled_macs=810_000,
        mac_utilization=805_000 / (30_000 * 256),
        traffic=(Traffic("flash", 8192, 0), Traffic("sram", 2000, 4000)),
        arena=ArenaUse(22_652, 22_600, 22_272, 80, 380),
        memory=MemoryPlan(
            planned_sram_bytes=22_192,
            planned_dram_bytes=0,
            arena_memory="sram",
            planned_arena_bytes=22_192,
            constants_memory="flash",
            constants_bytes=31_104,
            weights_bytes=22_016,
            compressed_weights_bytes=24_032,
            tensors=(TensorLifetime(0, "image", "sram", "OpLocal", 0, 1, 0, 496),),
        ),
        operators=(
            cost(0, "CONV_2D", "network/stem/conv", 29_000, 800_000),
            cost(1, "CONV_2D", LONG, None, 200_000),
            cost(2, "RESHAPE", "network/flatten", 0),
            cost(3, "FULLY_CONNECTED", "network/classifier/dense", 1_000, 5_000),
        ),
        further_subgraphs=(SubgraphCost(1, "init", 100, "once, at the start"),),
        skipped=(Skipped("1 operator on the Cortex-M55", "the figures are of the NPU's part only"),),
        calibration=CALIBRATION,
        cpu_costs=CPU_COSTS[:2],
        cpu_source=CPU_SOURCE,
        cpu_stack=STACK,
        system=SYSTEM,
    ),
)
CPU_RESULT = Result(
    backend="cortex-m",
    compatibility=CpuCompatibility(CPU_SOURCE, STACK, CPU_COSTS, 2, 1),
    performance=CpuPerformance(
        source=CPU_SOURCE,
        stack=STACK,
        core="Cortex-M55",
        clock_mhz=500,
        latency_ms=None,
        low_ms=None,
        high_ms=None,
        total_cycles=None,
        low_cycles=None,
        high_cycles=None,
        sram_bytes=28_000,
        flash_bytes=43_632,
        arena_bytes=28_000,
        macs=3000,
        weights_bytes=1200,
        arena=ArenaUse(27_000, 28_000, 20_000, 500, 7_000),
        operators=CPU_COSTS,
        unsupported_operators=1,
        fitted_on=("a board: MLPerf Tiny kws",),
        note="All else is reasoned.",
    ),
)
BEFORE = Figures(0.3, 0.0598, 30_000, 30_010, 29_980, 22_016, 24_032, 22_652, 0, 35_856, 22_652, 8192, 43_632, 1)
AFTER = Figures(0.08, 0.0618, 31_000, 31_010, 30_980, 22_016, 24_032, 30_652, 0, 35_856, 30_652, 8192, 43_900, 0)
ADVISED = Advised(
    advice=(
        Advice(
            code="CMP031",
            name="stride-above-three",
            severity=Severity.WARNING,
            operators=(OperatorId(0, 1),),
            evidence="stride 5x5 with SAME padding in 'projection'; above 3 only with VALID padding and no dilation",
            remedy="Pad with an operator of its own, and use VALID padding.",
            safety=Safety.LOSSLESS,
            attempts=(
                Attempt("explicit padding", Safety.LOSSLESS, BEFORE, AFTER, True),
                Skipped("stride 3", "the 20 s for trying were spent"),
            ),
            saved_ms=0.22,
            saved_sram_bytes=-8000,
            at_stake_ms=0.2,
        ),
        Advice(
            code="MEM001",
            name="arena-above-the-limit",
            severity=Severity.NOTE,
            operators=tuple(OperatorId(0, index) for index in range(10)),
            evidence="the arena needs 21.7 KiB, and the profile allows 16 KiB",
            remedy="Take a smaller input.",
            safety=Safety.MANUAL,
            attempts=(Skipped("a remedy", "only a person can choose another input"),),
            saved_ms=None,
            saved_sram_bytes=None,
            at_stake_ms=None,
        ),
    ),
    passed=("CMP001", "CMP002", "QNT001"),
    skipped=(
        Skipped("OPT004", "only Ethos-U85 computes 2:4 sparse weights faster"),
        Skipped("CPU001", "for a Cortex-M"),
    ),
    rejected=(Skipped("PER004", "a TRANSPOSE in 'flatten'; it was tried and brings nothing"),),
)


def operator(index: int, kind: str, name: str, reads: tuple[int, ...], shape: tuple[int, ...]) -> OperatorSummary:
    made = (TensorSummary(f"{name}:0", shape, "int8"),)
    return OperatorSummary(0, index, kind, name, reads, (TensorSummary("image", (-1, 96, 96, 3), "int8"),), made)


NOTHING_ADVISED = Advised((), ("CMP001",), (), ())
FIXED = Fixed(
    model=ModelSummary("better.tflite", "tflite", 43_900, "11" * 32, 5, 1, (), ()),
    applied=(Change("CMP031", "stride-above-three", "explicit padding"),),
    left=(Skipped("MEM001 arena-above-the-limit", "only a person can choose another input"),),
    before=BEFORE,
    after=AFTER,
    proof="outputs identical on 3 random inputs and 4 at the edges",
    file="better.tflite",
)
SAMPLE_REPORT = CheckReport(
    schema_version="1.0",
    mlia_version="0.1.0",
    model=ModelSummary(
        name="sample.tflite",
        format="tflite",
        size_bytes=43_632,
        sha256="00" * 32,
        operators=4,
        subgraphs=1,
        inputs=(TensorSummary("image", (-1, 96, 96, 3), "int8"),),
        outputs=(TensorSummary("classes", (1, 2), "int8"),),
        graph=(
            operator(0, "CONV_2D", "network/stem/conv", (), (1, 48, 48, 16)),
            operator(1, "CONV_2D", LONG, (0,), (1, 12, 12, 8)),
            operator(2, "RESHAPE", "network/flatten", (1,), (1, 1152)),
            operator(3, "FULLY_CONNECTED", "network/classifier/dense", (0, 2), (1, 2)),
        ),
    ),
    targets=(TargetReport(TARGET, (RESULT,), ADVISED),),
    notes=("the size of input image is dynamic; analyzed with 1 where it is open",),
    fixed=FIXED,
    budgets=(
        Budget("ethos-u55-256", "latency_ms", 0.5, 0.3, True, "", ()),
        Budget("ethos-u55-256", "npu_percent", 90.0, 75.0, False, "", (Blamed(0, 1, "CONV_2D", LONG, 25.0),)),
        Budget("ethos-u55-256", "regression_percent", 5.0, None, False, "the baseline has no such target", ()),
    ),
)
SECOND = TargetReport(replace(TARGET, name="ethos-u55-128", macs_per_cycle=128), (RESULT,), ADVISED)
SIDE_BY_SIDE = replace(SAMPLE_REPORT, fixed=None, targets=(*SAMPLE_REPORT.targets, SECOND))
CPU_TARGET = replace(
    TARGET, name="cortex-m55", npu=None, macs_per_cycle=None, system_config=None, memory_mode=None, memories=()
)
CPU_ENTRY = TargetReport(CPU_TARGET, (CPU_RESULT,), NOTHING_ADVISED)
CPU_REPORT = replace(SAMPLE_REPORT, fixed=None, targets=(CPU_ENTRY,))
SIDE_BY_SIDE = replace(SIDE_BY_SIDE, targets=(*SIDE_BY_SIDE.targets, CPU_ENTRY))
SKIPPED = Skipped("performance", "the model is already compiled by Vela")
COMPILED = Compiled("ethos-u55", 128, 24, "1.0.6", "COP1", "Vela 3.11.0")
COMPILED_REPORT = replace(
    SAMPLE_REPORT,
    fixed=None,
    targets=(
        TargetReport(
            TARGET,
            (replace(RESULT, compatibility=SKIPPED, performance=SKIPPED, compiled=(COMPILED,)),),
            NOTHING_ADVISED,
        ),
    ),
)

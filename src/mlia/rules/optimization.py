"""Rules about what other weights, or an NPU of another size, would bring."""

from collections.abc import Iterator
from functools import partial

from mlia.advice import Safety
from mlia.graph.graph import Operator, Subgraph
from mlia.results import Bound, OperatorId, Unit
from mlia.rules.phrases import kib, named, percent
from mlia.rules.rule import Aim, Case, Finding, Fix, NpuRule, Rule, later
from mlia.rules.waiting import COMPUTING, FAR, bound_share, npu_share, waiting_share
from mlia.targets.variants import next_macs, with_macs

WAITING = 0.05  # of the cycles, that the NPU waits: less is not worth other weights
BUSY = 0.5  # of the cycles: when multiplying takes most of the time, more MACs help
MOSTLY = 0.5  # of an inference, that the NPU takes: less, and the host's part is what to look at
FEW_WEIGHTS_BYTES = 1024
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM", "SVDF")


def _int8_weights(case: Case) -> list[Operator]:
    """Operators on the NPU whose weights are stored as int8."""
    main = case.graph.main
    return [operator for operator in main.operators if _has_int8_weights(main, operator) and _on_npu(case, operator)]


def _has_int8_weights(subgraph: Subgraph, operator: Operator) -> bool:
    if operator.kind not in WEIGHTED or len(operator.inputs) < 2:
        return False
    tensor = subgraph.tensor(operator.inputs[1])
    return tensor is not None and tensor.is_constant and tensor.dtype == "int8"


def _on_npu(case: Case, operator: Operator) -> bool:
    placement = case.placements.get(OperatorId(case.graph.main.index, operator.index))
    return placement is not None and placement.processor == Unit.NPU


def _without_weights(case: Case) -> str:
    memory = case.performance.memory
    if memory is None:
        return "nothing runs on the NPU"
    if memory.weights_bytes < FEW_WEIGHTS_BYTES or not _int8_weights(case):
        return "the model has no int8 weights to speak of"
    return ""


def _mostly_host(case: Case) -> str:
    return "" if npu_share(case) >= MOSTLY else "the host takes most of the time"


def _waits_for_weights(case: Case) -> float:
    return max(waiting_share(case), bound_share(case, *FAR))


class UncompressedWeights(NpuRule):
    """The NPU waits for weights that would be half as large if they were pruned or clustered.

    ## Why it matters
    The compiler compresses weights, and the NPU decompresses them as fast as it multiplies. What has many zeros or
    few different values compresses better, and takes less time to read from flash or DRAM.

    ## How it is found
    Where the NPU waits in 5 % of the cycles or more, copies of the model are compiled: with the smallest 60 % of the
    weights zero, with 16 different values in each tensor, and with both. Nothing is done for their accuracy; they are
    as fast as what `mlia optimize` makes, which lets the other weights make up for the loss.

    ## What to do
    Run `mlia optimize` with the options of the best attempt and with calibration data.

    ## Limits
    Speed only. Operators that read the model's input, and depthwise ones, are not pruned, as in `mlia optimize`.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-256: MLPerf Tiny's ResNet-8 takes 0.84 of the time when pruned, 0.83 when
    clustered, and 0.77 with both.
    """

    code = "OPT001"
    name = "uncompressed-weights"

    def skip(self, case: Case) -> str:
        return _without_weights(case)

    def check(self, case: Case) -> Iterator[Finding]:
        memory, waiting = case.performance.memory, _waits_for_weights(case)
        if memory is None or waiting < WAITING:
            return
        yield Finding(
            (),
            f"{percent(waiting)} of the NPU's cycles are in steps that wait; {kib(memory.weights_bytes)} of weights are"
            f" {kib(memory.compressed_weights_bytes)} compressed",
            "Run `mlia optimize --pruning --pruning-target 0.6 --clustering` with calibration data.",
            (
                Fix("60 % pruned, 16 clusters", Safety.VALIDATE, later("compression.pruned_and_clustered")),
                Fix("60 % pruned", Safety.VALIDATE, later("compression.pruned")),
                Fix("16 clusters", Safety.VALIDATE, later("compression.clustered")),
            ),
            only_if_gain=True,
        )


class CompressionIsNoHelp(NpuRule):
    """Pruning and clustering would hardly make this model faster on this target.

    ## Why it matters
    Both cost work, and perhaps accuracy. Where the NPU is never waiting for weights, smaller ones only save memory.

    ## How it is found
    If the NPU never waited for memory, its part would be less than 5 % faster. Steps that wait for flash or DRAM have
    less than 5 % of its cycles, those that wait for the MAC array or the output unit at least half. Nothing is said
    where the host has most of the time.

    ## What to do
    For speed, multiply less: fewer channels, a smaller input, or an NPU with more MACs.

    ## Limits
    The sparsity 2:4 of an Ethos-U85 is another matter: it multiplies less.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-256: MLPerf Tiny's DS-CNN with 60 % of its weights zero and 16 clusters takes
    0.985 of the time, at 10,208 bytes of weights instead of 24,032.
    """

    code = "OPT002"
    name = "compression-is-no-help"

    def skip(self, case: Case) -> str:
        return _without_weights(case) or _mostly_host(case)

    def check(self, case: Case) -> Iterator[Finding]:
        computing = bound_share(case, *COMPUTING)
        if _waits_for_weights(case) >= WAITING or computing < BUSY:
            return
        yield Finding(
            (),
            f"the NPU computes in {percent(computing)} of its cycles: pruned or clustered weights only save memory",
            "For speed, multiply less: fewer channels or a smaller input.",
            why_not_tried="there is nothing to gain",
        )


class DenseOnU85(NpuRule):
    """The weights are dense, and an Ethos-U85 multiplies twice as fast where two of every four are zero.

    ## Why it matters
    With the sparsity 2:4 an Ethos-U85 skips the zeros. It helps where the NPU multiplies all the time, and no other
    compression does.

    ## How it is found
    A copy of the model with the smaller two of every four input channels at zero is compiled.

    ## What to do
    Run `mlia optimize --pruning --pruning-pattern 2:4` with calibration data; fine-tune if accuracy suffers.

    ## Limits
    Speed only. Operators that read the model's input, and depthwise ones, stay dense.

    ## Source
    Estimated with Vela 5.2 on ethos-u85-256: MLPerf Tiny's ResNet-8 takes 0.77 of the cycles.
    """

    code = "OPT003"
    name = "dense-weights-on-u85"

    def skip(self, case: Case) -> str:
        if case.target.npu.family != "ethos-u85":
            return "only an Ethos-U85 skips zeros"
        return _without_weights(case)

    def check(self, case: Case) -> Iterator[Finding]:
        share = bound_share(case, Bound.MACS, *FAR)
        if share >= WAITING:
            yield Finding(
                (),
                f"{percent(share)} of the NPU's cycles multiply or read dense weights; it skips two zeros of four",
                "Run `mlia optimize --pruning --pruning-pattern 2:4` with calibration data.",
                (Fix("2:4 sparsity", Safety.VALIDATE, later("compression.two_of_four")),),
                only_if_gain=True,
            )


class MacBound(NpuRule):
    """Multiplying takes most of the time, and the family has an NPU with more MACs.

    ## Why it matters
    Only where an NPU multiplies most of the time do more MACs bring what their number promises.

    ## How it is found
    At least half of the NPU's cycles are in steps that wait for the MAC array, and the NPU has at least half of the
    time. The model is compiled for the next larger NPU of the family, with the same memories and clock.

    ## What to do
    Take it into account when the hardware is chosen. On given hardware, multiply less.

    ## Limits
    Memories stay as they are; a larger NPU often comes with faster ones.

    ## Source
    Estimated with Vela 5.2: MLPerf Tiny's DS-CNN takes 0.67 of the time on ethos-u55-256 that it takes on
    ethos-u55-128.
    """

    code = "OPT004"
    name = "mac-bound"

    def skip(self, case: Case) -> str:
        return _mostly_host(case) if case.performance.memory is not None else "nothing runs on the NPU"

    def check(self, case: Case) -> Iterator[Finding]:
        more, share = next_macs(case.target, 1), bound_share(case, Bound.MACS)
        if more is None or share < BUSY:
            return
        use = case.performance.mac_utilization
        told = f", used to {percent(use)} of its peak" if use is not None and use >= 0.01 else ""
        yield Finding(
            (),
            f"{percent(share)} of the NPU's cycles wait for the MAC array{told}",
            "If the hardware is not fixed yet, compare the next larger NPU.",
            (Fix(f"{more} MACs", Safety.LOSSLESS, retarget=partial(with_macs, macs_per_cycle=more)),),
            only_if_gain=True,
        )


class ScalePerRow(NpuRule):
    """Fully connected weights have a scale for each row, and compress badly.

    ## Why it matters
    With a scale of its own each row uses all codes up to 127, and codes that are spread evenly hardly compress. With
    one scale for all most codes are small. Each weight of a fully connected operator is used once, so that its size
    decides the time.

    ## How it is found
    FULLY_CONNECTED operators with a scale per row that have 2 % of the time or more. They are tried with the largest
    scale for all rows.

    ## What to do
    Quantize with one scale for each tensor: `mlia optimize --per-tensor-fc` for a float model, or in TensorFlow's
    converter `_experimental_disable_per_channel_quantization_for_dense_layers`.

    ## Limits
    Rows with small weights lose precision; check the accuracy.

    ## Source
    Estimated with Vela 5.2 on ethos-u55-256: 256 rows of 1,024 weights, of very different size, take 165 KB and
    0.346 ms with one scale, and 243 KB and 0.501 ms with a scale for each.
    """

    code = "OPT005"
    name = "scale-per-row"

    def skip(self, case: Case) -> str:
        return _without_weights(case)

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        found = []
        for operator in _int8_weights(case):
            quantization = main.tensors[operator.inputs[1]].quantization
            if operator.kind == "FULLY_CONNECTED" and quantization is not None and len(quantization.scale) > 1:
                found.append(operator)
        operators = tuple(OperatorId(main.index, operator.index) for operator in found)
        if case.share(operators) < 0.02:
            return
        scales = [scale for operator in found for scale in _scales(main, operator)]
        yield Finding(
            operators,
            f"{named([main.operator_name(operator) for operator in found])}: a scale per row, from {min(scales):.3g} to"
            f" {max(scales):.3g}",
            "Quantize FULLY_CONNECTED weights with one scale per tensor (`--per-tensor-fc` of mlia optimize).",
            (Fix("one scale per tensor", Safety.VALIDATE, later("compression.one_scale_for_dense")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds(operators),
        )


class LargerThanNeeded(NpuRule):
    """The NPU mostly waits for memory, and the next smaller one would be about as fast.

    ## Why it matters
    MACs that wait for weights cost area and power, and bring nothing. Faster memory, or smaller weights, would.

    ## How it is found
    Each step is taken to compute twice as long, at most hidden behind the memory that it waits for now. Where that
    makes the model less than 5 % slower, it is compiled for the next smaller NPU of the family.

    ## What to do
    Take it into account when the hardware is chosen, or see the advice about weights and memory.

    ## Limits
    Only for Ethos-U55: on others the weights of a smaller NPU are packed in another way, and take other times to read.

    ## Source
    Estimated with Vela 5.2: three dense operators of 512x512 take 1.614 ms on ethos-u55-256 and on ethos-u55-128.
    """

    code = "OPT006"
    name = "larger-than-needed"

    def skip(self, case: Case) -> str:
        if case.target.npu.family != "ethos-u55":
            return "only for Ethos-U55, where smaller NPUs wait alike"
        return "" if case.performance.memory is not None else "nothing runs on the NPU"

    def check(self, case: Case) -> Iterator[Finding]:
        fewer = next_macs(case.target, -1)
        steps = [step for cost in case.performance.operators for step in cost.steps]
        now = sum(step.total_cycles for step in steps)
        then = sum(max(step.total_cycles, 2 * step.npu_cycles) for step in steps)
        if fewer is None or not now or then > (1 + WAITING) * now:
            return
        yield Finding(
            (),
            f"{percent(bound_share(case, *FAR, Bound.SRAM, Bound.LATENCY))} of the NPU's cycles are in steps that wait"
            " for memory",
            "If the hardware is not fixed yet, compare the next smaller NPU.",
            (Fix(f"{fewer} MACs", Safety.LOSSLESS, retarget=partial(with_macs, macs_per_cycle=fewer)),),
            aim=Aim.HARDWARE,
            only_if_gain=True,
        )


def _scales(subgraph: Subgraph, operator: Operator) -> tuple[float, ...]:
    quantization = subgraph.tensors[operator.inputs[1]].quantization
    return quantization.scale if quantization is not None else ()


RULES: tuple[type[Rule], ...] = (
    UncompressedWeights,
    CompressionIsNoHelp,
    DenseOnU85,
    MacBound,
    ScalePerRow,
    LargerThanNeeded,
)

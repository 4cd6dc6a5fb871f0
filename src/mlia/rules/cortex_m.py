"""Rules about a Cortex-M alone: kernels that are missing or slow."""

from collections import defaultdict
from collections.abc import Iterator

from mlia.advice import Severity
from mlia.cpu_results import CpuCost
from mlia.results import OperatorId
from mlia.rules.phrases import named, percent
from mlia.rules.rule import CpuCase, CpuRule, Finding, Rule

MUCH = 0.05  # of the time: less is not worth another kernel
CMSIS_NN = "CMSIS-NN"
NO_DSP = "cortex-m0plus"
FLOAT = "float32"


def _operators(costs: list[CpuCost]) -> tuple[OperatorId, ...]:
    return tuple(OperatorId(cost.subgraph, cost.index) for cost in costs)


def _milliseconds(costs: list[CpuCost]) -> float:
    return sum(cost.latency_ms or 0.0 for cost in costs)


def _share(case: CpuCase, costs: list[CpuCost]) -> float:
    whole = _milliseconds([cost for cost in case.performance.operators if not cost.subgraph])
    return min(_milliseconds(costs) / whole, 1.0) if whole else 0.0


class NoKernel(CpuRule):
    """TensorFlow Lite Micro has no kernel for an operator.

    ## Why it matters
    The interpreter refuses the whole model when it allocates its tensors; nothing of it runs.

    ## How it is found
    Operators, and types of their tensors, are looked up in a table of what TensorFlow Lite Micro registers.

    ## What to do
    Replace the operator in the model by others that do the same, or register a kernel of your own.

    ## Limits
    The table is of one version; operators that an application registers itself are not known.

    ## Source
    The interpreter of the `tflite-micro` package, asked for each operator.
    """

    code = "CPU001"
    name = "no-kernel"
    severity = Severity.WARNING

    def check(self, case: CpuCase) -> Iterator[Finding]:
        reasons: dict[str, list[CpuCost]] = defaultdict(list)
        for cost in case.performance.operators:
            if not cost.kernel.is_supported:
                reasons[cost.kernel.reason].append(cost)
        for reason, costs in reasons.items():
            yield Finding(
                _operators(costs),
                f"{named([cost.name for cost in costs])}: {reason}",
                "Replace it by operators that TensorFlow Lite Micro has, or register a kernel of your own.",
                why_not_tried="what stands in for it depends on the application",
            )


class ReferenceKernel(CpuRule):
    """An operator that takes much of the time runs on a reference kernel instead of CMSIS-NN.

    ## Why it matters
    Reference kernels are written to be read: plain loops without the DSP or vector instructions of the core.

    ## How it is found
    Kinds of operators whose kernel is not CMSIS-NN's and that have 5 % of the time or more, those in float left out.

    ## What to do
    The reason says what CMSIS-NN would take: another type, inputs of one shape, or another operator.

    ## Limits
    Their time is estimated with a wide band. On a Cortex-M0+ both kinds are plain C.

    ## Source
    The sources of tensorflow/lite/micro/kernels/cmsis_nn: what each kernel sends to the library.
    """

    code = "CPU002"
    name = "reference-kernel"

    def skip(self, case: CpuCase) -> str:
        if case.target.host.core == NO_DSP:
            return "a Cortex-M0+ has no instructions that CMSIS-NN could use"
        return ""

    def check(self, case: CpuCase) -> Iterator[Finding]:
        kinds: dict[str, list[CpuCost]] = defaultdict(list)
        for cost in case.performance.operators:
            is_slow = cost.kernel.is_supported and cost.kernel.library != CMSIS_NN and cost.latency_ms is not None
            if is_slow and not _is_float(case, cost) and not cost.subgraph:
                kinds[cost.kind].append(cost)
        slow = [costs for costs in kinds.values() if _share(case, costs) >= MUCH]
        if not slow:
            return
        slow.sort(key=_milliseconds, reverse=True)
        every = [cost for costs in slow for cost in costs]
        told = ", ".join(f"{costs[0].kind} {percent(_share(case, costs))}" for costs in slow[:3])
        yield Finding(
            _operators(every),
            f"time in reference kernels: {told}; {slow[0][0].kernel.reason}",
            "Use fewer of them, or operators and types that CMSIS-NN takes.",
            why_not_tried="for a Cortex-M alone nothing is tried",
            at_stake_ms=_milliseconds(every),
        )


class FloatModel(CpuRule):
    """The model computes in float, for which CMSIS-NN has no kernels.

    ## Why it matters
    Float kernels of TensorFlow Lite Micro are reference kernels, and weights take four bytes each. int8 is several
    times faster and a quarter of the size.

    ## How it is found
    Operators that compute in float32 have 5 % of the time or more.

    ## What to do
    Leave out `--no-quantize`: then the model is quantized to int8 before it is looked at. For a model that is float in
    part, quantize it completely.

    ## Limits
    Quantization costs some accuracy; calibrate with real data.

    ## Source
    mlia's Cortex-M model: MLPerf Tiny's ResNet-8 takes 429 ms in float and 19 ms in int8 on the cortex-m55 target, and
    1,184 and 401 ms on the cortex-m4 target.
    """

    code = "CPU003"
    name = "float-on-cortex-m"
    severity = Severity.WARNING

    def check(self, case: CpuCase) -> Iterator[Finding]:
        costs = [cost for cost in case.performance.operators if not cost.subgraph and _is_float(case, cost)]
        share = _share(case, costs)
        if share < MUCH:
            return
        whole = case.graph.computes_in_float
        yield Finding(
            _operators(costs),
            f"{len(costs)} operators compute in float32, with reference kernels: {percent(share)} of the time",
            "Quantize the model to int8; without --no-quantize mlia does it."
            if whole
            else "Quantize the rest of the model, or replace operators that the quantizer leaves in float.",
            why_not_tried="for a Cortex-M alone nothing is tried",
            at_stake_ms=_milliseconds(costs),
        )


def _is_float(case: CpuCase, cost: CpuCost) -> bool:
    """Whether it computes a float32 tensor from float32; what converts from or to float is not meant."""
    subgraph = next((each for each in case.graph.subgraphs if each.index == cost.subgraph), None)
    if subgraph is None or cost.index >= len(subgraph.operators):
        return False
    operator = subgraph.operators[cost.index]
    if not operator.outputs or operator.kind in ("QUANTIZE", "DEQUANTIZE"):
        return False
    return subgraph.tensors[operator.outputs[0]].dtype == FLOAT


RULES: tuple[type[Rule], ...] = (NoKernel, ReferenceKernel, FloatModel)

"""Activations and scales that cost more than they need to, and types wider than the NPU's best."""

from collections.abc import Iterator

from mlia.advice import Safety
from mlia.results import OperatorCost
from mlia.rules.performance.costs import costliest, identity, main_costs, share
from mlia.rules.phrases import counted, percent
from mlia.rules.rule import Case, Finding, Fix, NpuRule, Rule, later, operand, result

_TAKING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SCALING = (*_TAKING, "ADD")
_TABLES = ("HARD_SWISH", "GELU", "ELU", "LEAKY_RELU")


class GatedActivation(NpuRule):
    """x * LOGISTIC(x) (swish, SiLU) multiplies two tensors, where one look-up in a table would do.

    ## Why it matters
    A table is applied while a convolution writes its result. The product is a pass of its own over two tensors, and an
    Ethos-U multiplies tensors at a small part of the speed of convolutions.

    ## How it is found
    By pairs of LOGISTIC and MUL over the same tensor that take 5 % of the time or more.

    ## What to do
    Train with hard swish, which is close to swish; or with RELU, which costs nothing behind a convolution.

    ## Limits
    The swap changes the numbers: the accuracy must be looked at, and a little training helps.

    ## Source
    Estimated with Vela 5.2: four 3x3 convolutions of 16 channels on 64x64 with swish take 809,703 cycles on
    ethos-u55-128, with HARD_SWISH 368,674, with RELU 349,927.
    """

    code = "PER020"
    name = "gated-activation"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        gates = {
            operator.outputs[0]: operator
            for operator in main.operators
            if operator.kind == "LOGISTIC" and operator.inputs and operator.outputs
        }
        found: list[OperatorCost] = []
        products = 0
        costs = {cost.index: cost for cost in main_costs(case)}
        for operator in main.operators:
            if operator.kind != "MUL" or len(operator.inputs) != 2:
                continue
            for source, gate in (operator.inputs, operator.inputs[::-1]):
                if gate in gates and gates[gate].inputs[0] == source:
                    products += 1
                    found += [costs[index] for index in (operator.index, gates[gate].index) if index in costs]
        part = share(case, found)
        if not found or part < 0.05:
            return
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{products} x * LOGISTIC(x) take {percent(part)} of the time: {costliest(found)}",
            "Train with hard swish, or with RELU.",
            (
                Fix("HARD_SWISH for x * LOGISTIC(x)", Safety.VALIDATE, later("activations.hard_swishes")),
                Fix("RELU for x * LOGISTIC(x)", Safety.VALIDATE, later("activations.plain_relus")),
            ),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class SlowTable(NpuRule):
    """Activations that are looked up in a table keep convolutions from using the whole MAC array.

    ## Why it matters
    RELU is free behind a convolution. HARD_SWISH, GELU, ELU and LEAKY_RELU are tables, which take a place in the NPU's
    own memory and slow down its output on some configurations.

    ## How it is found
    By convolutions with such an activation behind them that take a tenth of the time; RELU is tried in its place.

    ## What to do
    If the gain is worth a training, train with RELU or RELU6.

    ## Limits
    The swap changes the numbers much: it shows the time, and is no model to ship without training. Most targets gain
    little, and then nothing is said.

    ## Source
    Estimated with Vela 5.2: four 3x3 convolutions of 16 channels on 64x64 take 275,342 cycles with HARD_SWISH and
    180,200 with RELU on ethos-u55-256; on ethos-u85-256 both take 196,964.
    """

    code = "PER021"
    name = "slow-table"

    def skip(self, case: Case) -> str:
        if case.target.npu.family == "ethos-u85":
            return "a table costs nothing on Ethos-U85"
        return ""

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        makers = {index: operator for operator in main.operators for index in operator.outputs}
        costs = {cost.index: cost for cost in case.performance.operators if cost.subgraph == main.index}
        found, names = [], []
        for operator in main.operators:
            made = makers.get(operator.inputs[0]) if operator.kind in _TABLES and operator.inputs else None
            if made is None or made.kind not in _TAKING or made.index not in costs or operator.index not in costs:
                continue
            found += [costs[made.index], costs[operator.index]]
            names.append(costs[operator.index])
        part = share(case, found)
        if not found or part < 0.1:
            return
        kinds = ", ".join(dict.fromkeys(cost.kind for cost in names))
        yield Finding(
            tuple(identity(cost) for cost in names),
            f"{len(names)} {kinds} behind convolutions, which take {percent(part)} of the time with them",
            "Train with RELU or RELU6 if that is worth it.",
            (Fix("RELU in their place", Safety.VALIDATE, later("activations.plain_relus")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class ResultRescaled(NpuRule):
    """A RELU or QUANTIZE only brings the result of a convolution or an ADD to another scale.

    ## Why it matters
    These scale their results anyway, and can do so to any scale. Standing apart, the operator is one more pass
    over the whole tensor, and rounds once more.

    ## How it is found
    By int8 RELUs (RELU6, RELU_N1_TO_1) and QUANTIZEs that change the scale behind a convolution, a fully connected
    operator or an ADD, and take 1 % of the time or more.

    ## What to do
    Let the operator in front write in the last scale: convert the model with the activation fused into it.

    ## Limits
    There is one rounding less, so that codes may differ by one. A RELU that keeps the scale is joined by the compiler
    itself, and costs nothing where it stands.

    ## Source
    Estimated with Vela 5.2: a QUANTIZE of 32x32x8 takes 8352 cycles on ethos-u55-128.
    """

    code = "PER022"
    name = "result-rescaled"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        makers = {index: operator for operator in main.operators for index in operator.outputs}
        found, fronts = [], []
        for cost in main_costs(case, "RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE"):
            operator = case.operator(cost)
            before, after = operand(main, operator, 0), result(main, operator)
            made = makers.get(operator.inputs[0]) if operator.inputs else None
            if made is None or before is None or after is None or made.kind not in _SCALING:
                continue
            if before.dtype == after.dtype == "int8" and before.quantization != after.quantization:
                found.append(cost)
                fronts.append(made.kind)
        part = share(case, found)
        if not found or part < 0.01:
            return
        kinds, in_front = ", ".join(dict.fromkeys(cost.kind for cost in found)), ", ".join(dict.fromkeys(fronts))
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{kinds} rescale results of {in_front} in {percent(part)} of the time: {costliest(found)}",
            "Let the operators in front write in that scale.",
            (Fix("scales joined with the operators in front", Safety.VALIDATE, later("activations.joined_results")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class CostlySoftmax(NpuRule):
    """The SOFTMAX at the end takes a noticeable part of the time, and the program may not need it.

    ## Why it matters
    The largest result is the same with and without it, and the NPU needs about twenty steps for one SOFTMAX.

    ## How it is found
    By a SOFTMAX that makes an output of the model and takes more than 5 % of the time.

    ## What to do
    If the program only looks for the largest result, leave the SOFTMAX out. Otherwise compute it in the program.

    ## Limits
    The output has another scale and is no probability. Thresholds on probabilities must be changed.

    ## Source
    Estimated with Vela 5.2: a SOFTMAX over 12 classes takes 1003 cycles on ethos-u55-128.
    """

    code = "PER023"
    name = "costly-softmax"

    def check(self, case: Case) -> Iterator[Finding]:
        found = [
            cost for cost in main_costs(case, "SOFTMAX") if {*case.operator(cost).outputs} & {*case.graph.main.outputs}
        ]
        part = share(case, found)
        if not found or part <= 0.05:
            return
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"the SOFTMAX {costliest(found)} makes an output, in {percent(part)} of the time",
            "Leave it out where only the largest result is looked for.",
            (Fix("the SOFTMAX left out", Safety.VALIDATE, later("interface.without_final_softmax")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class SixteenBits(NpuRule):
    """Activations of 16 bits make convolutions slower, and need twice the memory.

    ## Why it matters
    An Ethos-U multiplies 8 by 8 bits at its full speed, and 8 by 16 bits at half of it.

    ## How it is found
    By convolutions and fully connected operators on int16 that take a fifth of the time or more.

    ## What to do
    Quantize to int8, with weights per channel, and look at the accuracy; keep 16 bits where it is needed.

    ## Limits
    An int8 model needs the float model and calibration data, so nothing is tried.

    ## Source
    Estimated with Vela 5.2, calibrated without measurements of int16: three 3x3 convolutions of 16 channels on
    32x32 take 1.5 times as long in int16 on ethos-u55-128, 1.7 times on ethos-u65-512, 1.5 times on ethos-u85-256, and
    69 instead of 38 KiB of SRAM.
    """

    code = "PER024"
    name = "sixteen-bits"

    def check(self, case: Case) -> Iterator[Finding]:
        found = []
        for cost in main_costs(case, *_TAKING):
            before = operand(case.subgraph(cost), case.operator(cost), 0)
            if before is not None and before.dtype == "int16":
                found.append(cost)
        part = share(case, found)
        if not found or part < 0.2:
            return
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"int16 in {counted(len(found), 'operator')}, {percent(part)} of the time: {costliest(found)}",
            "Quantize the float model to int8, and keep 16 bits only where the accuracy needs it.",
            why_not_tried="it needs the float model",
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class SlopePerChannel(NpuRule):
    """PRELU, with a slope of its own for each channel, multiplies and compares whole tensors.

    ## Why it matters
    RELU is free behind a convolution, and LEAKY_RELU with one slope nearly so. A PRELU is two more passes over the
    tensor, each far slower than a convolution's arithmetic.

    ## How it is found
    By PRELUs that take 3 % of the time or more.

    ## What to do
    Train with LEAKY_RELU or RELU. In Keras, PReLU(shared_axes=[1, 2, 3]) learns one slope.

    ## Limits
    The remedy takes the mean slope of the channels, to measure the time: check the accuracy, or train again.

    ## Source
    Estimated with Vela 5.2: three 3x3 convolutions of 16 channels on 64x64 take 544,474 cycles on ethos-u55-128 with
    PRELU, 269,276 with LEAKY_RELU and 249,562 with RELU.
    """

    code = "PER025"
    name = "slope-per-channel"

    def check(self, case: Case) -> Iterator[Finding]:
        found = main_costs(case, "PRELU")
        part = share(case, found)
        if not found or part < 0.03:
            return
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{counted(len(found), 'PRELU')}, {percent(part)} of the time: {costliest(found)}",
            "Train with LEAKY_RELU or RELU.",
            (
                Fix("LEAKY_RELU with the mean slope", Safety.VALIDATE, later("activations.slopes_alike")),
                Fix("RELU in their place", Safety.VALIDATE, later("activations.plain_relus")),
            ),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


RULES: tuple[type[Rule], ...] = (
    GatedActivation,
    SlowTable,
    ResultRescaled,
    CostlySoftmax,
    SixteenBits,
    SlopePerChannel,
)

"""Where the time goes when one operator has most of it, and what that operator waits for."""

from collections.abc import Iterator

from mlia.results import Bound, OperatorCost
from mlia.rules.performance.costs import identity, main_costs, share
from mlia.rules.performance.shape import FewInputChannels
from mlia.rules.phrases import percent, quoted, sizes
from mlia.rules.rule import Case, Finding, NpuRule, Rule, operand, result

_MOST = 0.4  # of the time, by one operator
_FEWEST_OPERATORS = 3
_RECURRENT = (
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN",
)  # fmt: skip
_IDLE = 0.2  # MAC utilization below which arithmetic alone is not the reason
_MEANING = {
    Bound.OUTPUT_UNIT: ("for its results to be written", "Let it write less: a stride, or fewer channels."),
    Bound.COMMANDS: ("for commands, as its steps are small", "Join its work into fewer, larger operators."),
    Bound.LATENCY: ("for the first data of its short steps", "Join its work into fewer, larger operators."),
    Bound.SRAM: ("for SRAM", "Let it read and write less, or give the NPU more bandwidth to SRAM."),
    Bound.DRAM: ("for DRAM", "Let it read and write less, or keep its tensors in SRAM (memory mode)."),
    Bound.FLASH: ("for weights from flash", "Use fewer weights, or weights that compress better (prune, cluster)."),
}


class DominatingOperator(NpuRule):
    """One operator takes more than 40 % of the time, so that only a change to it makes the model much faster.

    ## Why it matters
    A model is as fast as its slowest part. What helps depends on what that part waits for: arithmetic, its results to
    be written, or a memory.

    ## How it is found
    By the estimate of each operator's time, in models of three operators or more that take time.

    ## What to do
    Change this operator first. With many idle MACs its shape is the reason: few channels or a small feature map.

    ## Limits
    This says where to look. Nothing is said of a convolution over few input channels: that is a rule of its own.

    ## Source
    The estimate for each operator, and the resource that its slowest step waits for.
    """

    code = "PER001"
    name = "dominating-operator"

    def check(self, case: Case) -> Iterator[Finding]:
        costs = main_costs(case)
        if len(costs) < _FEWEST_OPERATORS:
            return
        largest = max(costs, key=lambda cost: cost.total_cycles or 0)
        part = share(case, [largest])
        if part <= _MOST or largest.bound_by is None:
            return
        if any(identity(largest) in finding.operators for finding in FewInputChannels().check(case)):
            return  # that says more
        cause, remedy = _meaning(case, largest)
        yield Finding(
            (identity(largest),),
            f"{quoted(largest.name)} ({largest.kind}) takes {percent(part)} of the time; it waits {cause}",
            remedy,
            why_not_tried="it is a matter of the model's architecture",
            at_stake_ms=case.milliseconds([identity(largest)]),
        )


def _meaning(case: Case, cost: OperatorCost) -> tuple[str, str]:
    """What an operator waits for, and what to change."""
    operator, subgraph = case.operator(cost), case.subgraph(cost)
    before, after = operand(subgraph, operator, 0), result(subgraph, operator)
    if cost.kind in _RECURRENT and before is not None and len(before.shape) == 3:
        steps = before.shape[0 if operator.options.get("time_major") else 1]
        return f"for each of {steps} time steps in turn", "Use fewer time steps, or convolutions over time (TCN)."
    if cost.bound_by is not None and cost.bound_by in _MEANING:
        return _MEANING[cost.bound_by]
    used = cost.mac_utilization or 0.0
    if not cost.macs:
        return "for work that is no multiply-accumulate", "Let it have a smaller input, or do without it."
    if used >= _IDLE:
        return (
            f"for arithmetic, with {percent(used)} of the MACs in use",
            "Only less arithmetic makes it faster: fewer channels, a smaller kernel, or a stride.",
        )
    idle = f"for arithmetic, but {percent(1 - used)} of the MACs idle"
    if before is not None and before.shape and before.shape[-1] < 8:
        reads = "1 channel" if before.shape[-1] == 1 else f"{before.shape[-1]} channels"
        return f"{idle}: it reads {reads}", "Use a stride or fewer filters there; later layers compute better."
    if cost.kind == "DEPTHWISE_CONV_2D":
        return f"{idle}: depthwise", "Use a smaller kernel, or an earlier stride."
    if after is not None and after.shape and after.shape[-1] < 8:
        return f"{idle}: it writes {after.shape[-1]} channels", "Compute more channels on a smaller feature map."
    shape = sizes(after.shape) if after is not None else "?"
    return f"{idle} on {shape}", "Use channels in multiples of 16, or more rows and columns at a time."


RULES: tuple[type[Rule], ...] = (DominatingOperator,)

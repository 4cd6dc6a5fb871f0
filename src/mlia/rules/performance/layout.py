"""Operators that move numbers without computing anything."""

from collections.abc import Iterator
from contextlib import suppress

from mlia.advice import Safety
from mlia.graph.graph import Graph
from mlia.rules.performance.words import identity, listed, main_costs, operand, percent, result, share, sizes
from mlia.rules.rule import Case, Finding, Fix, NpuRule, Rule

_COPIES = ("CONCATENATION", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "PACK", "UNPACK", "RESHAPE")
_STATE = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")


class CostlyTransposes(NpuRule):
    """TRANSPOSEs copy whole tensors into another order of axes, as converters from NCHW leave them.

    ## Why it matters
    An Ethos-U computes in NHWC. Each TRANSPOSE between operators reads and writes a tensor once more, and U55 and U65
    move only a few bytes per cycle at it.

    ## How it is found
    By TRANSPOSEs that take 2 % of the time or more together.

    ## What to do
    Export the model in NHWC: `channels_last` in PyTorch, with a converter that keeps it (onnx2tf, ai-edge-torch). What
    cancels, or can go into weights, is taken out here; feeding the input in NHWC saves the one that is left.

    ## Limits
    TRANSPOSEs around operators that depend on the order of axes stay. On U85 some are joined with operators in front.

    ## Source
    Measured with Vela 5.2: a network of three convolutions from PyTorch takes 169,208 cycles on ethos-u55-128, 27 % of
    them in six TRANSPOSEs, and 88,084 without five of them.
    """

    code = "PER010"
    name = "costly-transposes"

    def check(self, case: Case) -> Iterator[Finding]:
        found = main_costs(case, "TRANSPOSE")
        part = share(case, found)
        if not found or part < 0.02:
            return
        cycles = sum(cost.total_cycles or 0 for cost in found)
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{_count(len(found), 'TRANSPOSE')} take {percent(part)} of the time, {cycles:,} cycles: {listed(found)}",
            "Export the model in NHWC, and feed it so.",
            (
                Fix("TRANSPOSEs cancelled", Safety.LOSSLESS, _without_transposes),
                Fix("inputs and outputs in NHWC too", Safety.VALIDATE, _nhwc),
            ),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}s" if number > 1 else f"1 {kind}"


def _without_transposes(graph: Graph) -> Graph:
    from mlia.transforms.remedies.applying import without_transposes

    return without_transposes(graph)


def _nhwc(graph: Graph) -> Graph:
    from mlia.errors import TransformError
    from mlia.transforms.remedies.applying import without_transposes
    from mlia.transforms.remedies.interface import with_inputs_transposed

    with suppress(TransformError):  # those at the ends may be the only ones
        graph = without_transposes(graph)
    return with_inputs_transposed(graph)


class PaddingApart(NpuRule):
    """A PAD writes a padded copy of a tensor for a convolution that could pad by itself.

    ## Why it matters
    The copy is written and read once more, and it and the tensor are in memory at the same time.

    ## How it is found
    By PADs that take 1 % of the time or more and have a VALID convolution behind them.

    ## What to do
    Give the convolution SAME padding where that reads the same places; then the PAD can go.

    ## Limits
    SAME padding puts the smaller half in front. A convolution with stride 2 over an even size, padded by one on both
    sides as PyTorch does, reads other places, so that the remedy does not apply to it.

    ## Source
    TFLite's definition of SAME padding; a measurement with Vela 5.2 on ethos-u55-128.
    """

    code = "PER011"
    name = "padding-apart"

    def check(self, case: Case) -> Iterator[Finding]:
        found = []
        for cost in main_costs(case, "PAD", "PADV2"):
            outputs = case.operator(cost).outputs
            readers = [other for other in case.subgraph(cost).operators if {*outputs} & {*other.inputs}]
            if readers and all(other.kind in ("CONV_2D", "DEPTHWISE_CONV_2D") for other in readers):
                found.append(cost)
        part = share(case, found)
        if not found or part < 0.01:
            return
        tensor = result(case.subgraph(found[0]), case.operator(found[0]))
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{listed(found)} write padded copies ({sizes(tensor)}) in {percent(part)} of the time",
            "Use SAME padding in the convolution behind the PAD.",
            (Fix("padding in the convolutions", Safety.LOSSLESS, _padding_inside),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


def _padding_inside(graph: Graph) -> Graph:
    from mlia.transforms.remedies.applying import padding_inside

    return padding_inside(graph)


class IdleOperators(NpuRule):
    """Operators change nothing, or compute what nobody reads.

    ## Why it matters
    The NPU executes most of them all the same: each is a pass over a whole tensor.

    ## How it is found
    By operators that give back what they get (QUANTIZE to the same scale, MUL by 1, PAD by 0, a slice of everything)
    and by those whose results reach no output, where they take 1 % of the time or more or are not on the NPU.

    ## What to do
    Take them out: the outputs stay the same bit by bit.

    ## Limits
    Only what can be told from shapes, scales and constants is found.

    ## Source
    TFLite's definition of the operators; tried with LiteRT's reference kernels.
    """

    code = "PER012"
    name = "idle-operators"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        needed = main.needed_operators()
        found = []
        for cost in main_costs(case):
            operator = case.operator(cost)
            before, after = operand(main, operator, 0), result(main, operator)
            if before is None or after is None or len(operator.outputs) != 1:
                continue
            is_same = before.shape == after.shape and before.dtype == after.dtype
            if cost.index not in needed or (is_same and _gives_back(case, cost.index)):
                found.append(cost)
        part = share(case, found)
        if not found or part < 0.01:
            return
        kinds = ", ".join(dict.fromkeys(cost.kind for cost in found))
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{listed(found)} ({kinds}) change nothing or reach no output, in {percent(part)} of the time",
            "Take them out of the model.",
            (Fix("idle operators removed", Safety.LOSSLESS, _without_idle),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


def _gives_back(case: Case, index: int) -> bool:
    """Whether an operator whose output has the shape and type of its input gives it back, as far as can be told."""
    main = case.graph.main
    operator = main.operators[index]
    before, after = operand(main, operator, 0), result(main, operator)
    if before is None or after is None or before.quantization != after.quantization:
        return False
    if operator.kind in ("QUANTIZE", "PAD", "PADV2", "SLICE", "TILE", "BROADCAST_TO", "MIRROR_PAD", "CAST"):
        return True
    other = operand(main, operator, 1)
    if operator.kind not in ("MUL", "ADD", "SUB") or other is None or not other.data or other.quantization is None:
        return False
    return len(set(bytes(other.data[:4096]))) == 1  # one number everywhere: whether it is neutral is tried


def _without_idle(graph: Graph) -> Graph:
    from mlia.transforms.remedies.applying import without_idle_operators

    return without_idle_operators(graph)


class Copies(NpuRule):
    """Joining and splitting tensors takes a large part of the time.

    ## Why it matters
    CONCATENATION, SPLIT, SLICE and PACK compute nothing. Where the parts do not lie side by side in memory, an NPU
    copies them, as slowly as it moves any bytes.

    ## How it is found
    By operators of these kinds that the compiler made copies of, and that take 15 % of the time or more together.

    ## What to do
    Give all parts one scale: what is computed inside of the model is then written to its place, and costs nothing more.
    A streaming model shifts its buffers at each step: let each step take several frames.

    ## Limits
    This depends on the architecture of the model, so nothing is tried.

    ## Source
    Measured with Vela 5.2 on ethos-u55-128: joining two tensors of 16x16x16 with one scale takes no cycles, with another
    scale 8704. The wake words of microWakeWord spend 23 to 26 % of the time in copies.
    """

    code = "PER013"
    name = "copies"

    def check(self, case: Case) -> Iterator[Finding]:
        found = [cost for cost in main_costs(case, *_COPIES) if cost.steps]
        part = share(case, found)
        if not found or part < 0.15:
            return
        kinds = ", ".join(dict.fromkeys(cost.kind for cost in found))
        cycles = sum(cost.total_cycles or 0 for cost in found)
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"{len(found)} operators ({kinds}) copy tensors in {percent(part)} of the time, {cycles:,} cycles",
            "Let each step of the stream take several frames, so that its buffers are shifted less often."
            if any(operator.kind in _STATE for operator in case.graph.main.operators)
            else "Give all parts one scale, and join and split inside of the model, not at its inputs and outputs.",
            why_not_tried="it depends on the architecture of the model",
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


RULES: tuple[type[Rule], ...] = (CostlyTransposes, PaddingApart, IdleOperators, Copies)

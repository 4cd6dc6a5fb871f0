"""Operators that move numbers without computing anything."""

from collections.abc import Iterator

from mlia.advice import Safety
from mlia.rules.performance.costs import costliest, identity, main_costs, share
from mlia.rules.phrases import counted, percent
from mlia.rules.rule import Case, Finding, Fix, NpuRule, Rule, later, operand, result

NONE = "NONE"
_KEEPING = ("QUANTIZE", "PAD", "PADV2", "SLICE")
_NEUTRAL = {"MUL": 1.0, "ADD": 0.0, "SUB": 0.0}
_SMALL = 4096  # bytes of a constant that is looked at
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
    Export the model in NHWC, with a converter that reorders the axes of the whole model. What cancels, or can go into
    weights, is taken out here; feeding the input in NHWC saves the TRANSPOSE that is left.

    ## Limits
    TRANSPOSEs around operators that depend on the order of axes stay. On U85 some are joined with operators in front.

    ## Source
    Estimated with Vela 5.2: a network of three convolutions from PyTorch takes 169,208 cycles on ethos-u55-128, 27 % of
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
            f"{counted(len(found), 'TRANSPOSE')}, {percent(part)} of the time, {cycles:,} cycles: {costliest(found)}",
            "Export the model in NHWC, and feed it so.",
            (
                Fix("TRANSPOSEs cancelled", Safety.LOSSLESS, later("applying.without_transposes")),
                Fix("inputs and outputs in NHWC too", Safety.VALIDATE, later("interface.in_nhwc")),
            ),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class IdleOperators(NpuRule):
    """Operators give back what they get.

    ## Why it matters
    The NPU executes most of them all the same: each is a pass over a whole tensor.

    ## How it is found
    By MUL by 1, ADD of 0, and QUANTIZE, PAD or SLICE to the same shape and scale, that take 1 % of the time or more.

    ## What to do
    Take them out: the outputs stay the same bit by bit.

    ## Limits
    Only what can be told from shapes, scales and constants is found. What nobody reads is not executed by Vela anyway.

    ## Source
    TFLite's definition of the operators. Estimated with Vela 5.2 on ethos-u55-128: a MUL by 1 of 16x16x16 takes 4096
    cycles.
    """

    code = "PER011"
    name = "idle-operators"

    def check(self, case: Case) -> Iterator[Finding]:
        found = [cost for cost in main_costs(case, *_KEEPING, *_NEUTRAL) if _gives_back(case, cost.index)]
        part = share(case, found)
        if not found or part < 0.01:
            return
        kinds = ", ".join(dict.fromkeys(cost.kind for cost in found))
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"without effect, in {percent(part)} of the time: {costliest(found)} ({kinds})",
            "Take them out of the model.",
            (Fix("idle operators removed", Safety.LOSSLESS, later("applying.without_idle_operators")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


def _gives_back(case: Case, index: int) -> bool:
    """Whether an operator gives back its first input, as far as can be told without looking at large constants."""
    main = case.graph.main
    operator = main.operators[index]
    before, after = operand(main, operator, 0), result(main, operator)
    if before is None or after is None or (before.shape, before.dtype) != (after.shape, after.dtype):
        return False
    if before.quantization != after.quantization or operator.options.get("fused_activation_function", NONE) != NONE:
        return False
    if operator.kind in _KEEPING:
        return True
    other = operand(main, operator, 1)
    if other is None or other.dtype != "int8" or other.quantization is None or len(other.quantization.scale) != 1:
        return False
    codes = set(other.data.tolist()) if other.data.nbytes <= _SMALL else set()
    if len(codes) != 1:
        return False
    code = codes.pop()
    number = (code - 256 * (code > 127) - (*other.quantization.zero_point, 0)[0]) * other.quantization.scale[0]
    return abs(number - _NEUTRAL[operator.kind]) < 1e-6


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
    Estimated with Vela 5.2 on ethos-u55-128: joining two tensors of 16x16x16 with one scale takes no cycles, with
    another scale 8704. The wake words of microWakeWord spend 23 to 26 % of the time in copies.
    """

    code = "PER012"
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
            f"copies by {counted(len(found), 'operator')} ({kinds}): {percent(part)} of the time, {cycles:,} cycles",
            "Let each step of the stream take several frames, so that its buffers are shifted less often."
            if any(operator.kind in _STATE for operator in case.graph.main.operators)
            else "Give all parts one scale, and join and split inside of the model, not at its inputs and outputs.",
            why_not_tried="it depends on the architecture of the model",
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


RULES: tuple[type[Rule], ...] = (CostlyTransposes, IdleOperators, Copies)

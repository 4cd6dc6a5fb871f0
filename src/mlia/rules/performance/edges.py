"""What the inputs and outputs of a model cost: sizes that are left open, and types that the inside does not have."""

from collections.abc import Iterator

from mlia.advice import Safety
from mlia.graph.graph import Operator
from mlia.results import OperatorId
from mlia.rules.compatibility.shapes import size_operators
from mlia.rules.performance.costs import identity, main_costs, share
from mlia.rules.phrases import counted, percent
from mlia.rules.rule import Case, Finding, Fix, NpuRule, Rule, later, operand, result


class OpenBatch(NpuRule):
    """The batch is left open, which makes copies of RESHAPEs that would cost nothing.

    ## Why it matters
    A RESHAPE to a constant shape is no work: the compiler leaves it out. Where the shape is computed from an open
    batch, it copies the tensor, on Ethos-U55 at a few bytes per cycle.

    ## How it is found
    By RESHAPEs that take time in a model whose inputs leave their first size open, and nothing else.

    ## What to do
    Export the model with a batch of 1: `tf.TensorSpec([1, 28, 28])`, `keras.Input(batch_size=1)`, or
    `batch_size=1` before the conversion. It is tried, with all sizes that follow from it as constants.

    ## Limits
    The model takes one sample at a time then, which is what an NPU computes anyway.

    ## Source
    Estimated with Vela 5.2: a classifier of 28x28 digits takes 41,096 cycles on ethos-u55-128 with the batch open, and
    36,404 with a batch of 1.
    """

    code = "PER013"
    name = "open-batch"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        opened = [main.tensors[index] for index in main.inputs if main.tensors[index].is_dynamic]
        if not opened or any(-1 in tensor.shape_signature[1:] for tensor in opened):
            return
        if {refused.id for refused in case.refused} & size_operators(case):
            return  # it costs more than time then, and another rule tries the same
        found = main_costs(case, "RESHAPE")
        part = share(case, found)
        if not found:
            return
        names = ", ".join(f"'{tensor.name}'" for tensor in opened[:2])
        yield Finding(
            tuple(identity(cost) for cost in found),
            f"the batch of {names} is open, and {counted(len(found), 'RESHAPE')} copied for it: {percent(part)} of the"
            " time",
            "Export the model with a batch of 1.",
            (Fix("batch fixed to 1", Safety.VALIDATE, later("sizes.with_sizes_known")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds([identity(cost) for cost in found]),
        )


class UnsignedEdges(NpuRule):
    """Inputs or outputs are uint8 while the model computes in int8.

    ## Why it matters
    A QUANTIZE changes each number from one type to the other, which is one more pass over the whole input. The codes
    differ by 128 and by nothing else.

    ## How it is found
    By QUANTIZEs from a uint8 input to int8, or from int8 to a uint8 output, that take 1 % of the time or more.

    ## What to do
    Convert with `inference_input_type = tf.int8` and `inference_output_type = tf.int8`, and subtract 128 from each byte
    of a picture where the program reads it: the exclusive or with 0x80 does it, four bytes at a time.

    ## Limits
    Whoever calls the model must change: it gives and takes int8 then. Where the zero points are 128 and 0, the compiler
    takes the bytes as they are, and nothing is said.

    ## Source
    Estimated with Vela 5.2: a classifier of pictures of 48x64x3 takes 21,383 cycles on ethos-u55-256 with uint8 at both
    ends, and 16,691 with int8.
    """

    code = "PER014"
    name = "unsigned-edges"

    def check(self, case: Case) -> Iterator[Finding]:
        main = case.graph.main
        found = [operator for operator in main.operators if _is_edge(case, operator)]
        costs = [OperatorId(main.index, operator.index) for operator in found]
        part = case.share(costs)
        if not found or part < 0.01:
            return
        inputs = sum(operator.inputs[0] in main.inputs for operator in found)
        sides = [("input", inputs), ("output", len(found) - inputs)]
        told = " and ".join(counted(number, side) for side, number in sides if number)
        yield Finding(
            tuple(costs),
            f"{told} in uint8, which QUANTIZE brings to int8 or back in {percent(part)} of the time",
            "Convert with int8 inputs and outputs, and change the sign bit of each byte in the program.",
            (Fix("int8 inputs and outputs", Safety.VALIDATE, later("edges.signed_ends")),),
            only_if_gain=True,
            at_stake_ms=case.milliseconds(costs),
        )


def _is_edge(case: Case, operator: Operator) -> bool:
    """Whether it brings a uint8 input of the model to int8, or an int8 result to a uint8 output."""
    main = case.graph.main
    before, after = operand(main, operator, 0), result(main, operator)
    if operator.kind != "QUANTIZE" or before is None or after is None:
        return False
    is_input = operator.inputs[0] in main.inputs and (before.dtype, after.dtype) == ("uint8", "int8")
    is_output = operator.outputs[0] in main.outputs and (before.dtype, after.dtype) == ("int8", "uint8")
    return is_input or is_output


RULES: tuple[type[Rule], ...] = (OpenBatch, UnsignedEdges)

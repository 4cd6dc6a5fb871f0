"""Operators that the compiler is known to get wrong, so that the NPU computes something else than the model."""

from collections.abc import Iterator
from math import prod
from struct import iter_unpack

from mlia.advice import Safety, Severity
from mlia.graph.graph import Graph, Operator, Tensor
from mlia.results import Compatibility, OperatorId, Unit
from mlia.rules.phrases import named
from mlia.rules.rule import Aim, Case, Finding, Fix, NpuRule, Rule, later
from mlia.simulator.differences import WIDEST_CELL, KnownDifference, Trait, known_difference

_CELL = 19  # the place of the cell among the inputs of an LSTM
TINIEST = 2.0**30  # multipliers of both sides hold a fraction of 31 bits, and no quotient beyond


class ComputedWrongly(NpuRule):
    """An operator is compiled to commands that compute something else than the operator does.

    ## Why it matters
    The report says that the operator runs on the NPU, and so it does, with wrong numbers. Nothing warns of it before
    the accuracy is measured on the device.

    ## How it is found
    By a list of operators and their forms for which executing the compiler's command streams gave other numbers than
    LiteRT's reference kernels, by more than a rounding.

    ## What to do
    Write the operator in another form: keep the reduced axes and reshape afterwards, reduce one axis at a time, pad
    channels by a concatenation, or let TANH be an operator of its own. Then let `mlia verify` compare again.

    ## Limits
    The list holds what a fuzz of Vela 5.2 found; other versions may be better or worse. No hardware confirmed it.

    ## Source
    `mlia verify` and the fuzz of the simulator (docs/known-differences.md), with Vela 5.2.
    """

    code = "VER001"
    name = "computed-wrongly"
    severity = Severity.WARNING
    reads = Compatibility

    def check(self, case: Case) -> Iterator[Finding]:
        found: dict[KnownDifference, list[OperatorId]] = {}
        for placement in case.compatibility.operators:
            if placement.processor != Unit.NPU or placement.subgraph != case.graph.main.index:
                continue
            operator = case.operator(placement)
            known = known_of(case.graph, operator, case.target.npu.family)
            if known is not None and known.is_defect:
                found.setdefault(known, []).append(OperatorId(placement.subgraph, placement.index))
        for known, operators in found.items():
            names = named([case.placements[each].name for each in operators])
            yield Finding(
                tuple(operators),
                f"{known.kind} {names}: {known.reason}",
                "Write it in another form, and compare with `mlia verify`.",
                why_not_tried="which form the model can have is for its maker to say",
            )


def known_of(graph: Graph, operator: Operator, family: str) -> KnownDifference | None:
    """What is known of an operator of the main subgraph on a family; None if its numbers must be the reference's."""
    inputs = [graph.main.tensor(index) for index in operator.inputs]
    data = inputs[2 if operator.kind == "TRANSPOSE_CONV" and len(inputs) > 2 else 0] if inputs else None
    traits = _traits(operator, inputs)
    if _has_tiny_scale(graph, operator):
        traits.add(Trait.TINY_SCALE)
    return known_difference(operator.kind, data.dtype if data is not None else "", family, traits)


def _has_tiny_scale(graph: Graph, operator: Operator) -> bool:
    """Whether the scale of the output is nothing beside those of the inputs."""
    made = graph.main.tensor(operator.outputs[0]) if operator.outputs else None
    if made is None or made.quantization is None or not made.quantization.scale:
        return False
    scales = [
        max(tensor.quantization.scale)
        for index in operator.inputs
        if (tensor := graph.main.tensor(index)) is not None and tensor.quantization and tensor.quantization.scale
    ]
    product = prod(scales[:2]) if operator.kind not in ("ADD", "SUB", "QUANTIZE") else max(scales, default=0.0)
    return min(made.quantization.scale) * TINIEST < product


def _traits(operator: Operator, inputs: list[Tensor | None]) -> set[Trait]:
    """What of an operator matters for known differences."""
    traits = set()
    if operator.options.get("fused_activation_function") == "TANH":
        traits.add(Trait.APPLIES_TANH)
    bias = (*inputs, None, None, None, None)[3 if operator.kind == "TRANSPOSE_CONV" else 2]
    if bias is not None and bias.dtype == "int32":
        traits.add(Trait.SHORT_BIAS)
    parameter = inputs[1] if len(inputs) > 1 else None
    axes = _axes(inputs) if operator.kind in ("SUM", "REDUCE_MAX", "REDUCE_MIN") else set()
    if len(axes) > 1:
        traits.add(Trait.SEVERAL_AXES)
    if axes & {2, 3} and not operator.options.get("keep_dims"):
        traits.add(Trait.DROPS_AXIS)
    if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" and _is_wide(inputs[_CELL] if len(inputs) > _CELL else None):
        traits.add(Trait.WIDE_CELL)
    if operator.kind == "MIRROR_PAD" and parameter is not None and any(bytes(parameter.data)[-8:]):
        traits.add(Trait.MIRRORS_CHANNELS)  # the last pair of int32 is that of the channels
    return traits


def _is_wide(cell: Tensor | None) -> bool:
    """Whether the cell of an LSTM holds numbers beyond those that LiteRT's tanh knows."""
    return cell is not None and cell.quantization is not None and max(cell.quantization.scale) > WIDEST_CELL


def _axes(inputs: list[Tensor | None]) -> set[int]:
    """The axes that are reduced, counted in a tensor of rank 4; none where they are not constant."""
    values, axes = (*inputs, None, None)[:2]
    if values is None or axes is None or axes.dtype != "int32":
        return set()
    rank = len(values.shape)
    content = bytes(axes.data[: len(axes.data) // 4 * 4])
    return {number % rank + 4 - rank for (number,) in iter_unpack("<i", content)} if rank else set()


class LostOutput(NpuRule):
    """An output of the model that nothing in the compiled file writes.

    ## Why it matters
    The report says that all operators run on the NPU, and the compiler says nothing. On the device the output holds
    whatever was in its memory before.

    ## How it is found
    By the compiled file: one of its outputs is made by none of its operators, and was made by one in the model.

    ## What to do
    Let an operator of its own make the output. The remedy computes it twice: once for the output, and once for those
    operators that read it. Then let `mlia verify` compare.

    ## Limits
    Outputs are told apart by their order, which a TOSA file does not keep. An operator with several outputs has no
    remedy.

    ## Source
    Seen with Vela 5.2: a TRANSPOSE that is an output and that a BATCH_MATMUL reads is computed, in another layout, for
    the matrix product only.
    """

    code = "VER002"
    name = "lost-output"
    severity = Severity.WARNING
    reads = Compatibility

    def check(self, case: Case) -> Iterator[Finding]:
        main, lost = case.graph.main, case.compatibility.lost_outputs
        if not lost:
            return
        wanted = {main.outputs[position] for position in lost}
        makers = [operator for operator in main.operators if wanted & {*operator.outputs}]
        names = named([main.tensors[index].name for index in sorted(wanted)])
        yield Finding(
            tuple(OperatorId(main.index, operator.index) for operator in makers),
            f"nothing in the compiled model writes the output {names}",
            "Compute it once more, for the output alone.",
            (Fix("output computed twice", Safety.LOSSLESS, later("outputs.computed_twice", lost)),),
            aim=Aim.OUTPUTS,
        )


RULES: tuple[type[Rule], ...] = (ComputedWrongly, LostOutput)

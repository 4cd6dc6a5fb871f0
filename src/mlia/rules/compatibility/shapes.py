"""Rules about sizes that are not known, batches, and parameters that must be constant."""

from collections.abc import Iterator

from mlia.graph.graph import Tensor
from mlia.results import OperatorId
from mlia.rules.compatibility.refusals import (
    finding,
    follows_from_constants,
    kinds,
    lossless,
    makers_from_constants,
    places,
    to_validate,
)
from mlia.rules.phrases import named
from mlia.rules.rule import Case, ConstraintRule, Finding, Refused, Rule, later

_SIZES = ("SHAPE", "RANK")  # always on the CPU


def _open_tensors(case: Case) -> list[Tensor]:
    """Inputs of the model that have open sizes, the batch included."""
    main = case.graph.main
    return [main.tensors[index] for index in main.inputs if main.tensors[index].is_dynamic]


class OpenShape(ConstraintRule):
    """Sizes of tensors are only known when the model runs.

    ## Why it matters
    The NPU's program has every size and address in it. What depends on a size that is open runs on the Cortex-M,
    and so do the operators that compute sizes (SHAPE and those behind it).

    ## How it is found
    The compiler finds open sizes beyond the batch, or tensors without a shape, or there is a SHAPE operator.

    ## What to do
    Fix the input's sizes: `--input-shape` does it for this check; export the model with a fixed shape. Where the batch
    alone is open, 1 is tried, with all sizes that follow from it as constants.

    ## Limits
    With several open sizes only you know which you need.

    ## Source
    Vela 5.2's published constraints for all three families.
    """

    code = "CMP006"
    name = "open-shape"
    sentences = ("Only the first dimension of tensors can be dynamic", "Tensors must have constant shape")

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        sizes = size_operators(case)
        refused += [each for each in case.refused if each.id in sizes or _reads_sizes(case, each, sizes)]
        if not refused or case.graph.computes_in_float:
            return
        beyond = [tensor for tensor in _open_tensors(case) if -1 in tensor.shape_signature[1:]]
        if beyond:
            told = ", ".join(
                f"'{tensor.name}' is {'x'.join('?' if size == -1 else str(size) for size in tensor.shape_signature)}"
                for tensor in beyond[:2]
            )
            remedy = "Fix the input's sizes with --input-shape, or export the model with a fixed shape."
            reason = "only you know the sizes: --input-shape tries them"
            yield finding(case, refused, f"{told}: {kinds(refused)} on the CPU", remedy, why_not_tried=reason)
            return
        evidence = f"sizes are computed because the batch is open: {kinds(refused)} ({places(refused)}) on the CPU"
        if not _open_tensors(case):
            evidence = f"sizes that are known are computed: {kinds(refused)} ({places(refused)}) on the CPU"
        remedy = "Export the model with a fixed batch of 1, so that sizes are constants."
        fixes = (
            to_validate("batch fixed to 1", later("sizes.with_sizes_known")),
            lossless("known sizes as constants", later("sizes.with_constants_folded")),
        )
        yield finding(case, refused, evidence, remedy, fixes[0] if _open_tensors(case) else fixes[1])


def size_operators(case: Case) -> set[OperatorId]:
    """SHAPE, RANK, and what computes with the 32-bit sizes that come from them."""
    found = set()
    for subgraph in case.graph.subgraphs:
        sizes: set[int] = set()
        for operator in subgraph.operators:
            is_first = operator.kind in _SIZES
            if is_first or (sizes & {*operator.inputs} and all(map(_is_size, map(subgraph.tensor, operator.outputs)))):
                sizes |= {*operator.outputs}
                found.add(OperatorId(subgraph.index, operator.index))
    return found


def _reads_sizes(case: Case, refused: Refused, sizes: set[OperatorId]) -> bool:
    """Whether a parameter of it is a size that is computed."""
    if not sizes or not ComputedParameters.is_about(refused.constraint):
        return False
    made = {index for each in sizes if each.subgraph == refused.subgraph.index for index in case.operator(each).outputs}
    return bool(made & {*refused.operator.inputs[1:]})


def _is_size(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype in ("int32", "int64") and len(tensor.shape) <= 1


class BatchAboveOne(ConstraintRule):
    """The model computes several samples at a time.

    ## Why it matters
    An NPU in a microcontroller gets one sample after the other. A batch multiplies time and memory, and MEAN, among
    others, runs on the Cortex-M.

    ## How it is found
    All inputs of the model have the same first size above 1, or the compiler refuses a MEAN for its batch.

    ## What to do
    Export the model with a batch of 1. It is tried, with all sizes inside that follow from it.

    ## Limits
    A first size that is no batch (time steps, say) stays: then LiteRT refuses the change.

    ## Source
    Vela 5.2's published constraints of MEAN for all three families.
    """

    code = "CMP007"
    name = "batch-above-one"
    sentences = ("Batch must be 1",)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if not refused or case.graph.computes_in_float:
            return
        main = case.graph.main
        batches = {tensor.shape[0] for tensor in (main.tensors[index] for index in main.inputs) if tensor.shape}
        sizes = {tensor.shape[0] for each in refused if (tensor := each.tensor(0)) is not None and tensor.shape}
        evidence = f"{kinds(refused)} over a batch of {max(sizes, default=0)} ({places(refused)}); the NPU takes 1"
        if len(batches) == 1 and max(batches) > 1:
            fix = to_validate("a batch of 1", later("sizes.batch_of_one"))
            yield finding(case, refused, evidence, "Export the model with a batch of 1.", fix)
        else:
            remedy = "Move the first axis behind the others with a RESHAPE, or reduce each part by itself."
            yield finding(case, refused, evidence, remedy, why_not_tried="the first size is no batch of the input")


class ComputedParameters(ConstraintRule):
    """Axes, paddings, permutations, begins or sizes are computed at run time.

    ## Why it matters
    They become part of the NPU's program, so that they must be known when it is made.

    ## How it is found
    The compiler finds a parameter tensor that is no constant.

    ## What to do
    Make it a constant. What follows from constants or from known sizes is computed beforehand and tried.

    ## Limits
    What depends on the input's values cannot be known.

    ## Source
    Vela 5.2's published constraints for all three families (MEAN, PAD, SLICE, STRIDED_SLICE, TRANSPOSE and others).
    """

    code = "CMP008"
    name = "computed-parameters"
    sentences = ("Parameter tensors must be constant",)

    def check(self, case: Case) -> Iterator[Finding]:
        sizes = size_operators(case)
        refused = [each for each in self.refusals(case) if not _reads_sizes(case, each, sizes)]
        if refused:
            computed = [
                tensor.name
                for each in refused
                for tensor in map(each.subgraph.tensor, each.operator.inputs[1:])
                if tensor is not None and not tensor.is_constant
            ]
            evidence = (
                f"{kinds(refused)} in {places(refused)}: {named(list(dict.fromkeys(computed)))} computed at run time"
            )
            remedy = "Make these parameters constants."
            refused = [*makers_from_constants(case, refused), *refused]
            if not follows_from_constants(refused):
                reason = "they depend on what the model reads"
                yield finding(case, refused, evidence, remedy, why_not_tried=reason)
            elif _open_tensors(case):
                yield finding(
                    case, refused, evidence, remedy, to_validate("batch fixed to 1", later("sizes.with_sizes_known"))
                )
            else:
                yield finding(
                    case,
                    refused,
                    evidence,
                    remedy,
                    lossless("constants computed before", later("sizes.with_constants_folded")),
                )


class ParameterType(ConstraintRule):
    """Paddings are stored in a type other than int32 and int64.

    ## Why it matters
    The compiler does not read them, and the operator runs on the Cortex-M.

    ## How it is found
    The compiler refuses the type of the parameter tensor.

    ## What to do
    Store them as int32; the numbers are the same.

    ## Limits
    Only paddings that are constants can be stored in another type.

    ## Source
    Vela 5.2's published constraints of PAD, PADV2 and MIRROR_PAD.
    """

    code = "CMP009"
    name = "parameter-type"
    sentences = ("Params tensor must be Int32 or Int64",)

    def check(self, case: Case) -> Iterator[Finding]:
        refused = self.refusals(case)
        if refused:
            wrong = {tensor.dtype for each in refused if (tensor := each.tensor(1)) is not None}
            evidence = f"paddings of {' and '.join(sorted(wrong))} in {places(refused)}; int32 and int64 are taken"
            fix = to_validate("paddings as int32", later("parameters.parameters_as_int32"))  # LiteRT runs no others
            yield finding(case, refused, evidence, "Store the paddings as int32.", fix)


RULES: tuple[type[Rule], ...] = (OpenShape, BatchAboveOne, ComputedParameters, ParameterType)

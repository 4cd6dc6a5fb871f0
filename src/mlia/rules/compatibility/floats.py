"""Rules about operators that compute in float32."""

from collections.abc import Iterator

from mlia.graph.graph import Graph, Operator, Subgraph
from mlia.results import OperatorId
from mlia.rules.compatibility.control import CONTROL
from mlia.rules.compatibility.refusals import FLOAT, RefusalRule, finding, kinds, lossless, places, to_validate
from mlia.rules.rule import Case, Finding, Refused, Rule, later
from mlia.transforms.remedies.forms import INTEGER_FORMS

_CONVERTING = ("QUANTIZE", "DEQUANTIZE")
# Whatever they compute with, they are no operators of the NPU.
_OTHERS = (*CONTROL, "CUSTOM", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


def quantized_to_int8(graph: Graph) -> Graph:
    """The float model as int8, calibrated on noise."""
    from mlia.transforms.prepare import QuantizeOptions, quantized

    return quantized(graph, QuantizeOptions())[0]


def in_float(case: Case) -> list[Refused]:
    """The refused operators that read or write float32, each once."""
    found: dict[OperatorId, Refused] = {}
    for refused in case.refused:
        if any(tensor_type(refused.subgraph, index) == FLOAT for index in _ends(refused.operator)):
            found.setdefault(refused.id, refused)
    return list(found.values())


def tensor_type(subgraph: Subgraph, index: int) -> str:
    """The type of a tensor; empty for one left out."""
    tensor = subgraph.tensor(index)
    return tensor.dtype if tensor is not None else ""


def _ends(operator: Operator) -> tuple[int, ...]:
    """The computed tensors: weights may be anything."""
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return (*operator.inputs[:1], *operator.outputs)
    return (*operator.inputs, *operator.outputs)


def at_edge(refused: Refused) -> bool:
    """Whether it only converts an input of the model from float, or an output to float."""
    operator, subgraph = refused.operator, refused.subgraph
    if operator.kind == "QUANTIZE":
        return bool({*operator.inputs} & {*subgraph.inputs})
    return operator.kind == "DEQUANTIZE" and bool({*operator.outputs} & {*subgraph.outputs})


def _only_negates(refused: Refused) -> bool:
    """Whether it is NEG between codes of one scale: MUL by -1 gives the same codes then, without rounding."""
    operator, subgraph = refused.operator, refused.subgraph
    if operator.kind != "NEG":
        return False
    ends = [
        each.inputs[0] if each.kind == "DEQUANTIZE" else each.outputs[0]
        for each in subgraph.operators
        if (each.kind == "DEQUANTIZE" and set(each.outputs) & set(operator.inputs))
        or (each.kind == "QUANTIZE" and set(each.inputs) & set(operator.outputs))
    ]
    tensors = [subgraph.tensor(index) for index in ends]
    scales = {tensor.quantization.scale if tensor and tensor.quantization else None for tensor in tensors}
    return len(ends) > 1 and len(scales) == 1 and None not in scales


class FloatModel(RefusalRule):
    """The whole model computes in float32, so that nothing of it runs on the NPU.

    ## Why it matters
    An Ethos-U has integer arithmetic only. Each float operator runs on the Cortex-M, often a hundred times slower.

    ## How it is found
    Operators compute in float32, and no tensor that is computed has a scale.

    ## What to do
    Quantize the model to int8 with samples of your real inputs: leave out `--no-quantize` and give `--calibration`.

    ## Limits
    What was tried is calibrated on noise: its time is right, its accuracy is not.

    ## Source
    Vela 5.2's published constraints: feature maps are integers of 8, 16, 32 or 64 bits (and bool on Ethos-U85).
    """

    code = "CMP001"
    name = "float-model"

    def check(self, case: Case) -> Iterator[Finding]:
        refused = in_float(case) if case.graph.computes_in_float else []
        if refused:
            count = len(refused)
            evidence = f"float32: {'the operator runs' if count == 1 else f'all {count} operators run'} on the CPU"
            remedy = "Quantize the model to int8, calibrated with samples of your inputs (--calibration)."
            yield finding(case, refused, evidence, remedy, to_validate("int8, calibrated on noise", quantized_to_int8))


class FloatIsland(RefusalRule):
    """Some operators of an integer model compute in float32, between DEQUANTIZE and QUANTIZE.

    ## Why it matters
    The NPU stops, and the Cortex-M converts to float, computes, and converts back: three passes over the tensor.

    ## How it is found
    An operator that runs on the CPU reads or writes float32 in a model whose other tensors have scales. QUANTIZE and
    DEQUANTIZE at the model's inputs and outputs are a rule of their own.

    ## What to do
    Quantize these operators too. Where the NPU has an integer form, it is tried: scales are those of the QUANTIZE
    behind, or of the bounds of what can be computed. NEG is a MUL by -1: with one scale before and behind, no bit
    changes.

    ## Limits
    Scales from bounds are coarser than calibrated ones. Convolutions in float, and operators without an integer form,
    are not tried.

    ## Source
    Vela 5.2's published constraints (types of feature maps); LiteRT's integer kernels.
    """

    code = "CMP002"
    name = "float-island"

    def check(self, case: Case) -> Iterator[Finding]:
        if case.graph.computes_in_float:
            return
        inside = [
            refused for refused in in_float(case) if not at_edge(refused) and refused.operator.kind not in _OTHERS
        ]
        computing = [refused for refused in inside if refused.operator.kind not in _CONVERTING]
        if not inside:
            return
        told = computing or inside
        converting = len(inside) - len(computing)
        evidence = f"{kinds(told)} in float32 ({places(told)})"
        if computing and converting:
            evidence += f", with {converting} conversion{'s' if converting > 1 else ''} around"
        remedy = "Quantize these operators as well, or leave them out of the model."
        if any(refused.operator.kind in INTEGER_FORMS for refused in computing):
            promised = lossless if all(_only_negates(refused) for refused in computing) else to_validate
            fix = promised("float operators in integers", later("islands.islands_in_integers"))
            yield finding(case, inside, evidence, remedy, fix)
        else:
            reason = "none of them has an integer form whose scale is known"
            yield finding(case, inside, evidence, remedy, why_not_tried=reason)


class FloatEdges(RefusalRule):
    """Inputs or outputs of an integer model are float32, so that QUANTIZE and DEQUANTIZE run on the CPU.

    ## Why it matters
    Cameras and microphones give integers; converting them to float and back costs time and four times the memory.

    ## How it is found
    A QUANTIZE reads an input of the model, or a DEQUANTIZE writes an output.

    ## What to do
    Convert with integer inputs and outputs (`inference_input_type = tf.int8`), and let the program apply scale and
    zero point, which are stored in the model.

    ## Limits
    Whoever calls the model must change: it gives and takes integers then.

    ## Source
    Vela 5.2: QUANTIZE takes no float32, and there is no DEQUANTIZE.
    """

    code = "CMP003"
    name = "float-edges"

    def check(self, case: Case) -> Iterator[Finding]:
        if case.graph.computes_in_float:
            return
        edges = [refused for refused in in_float(case) if at_edge(refused)]
        if edges:
            inputs = [refused for refused in edges if refused.operator.kind == "QUANTIZE"]
            sides = [("inputs", len(inputs)), ("outputs", len(edges) - len(inputs))]
            counts = " and ".join(f"{count} {side[:-1] if count == 1 else side}" for side, count in sides if count)
            evidence = f"{counts} in float32: {kinds(edges)} on the CPU ({places(edges)})"
            remedy = "Convert with int8 inputs and outputs, and scale in the program where needed."
            yield finding(
                case, edges, evidence, remedy, to_validate("integer inputs and outputs", later("edges.integer_ends"))
            )


RULES: tuple[type[Rule], ...] = (FloatModel, FloatIsland, FloatEdges)

"""Float -> int8 or 16x8, as a model would be deployed, and how close the result is to the original."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from mlia.errors import CrashError, NotQuantizedError
from mlia.fidelity import Fidelity
from mlia.graph.graph import ACTING, Graph, Signature
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.transforms.calibration import Calibration
from mlia.transforms.child import call
from mlia.transforms.float_weights import with_float_weights
from mlia.transforms.loops import ready_to_quantize
from mlia.transforms.quantizers import Request, quantize_content
from mlia.transforms.signatures import main_alone

SIGNATURE = "serving_default"
_CONVERTING = ("QUANTIZE", "DEQUANTIZE")


class Quantized(Struct, frozen=True):
    """The integer model, which quantizer made it, and how close it is to the float model.

    `kept_in_float` are the operators that still compute in float, counted by kind; empty when there is none.
    `nominal` is how many activations got a nominal range.
    """

    graph: Graph
    quantizer: str
    fidelity: Fidelity
    changes: tuple[str, ...]
    kept_in_float: str = ""
    nominal: int = 0


def quantize(
    graph: Graph,
    calibration: Calibration,
    *,
    activations: str = "int8",
    per_tensor_fc: bool = False,
    is_nominal_enough: bool = False,
) -> Quantized:
    """Quantize a float model: weights int8 per channel, activations, inputs and outputs `activations`.

    Args:
        graph: a model whose `computes_in_float` is true.
        calibration: samples for the model's inputs.
        activations: "int8" or "int16".
        per_tensor_fc: one scale for all weights of a fully connected operator: smaller and faster on an
            NPU that decodes weights, less precise.
        is_nominal_enough: the result is looked at and never deployed, so that activations of a network that was never
            trained, which are all but zero, may have nominal ranges.

    Raises:
        NotQuantizedError: no quantizer takes the model, or none gives a result that is close to it.
        TransformError: LiteRT cannot compute what a loop does with constants.
    """
    if not graph.main.outputs:
        raise NotQuantizedError("the model has no outputs, by which a quantized one is judged")
    floating, widened = with_float_weights(graph)
    floating, left_out = main_alone(floating)
    changes = (*left_out, *((f"{widened} narrow constants widened to float32 first",) if widened else ()))
    floating, unrolled = ready_to_quantize(floating)
    floating = _with_signature(floating)
    signature = floating.signatures[0]
    request = Request(activations, per_tensor_fc, SIGNATURE, tuple(signature.inputs), is_nominal_enough)
    try:
        answer = call(quantize_content, write_tflite(floating), calibration, request)
    except CrashError as error:
        raise NotQuantizedError(_why_crashed(floating, error)) from None
    if answer.fidelity is None:
        raise NotQuantizedError(_why_refused(floating, answer.failures))
    made = replace(read_tflite(answer.content), provenance=graph.provenance)
    # Written anew: the quantizers leave the space of the float weights in the file.
    tidy = replace(read_tflite(write_tflite(made)), provenance=graph.provenance)
    return Quantized(
        graph=tidy,
        quantizer=answer.quantizer,
        fidelity=answer.fidelity,
        changes=(*changes, *unrolled, *_added_operators(floating, tidy)),
        kept_in_float=_kept_in_float(tidy),
        nominal=answer.nominal,
    )


def _why_crashed(graph: Graph, error: CrashError) -> str:
    """What a quantizer that died did not take: operators that call others or keep state, as far as can be told."""
    kinds = dict.fromkeys(operator.kind for operator in graph.operators if operator.kind in ACTING)
    if kinds:
        return f"LiteRT's quantizer does not take {', '.join(kinds)}"
    return f"the quantizer {str(error).removeprefix('LiteRT ')}"


def _why_refused(graph: Graph, failures: Sequence[str]) -> str:
    """What the quantizers said; in one sentence where they all lack an operator, of which LiteRT says much."""
    said = "; ".join(failures)
    codes = dict.fromkeys(
        operator.custom_code
        for subgraph in graph.called_subgraphs()
        for operator in subgraph.operators
        if operator.custom_code
    )
    if "Select TensorFlow op(s)" in said:
        flex = ", ".join(code for code in codes if code.startswith("Flex"))
        return f"quantizers run the model, and LiteRT does not come with TensorFlow's own operators: {flex}"
    if lacking := [code for code in codes if f"unresolved custom op: {code}" in said]:
        return f"quantizers run the model, and LiteRT has no custom operator {', '.join(lacking)}"
    return said


def _kept_in_float(graph: Graph) -> str:
    """The operators that compute in float, as "1 CUMSUM, 2 ERF"."""
    float_kinds = Counter(
        operator.custom_code or operator.kind
        for subgraph in graph.called_subgraphs()
        for operator in subgraph.operators
        if operator.kind not in _CONVERTING
        and any(subgraph.tensors[index].dtype == "float32" for index in operator.outputs)
    )
    return ", ".join(f"{count} {kind}" for kind, count in sorted(float_kinds.items()))


def _with_signature(graph: Graph) -> Graph:
    """With the one signature that quantizers expect, under the tensors' own names."""
    main = graph.main
    inputs, outputs = (
        {main.tensors[index].name or f"{side}_{position}": index for position, index in enumerate(indexes)}
        for side, indexes in (("input", main.inputs), ("output", main.outputs))
    )
    return replace(graph, signatures=(Signature(SIGNATURE, 0, inputs, outputs),))


def _added_operators(before: Graph, after: Graph) -> tuple[str, ...]:
    """How many operators of each kind the quantizer added, as "2 QUANTIZE"."""
    old, new = ([operator.kind for operator in graph.operators] for graph in (before, after))
    kinds = sorted(set(new))
    return tuple(f"{new.count(kind) - old.count(kind)} {kind}" for kind in kinds if new.count(kind) > old.count(kind))

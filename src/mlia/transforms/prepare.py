"""From the user's model to the one that is analyzed: quantized if it must be, and told how."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.report import Conversion
from mlia.transforms.calibration import load_calibration, synthetic_calibration
from mlia.transforms.quantize import quantize

NOMINAL = (
    "; {} activations are all but zero, as in a network that was never trained, and have nominal ranges: placement,"
    " cycles and memory do not depend on them, what the model computes does"
)


class QuantizeOptions(Struct, frozen=True):
    """How to quantize: real `calibration` data or, with None, synthetic; "int8" or "int16" activations.

    `is_nominal_enough` as for quantize(): the result is not for deployment.
    """

    calibration: Any = None  # a SampleSource; an array is not frozen, and msgspec looks at types
    activations: str = "int8"
    per_tensor_fc: bool = False
    is_nominal_enough: bool = False


def quantized(
    graph: Graph, options: QuantizeOptions, progress: Callable[[str], None] = lambda text: None
) -> tuple[Graph, Conversion]:
    """The float graph as it would be deployed, and the record of how that was done.

    Raises:
        NotQuantizedError: no quantizer takes the model.
        TransformError: the model is quantized already, or the data do not fit.
    """
    if not graph.computes_in_float:
        raise TransformError("the model is quantized already; there is nothing to convert")
    given = options.calibration
    calibration = synthetic_calibration(graph) if given is None else load_calibration(given, graph)
    progress(f"quantizing to {options.activations}")
    result = quantize(
        graph,
        calibration,
        activations=options.activations,
        per_tensor_fc=options.per_tensor_fc,
        is_nominal_enough=options.is_nominal_enough,
    )
    dense = ", fully connected per tensor" if options.per_tensor_fc else ""
    weights = f"weights int8 per channel{dense}"
    conversion = as_read(graph)
    return result.graph, Conversion(
        source_format=conversion.source_format,
        route=conversion.route,
        added=(*conversion.added, *result.changes),
        quantized=f"activations, inputs and outputs {options.activations}, {weights}",
        quantizer=result.quantizer,
        calibration=calibration.description + (NOMINAL.format(result.nominal) if result.nominal else ""),
        fidelity=None if result.nominal else result.fidelity,
        kept_in_float=result.kept_in_float,
    )


def as_read(graph: Graph, kept_in_float: str = "") -> Conversion:
    """The record of a model that was not quantized, and why not where that was tried."""
    origin = graph.provenance
    return Conversion(origin.format, origin.route, origin.added, kept_in_float=kept_in_float)

"""convert(): a float model in, an integer one out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import mlia
from mlia.graph.graph import InputShapes
from mlia.graph.load import ModelSource, name_of
from mlia.pipeline.load import load, notes_on, summarize_model
from mlia.pipeline.made import Made
from mlia.report import SCHEMA_VERSION, ConvertReport

if TYPE_CHECKING:
    from mlia.transforms.calibration import SampleSource


class ConvertedModel(Made, frozen=True):
    """A converted model and the report of it."""

    report: ConvertReport


def convert(
    model: ModelSource,
    *,
    quantize: bool = True,
    activations: str = "int8",
    calibration: "SampleSource | None" = None,
    per_tensor_fc: bool = False,
    input_shapes: InputShapes | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> ConvertedModel:
    """Convert a float model to TFLite, quantized unless `quantize` is False.

    Args:
        model: path of a model in any format that mlia reads, or a Graph that was read before.
        quantize: make an integer model, with int8 weights per channel.
        activations: "int8" or "int16", for inputs and outputs too.
        calibration: .npz, .npy, or folder of .npy with samples; without it, seeded noise is used.
        per_tensor_fc: one scale for all weights of a fully connected operator.
        input_shapes: sizes of inputs by name, where the model leaves them open; "" for the only input.
        progress: is told what is being done, in a few words.

    Raises:
        ModelError: the model cannot be read.
        TransformError: it is quantized already, or cannot be, or the data do not fit.
    """
    from mlia.transforms.prepare import QuantizeOptions, as_read, quantized

    progress(f"reading {name_of(model)}")
    graph = load(model, input_shapes or {})
    notes = notes_on(graph)
    if quantize:
        graph, conversion = quantized(graph, QuantizeOptions(calibration, activations, per_tensor_fc), progress)
    else:
        conversion = as_read(graph)
    converted = summarize_model(name_of(model), graph, None)
    return ConvertedModel(graph, ConvertReport(SCHEMA_VERSION, mlia.__version__, converted, conversion, notes))

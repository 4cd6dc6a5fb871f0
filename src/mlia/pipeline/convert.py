"""convert(): a float model in, an integer one out."""

from typing import TYPE_CHECKING

import mlia
from mlia.graph.load import ModelSource, name_of
from mlia.pipeline.load import load, notes_on, summarize_model
from mlia.pipeline.made import MadeModel
from mlia.pipeline.options import DEFAULT, Options
from mlia.report import SCHEMA_VERSION, ConvertReport

if TYPE_CHECKING:
    from mlia.transforms.calibration import SampleSource


class ConvertedModel(MadeModel, frozen=True):
    """A converted model and the report of it."""

    report: ConvertReport


def convert(
    model: ModelSource,
    *,
    quantize: bool = True,
    activations: str = "int8",
    calibration: "SampleSource | None" = None,
    per_tensor_fc: bool = False,
    options: Options = DEFAULT,
) -> ConvertedModel:
    """Convert a float model to TFLite, quantized unless `quantize` is False.

    Args:
        model: path of a model in any format that mlia reads, the bytes of a .tflite, a Keras model, or a Graph.
        quantize: make an integer model, with int8 weights per channel.
        activations: "int8" or "int16", for inputs and outputs too.
        calibration: samples, as check() takes them; without it, seeded noise is used.
        per_tensor_fc: one scale for all weights of a fully connected operator.
        options: sizes of open inputs, the estimator, the limit of time, and who is told of progress.

    Raises:
        ModelError: the model cannot be read.
        TransformError: it is quantized already, or cannot be, or the data do not fit.
    """
    options.refuse("convert", "estimator", "timeout_s")
    progress = options.progress
    from mlia.transforms.prepare import QuantizeOptions, as_read, quantized

    progress(f"reading {name_of(model)}")
    graph = load(model, options.input_shapes)
    notes = notes_on(graph)
    if quantize:
        graph, conversion = quantized(graph, QuantizeOptions(calibration, activations, per_tensor_fc), progress)
    else:
        conversion = as_read(graph)
    converted = summarize_model(name_of(model), graph, None)
    return ConvertedModel(graph, ConvertReport(SCHEMA_VERSION, mlia.__version__, converted, conversion, notes))

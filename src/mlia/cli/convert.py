"""`mlia convert`: a float model in, an integer TFLite file out, and how close the two are."""

import argparse

from mlia.cli.options import add_model_options
from mlia.cli.streams import progress_line, refuse_overwriting, terminal_width, write_output

EPILOG = """examples:
  mlia convert model.keras -o model_int8.tflite
  mlia convert saved_model/ -o model_int8.tflite --calibration samples.npz --verbose
  mlia convert model.h5 -o model_16x8.tflite --quantize int16

Without --calibration, seeded noise calibrates: right for speed and memory, not for accuracy.
exit codes: 0 fine; 2 could not run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    add_model_options(parser)
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the TFLite file to write")
    parser.add_argument("--quantize", choices=("int8", "int16"), help="activations; weights are int8 (default: int8)")
    parser.add_argument(
        "--per-tensor-fc", action="store_true", help="one scale for all weights of a fully connected operator"
    )
    parser.add_argument("--verbose", action="store_true", help="closeness of every tensor, the worst first")


def run(arguments: argparse.Namespace) -> int:
    """Convert, write, report; returns the exit code."""
    refuse_overwriting(arguments.model, arguments.output)
    if arguments.no_quantize and (arguments.calibration or arguments.quantize or arguments.per_tensor_fc):
        arguments.parser.error(
            "--calibration, --quantize and --per-tensor-fc go with quantizing; leave out --no-quantize"
        )
    from mlia.transforms import child

    if not arguments.no_quantize:
        child.warm_up()
    try:
        return _convert(arguments)
    finally:
        child.abandon()


def _convert(arguments: argparse.Namespace) -> int:
    from mlia.pipeline.convert import convert
    from mlia.pipeline.options import Options
    from mlia.render.convert import render_conversion

    with progress_line() as progress:
        converted = convert(
            arguments.model,
            quantize=not arguments.no_quantize,
            activations=arguments.quantize or "int8",
            calibration=arguments.calibration,
            per_tensor_fc=arguments.per_tensor_fc,
            options=Options(input_shapes=dict(arguments.input_shapes), progress=progress),
        )
    converted.save(arguments.output)
    size_bytes = len(converted.graph.content)
    width = max(terminal_width(), 80)
    text = render_conversion(converted.report.conversion, arguments.output, size_bytes, width, arguments.verbose)
    write_output(text, None)
    return 0

"""`mlia trace`: the NPU's command stream as text."""

import argparse

from mlia.cli.options import add_npu_option
from mlia.cli.streams import progress_line, refuse_overwriting, terminal_width, write_output
from mlia.errors import SimulatorError

EPILOG = """examples:
  mlia trace model.tflite -t ethos-u55-256 | less
  mlia trace model_vela.tflite --summary
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    add_npu_option(parser)
    parser.add_argument("--summary", action="store_true", help="only what each operation computes and moves")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the text to a file")


def run(arguments: argparse.Namespace) -> int:
    """Print the stream; returns the exit code."""
    refuse_overwriting(arguments.model, arguments.output)
    from mlia.backends.simulator.session import streams_of
    from mlia.pipeline.options import Options
    from mlia.pipeline.verify.verify import operators_of, prepare
    from mlia.render.verify.trace import render_listing, render_summary

    with progress_line() as progress:
        prepared = prepare(
            arguments.model,
            arguments.target,
            must_fit=True,
            options=Options(input_shapes=dict(arguments.input_shapes), timeout_s=arguments.timeout, progress=progress),
        )
    streams, operators = tuple(streams_of(prepared.compiled).values()), operators_of(prepared)
    if not streams:
        raise SimulatorError("nothing of the model runs on the NPU, so there is no command stream")
    if arguments.summary:
        text = render_summary(streams, operators, max(terminal_width(), 80))
    else:
        text = render_listing(streams, operators)
    write_output(text, arguments.output)
    return 0

"""`mlia trace`: the NPU's command stream as text."""

import argparse

from mlia.cli.main import add_npu_option, progress_line, refuse_overwriting, write_output

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
    from mlia.pipeline.executing import trace

    with progress_line() as progress:
        text = trace(
            arguments.model,
            arguments.target,
            summary=arguments.summary,
            input_shapes=dict(arguments.input_shapes),
            timeout_s=arguments.timeout,
            progress=progress,
        )
    write_output(text, arguments.output)
    return 0

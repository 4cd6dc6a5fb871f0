"""`mlia run`: what the NPU will compute for given inputs."""

import argparse

from mlia.cli.main import add_npu_option, progress_line, refuse_overwriting

EPILOG = """examples:
  mlia run model.tflite -t ethos-u55-256 --inputs samples.npz -o outputs.npz
  mlia run model_vela.tflite --inputs samples.npz -o outputs.npz

Outputs are in the codes that the model stores, an array (samples, *shape) for each, by its name.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    add_npu_option(parser)
    parser.add_argument("--inputs", metavar="DATA", required=True, help="samples to run: .npz, or a folder of .npy")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the .npz to write")


def run(arguments: argparse.Namespace) -> int:
    """Simulate and write; returns the exit code."""
    from mlia.output import check_writable, write_file

    for given in (arguments.model, arguments.inputs):
        refuse_overwriting(given, arguments.output)
    check_writable(arguments.output)
    from io import BytesIO

    from mlia.pipeline.executing import simulate

    with progress_line() as progress:
        outputs = simulate(
            arguments.model,
            arguments.target,
            arguments.inputs,
            input_shapes=dict(arguments.input_shapes),
            timeout_s=arguments.timeout,
            progress=progress,
        )
    import numpy

    content = BytesIO()
    numpy.savez(content, **outputs)
    write_file(arguments.output, content.getvalue())
    return 0

"""`mlia run`: what the NPU will compute for given inputs."""

import argparse
from collections.abc import Mapping
from typing import Any

from mlia.cli.options import add_npu_option
from mlia.cli.streams import progress_line, refuse_overwriting

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
    parser.add_argument(
        "--inputs", metavar="DATA", required=True, help="samples to run: .npz, .npy, or a folder of .npy"
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the .npz to write")


def run(arguments: argparse.Namespace) -> int:
    """Simulate and write; returns the exit code."""
    from mlia.output import check_writable, write_file

    refuse_overwriting(arguments.model, arguments.output)
    refuse_overwriting(arguments.inputs, arguments.output, "the inputs")
    check_writable(arguments.output)
    from mlia.pipeline.options import Options
    from mlia.pipeline.verify.verify import run as compute

    with progress_line() as progress:
        outputs = compute(
            arguments.model,
            arguments.target,
            arguments.inputs,
            options=Options(input_shapes=dict(arguments.input_shapes), timeout_s=arguments.timeout, progress=progress),
        )
    write_file(arguments.output, npz(outputs))
    return 0


def npz(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as numpy.load() reads them, under any names; numpy.savez() takes some names as its own arguments.

    The same arrays make the same bytes: there is no time in them.
    """
    from io import BytesIO
    from zipfile import ZipFile, ZipInfo

    from numpy.lib.format import write_array

    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = ZipInfo(f"{name}.npy")  # dated 1980, as none is given
            with archive.open(member, "w", force_zip64=True) as file:
                write_array(file, array, allow_pickle=False)
    return content.getvalue()

"""`mlia verify`: whether the NPU will compute what the model says."""

import argparse
import sys

from mlia.cli.options import add_form_options, add_npu_option
from mlia.cli.streams import can_color, progress_line, refuse_overwriting, terminal_width, write_output
from mlia.render.forms import FORMS, in_form

EPILOG = """examples:
  mlia verify model.tflite -t ethos-u55-256
  mlia verify model.tflite -t ethos-u85-512 --inputs samples.npz
  mlia verify model_vela.tflite

The NPU's command stream runs in mlia's own simulator, operators of the host in LiteRT; every tensor that can be seen is
compared with LiteRT's reference kernels. Without --inputs: seeded noise over all codes, and the edges of the range.
exit codes: 0 the same, or different for a reason that is known; 1 an unexplained difference, or a dangerous stream;
2 could not run
"""
MOST_SAMPLES = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    add_npu_option(parser)
    parser.add_argument("--inputs", metavar="DATA", help="samples to run: .npz, .npy, or a folder of .npy")
    parser.add_argument("--samples", type=_samples, metavar="N", help="how many random samples (default: 3)")
    parser.add_argument("--seed", type=_seed, metavar="S", help="of the random samples (default: 0)")
    parser.add_argument("--all-operators", action="store_true", help="every operator, not only those that differ")
    add_form_options(parser, FORMS["verify"], "-o", "--output")


def run(arguments: argparse.Namespace) -> int:
    """Verify, render, write; returns the exit code."""
    refuse_overwriting(arguments.model, arguments.output)
    if arguments.inputs and (arguments.samples is not None or arguments.seed is not None):
        arguments.parser.error("--samples and --seed are for noise; leave them out with --inputs")
    if arguments.all_operators and arguments.format == "json":
        arguments.parser.error("--all-operators is for the terminal; JSON has all operators always")
    from mlia.pipeline.options import Options
    from mlia.pipeline.verify.verify import SAMPLES, verify

    with progress_line() as progress:
        found = verify(
            arguments.model,
            arguments.target,
            inputs=arguments.inputs,
            samples=SAMPLES if arguments.samples is None else arguments.samples,
            seed=arguments.seed or 0,
            options=Options(input_shapes=dict(arguments.input_shapes), timeout_s=arguments.timeout, progress=progress),
        )
    if arguments.format != "terminal":
        text = in_form(found, arguments.format)
    else:
        from mlia.render.verify.terminal import render_verification

        color = can_color(sys.stdout) and not arguments.output
        text = render_verification(found, max(terminal_width(), 80), color, arguments.all_operators)
    write_output(text, arguments.output)
    return 1 if found.is_unexplained else 0


def _samples(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_SAMPLES:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of samples from 1 to {MOST_SAMPLES}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"'{text}' is not a seed: give a number from 0 up")
    return int(text)

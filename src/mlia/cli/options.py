"""Options that verbs share: the model, the target, the sizes of inputs, times, the form of the report."""

import argparse
import os
from collections.abc import Sequence

from mlia.render.forms import SUFFIXES

TARGET = ("-t", "--target", "--target-profile")  # one option


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the targets, how long the compiler may take for each, and who estimates the time."""
    parser.add_argument(
        *TARGET,
        dest="targets",
        metavar="TARGET",
        action="append",
        required=True,
        help="name of a target (`mlia target list`) or path of a TOML profile; repeat it to compare",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS", help="for the compiler, per target (default: 600)"
    )
    parser.add_argument(
        "--estimator",
        choices=("calibrated", "vela"),
        default="calibrated",
        help="whose cycles: of a model fitted to measurements, or Vela's own (default: calibrated)",
    )


def add_npu_option(parser: argparse.ArgumentParser) -> None:
    """Add the model, the one target that it is executed for, and what is needed to compile it."""
    parser.add_argument("model", metavar="MODEL", help="any format that `mlia check` takes, or what Vela has compiled")
    parser.add_argument(
        *TARGET,
        dest="target",
        metavar="TARGET",
        help="an Ethos-U target (`mlia target list`) or a TOML profile; a compiled model needs none",
    )
    add_input_shape_option(parser)
    parser.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS", help="for the compiler (default: 600)"
    )


def seconds(text: str) -> float:
    """A time that an option gives."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0, a million at most")
    return value


def add_model_options(parser: argparse.ArgumentParser, can_skip_quantizing: bool = True) -> None:
    """Add the model and what is needed to read and quantize it."""
    parser.add_argument("model", metavar="MODEL", help=".tflite, .h5, .keras, SavedModel folder, .onnx, .pt2 or .tosa")
    parser.add_argument(
        "--calibration", metavar="DATA", help="samples to quantize with: .npz, .npy, or a folder of .npy"
    )
    if can_skip_quantizing:
        parser.add_argument("--no-quantize", action="store_true", help="take a float model as it is")
    add_input_shape_option(parser)


def add_input_shape_option(parser: argparse.ArgumentParser) -> None:
    """Add sizes that a model leaves open."""
    parser.add_argument(
        "--input-shape",
        dest="input_shapes",
        metavar="[NAME=]N,N,…",
        type=_input_shape,
        action="append",
        default=[],
        help="sizes of an input that the model leaves open; batch is 1 unless given here",
    )


def _input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """ "image=1,96,96,3" or, for the only input, "1,96,96,3"."""
    import re

    name, _, sizes = text.rpartition("=")
    if not re.fullmatch(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8}){0,7}", sizes):
        raise argparse.ArgumentTypeError(f"'{text}' is not a shape like 1,96,96,3 or image=1,96,96,3")
    return name, tuple(map(int, sizes.split(",")))


def add_form_options(
    parser: argparse.ArgumentParser, forms: Sequence[str], *options: str, text: str = "write the report to a file"
) -> None:
    """Add --format, and the option of the report's file ("-o", "--output"), whose suffix stands for --format."""
    parser.add_argument("--format", choices=("terminal", *forms), help="default: as the file is called, or terminal")
    parser.add_argument(*options, metavar="FILE", help=text)
    parser.set_defaults(forms=tuple(forms), form_file=options[-1].removeprefix("--"))


def settle_form(arguments: argparse.Namespace) -> str:
    """Choose the form where --format does not, and return what there is to say of that; empty where nothing is."""
    if not hasattr(arguments, "forms") or arguments.format is not None:
        return ""
    file = getattr(arguments, arguments.form_file) or ""
    form = SUFFIXES.get(os.path.splitext(file)[1].lower(), "terminal")
    arguments.format = form if form in arguments.forms else "terminal"
    return f"{file} is written as {form}; --format says otherwise" if arguments.format != "terminal" else ""

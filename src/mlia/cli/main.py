"""The `mlia` command: finds the verb and runs it, and what all verbs share: options, output, exit codes."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, NoReturn, TextIO

import mlia
from mlia import interrupts
from mlia.errors import MliaError, shortage

# Each verb is a module of this package with add_arguments(parser) and run(arguments) -> exit code.
VERBS = {
    "check": "which operators run on the NPU, and what they cost",
    "compare": "what changed from one model to another: operators, time and memory",
    "diff": "the same as compare",
    "target": "list targets, or show one",
    "verify": "execute the NPU's command stream, and compare it with the model bit by bit",
    "run": "what the NPU will compute for given inputs",
    "trace": "the NPU's command stream as text",
    "rule": "list what a check looks for",
    "explain": "the page of one rule: why it matters, and what to do",
    "optimize": "make the model smaller and faster, and measure what that gained and lost",
    "convert": "write the model as int8 TFLite, and say how close it is",
    "view": "a saved report again, in any form",
    "accuracy": "how far the estimates are from published measurements",
    "calibrate": "refine a target's estimates by what you measured on it",
    "backend": "list what mlia works with, or install a converter",
    "schema": "print the JSON Schema of the JSON report",
}
TARGET = ("-t", "--target", "--target-profile")  # one option
LONGEST_LINE = 600  # letters of an error
EXIT_CODES = """exit codes: 0 fine; 1 something at or above --fail-on, or a limit missed;
2 could not run, be it on one of several targets;
130 interrupted (Ctrl-C), 143 terminated, 129 the terminal was closed: nothing is left running or half written"""
EXAMPLE = """examples:
  mlia check model.tflite -t ethos-u55-256
  mlia check model.tflite -t ethos-u55-128 -t ethos-u85-256 --performance
  mlia target list
"""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong command line costs the user one line instead of a page."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {_one_line(message)}; see {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Its own swallows errors, so that a help that nobody could read would be exit code 0."""
        if file is sys.stderr:
            super()._print_message(message, file)
        else:
            _write_stdout(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except MliaError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        _discard_stdout()  # the reader of our output went away (`mlia check … | head`); that is its right
        return 0
    except Exception as error:
        if not (lack := shortage(error)):
            raise
        return _refuse(f"cannot go on: {lack}")


def _run(words: list[str]) -> int:
    parser = Parser(
        prog="mlia",
        description="How a neural network will run on Arm hardware, before you own the hardware.",
        epilog=f"{EXAMPLE}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlia {mlia.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        child = verbs.add_parser(verb, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        child.description = summary
        if verb == chosen:  # only the verb that runs is imported
            import_module(f"mlia.cli.{verb}").add_arguments(child)
    parsed = parser.parse_args(words)
    return int(parsed.run(parsed))


def _refuse(text: str) -> int:
    warn(f"error: {text}")
    return 2


def warn(text: str) -> None:
    """One line on stderr, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"mlia: {_one_line(text)}", file=sys.stderr)


def _one_line(text: str) -> str:
    """Without line breaks and control characters, and short: names in a damaged file may have those, and no end."""
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE - 150]} … {text[-140:]}"  # the end says what to do
    return "".join(letter if letter.isprintable() else " " for letter in text)


def entry_point() -> NoReturn:
    """What the installed `mlia` script calls."""
    interrupts.end_on_signals()
    interrupts.stand_by()
    gc.disable()  # the process is short-lived; collecting garbage while it imports costs time for nothing
    try:
        code = main()
    except SystemExit as end:  # of argparse
        code = end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:  # of a search that had ended just then
        interrupts.end(signal.SIGINT)
    interrupts.leave(code)


def can_color(stream: TextIO | None) -> bool:
    """Color only on a terminal, and never against the user's wish (https://no-color.org)."""
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def terminal_width() -> int:
    """Columns of the terminal, or of COLUMNS; 80 where there is neither."""
    if not (sys.stdout and sys.stdout.isatty()) and "COLUMNS" not in os.environ:
        return 80
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


def write_output(text: str, path: str | None) -> None:
    """Write to stdout, or to a file that appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        _write_stdout(text)
        return
    if not path:
        from mlia.errors import OutputError

        raise OutputError("cannot write the report: the name of its file is empty")
    from mlia.output import write_file

    with interrupts.Held():
        write_file(path, text.encode())


def _write_stdout(text: str) -> None:
    from io import UnsupportedOperation

    from mlia.errors import OutputError
    from mlia.output import write_all

    if sys.stdout is None:
        raise OutputError("cannot write the report: stdout is closed")
    try:
        sys.stdout.flush()
        file = sys.stdout.fileno()
    except UnsupportedOperation:  # something else stands in for it
        sys.stdout.write(text)
        return
    # An encoding that lacks a letter is no reason to fail.
    content = text.replace("\n", os.linesep).encode(sys.stdout.encoding, errors="replace")
    try:
        with interrupts.Held():
            write_all(file, content)  # a text stream without a buffer, as PYTHONUNBUFFERED makes it, may write a part
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_stdout()
        raise OutputError(f"cannot write the report to stdout: {error.strerror}") from None


def _discard_stdout() -> None:
    """What is still buffered cannot be written; without this, the interpreter tries again at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse_overwriting(given: str, output: str | None, what: str = "the model") -> None:
    """Refuse an output that is the model itself, or something else that is given.

    Raises:
        OutputError: both are the same file.
    """
    from mlia.errors import OutputError

    if output and os.path.exists(output) and os.path.exists(given) and os.path.samefile(given, output):
        raise OutputError(f"cannot write {output}: it is {what}")


def tell_refusals(refusals: Iterable[tuple[str, str]]) -> bool:
    """Name on stderr what could not be done for single targets, and whether there is any; empty reasons are none."""
    refused = [(target, reason) for target, reason in refusals if reason]
    for target, reason in refused:
        print(f"mlia: error: {_one_line(f'{target}: {reason}')}", file=sys.stderr)
    return bool(refused)


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, if a person is watching; it is gone afterwards.

    An interrupt leaves threads behind, which still have something to say: nobody hears it.
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda text: None
        return

    from threading import Lock

    writing, is_over = Lock(), False

    def show(text: str) -> None:
        with writing:
            if not is_over:
                sys.stderr.write(f"\r\x1b[K{text} …")
                sys.stderr.flush()

    try:
        yield show
    finally:
        with writing:
            is_over = True
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


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

"""The `mlia` command: finds the verb and runs it, and turns what goes wrong into an exit code."""

import argparse
import gc
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import mlia
from mlia import interrupts
from mlia.cli.options import settle_form
from mlia.cli.streams import discard_stdout, one_line, warn, write_stdout
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
        self.exit(2, f"{self.prog}: error: {one_line(message)}; see {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Its own swallows errors, so that a help that nobody could read would be exit code 0."""
        if file is sys.stderr:
            super()._print_message(message, file)
        else:
            write_stdout(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except MliaError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        discard_stdout()  # the reader of our output went away (`mlia check … | head`); that is its right
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
    told = settle_form(parsed)
    code = int(parsed.run(parsed))
    if told and code != 2:
        warn(told)
    return code


def _refuse(text: str) -> int:
    warn(f"error: {text}")
    return 2


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

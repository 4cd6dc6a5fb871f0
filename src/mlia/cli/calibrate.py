"""`mlia calibrate`: measured runs refine how long a target is thought to take."""

import argparse
import os
from typing import TYPE_CHECKING

from mlia.cli.options import TARGET, seconds
from mlia.cli.streams import progress_line, refuse_overwriting, terminal_width, write_output
from mlia.render.forms import FORMS, in_form

if TYPE_CHECKING:
    from mlia.targets.target import AnyTarget

EPILOG = """examples:
  mlia calibrate --measured runs.csv -t my_board.toml
  mlia calibrate --measured kws.tflite=fvp.log --measured ad.tflite=board.log -t ethos-u55-256 -o my_board.toml

A table of runs has the columns model, and one of cycles (of the NPU), ms (of a model that is on the NPU whole) or log.
Logs: what Arm's evaluation kit prints after an inference (NPU ACTIVE cycles), or ExecuTorch (ethosu_pmu_cycle_cntr).
The profile gets a table [coefficients]; the rest of it stays as it is. `mlia check` then says what it rests on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--measured", metavar="RUNS", action="append", required=True, help="a table of runs, or MODEL=LOG; repeatable"
    )
    parser.add_argument(
        *TARGET,
        dest="target",
        metavar="TARGET",
        required=True,
        help="the TOML profile to refine; with --output also the name of a target",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the profile to write (default: TARGET, in its place)")
    parser.add_argument("--dry-run", action="store_true", help="write no profile, only say what would be in it")
    parser.add_argument(
        "--format", choices=("terminal", *FORMS["calibrate"]), default="terminal", help="default: terminal"
    )
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="SECONDS", help="for the compiler, per model")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, write the profile, report; returns the exit code."""
    if arguments.dry_run and arguments.output:
        arguments.parser.error("--dry-run writes nothing: leave out --output")
    from mlia.output import check_writable

    place = "" if arguments.dry_run else _place(arguments)
    if place:
        check_writable(place)
        for given in arguments.measured:
            for path in (given, *given.rpartition("=")[::2]):
                refuse_overwriting(path, place, "what was measured")
    from mlia.backends.vela import process as vela_process
    from mlia.pipeline.calibrate.calibrate import calibrate
    from mlia.pipeline.options import Options

    try:
        with progress_line() as progress:
            target = _target(arguments.target, place)
            made = calibrate(
                arguments.measured, target, options=Options(timeout_s=arguments.timeout, progress=progress)
            )
    finally:
        vela_process.abandon()
    report = made.save(place, _to_change(arguments.target, place)) if place else made.report
    if arguments.format != "terminal":
        shown = in_form(report, arguments.format)
    else:
        from mlia.render.calibrate import render_refinement

        shown = render_refinement(report, max(terminal_width(), 80))
    write_output(shown, None)
    return 0


def _place(arguments: argparse.Namespace) -> str:
    """Where the profile is written: what is asked for, or the profile itself."""
    if arguments.output is not None:
        if not arguments.output:
            arguments.parser.error("--output needs a name")
        return str(arguments.output)
    from mlia.targets.profiles import is_path, load_target

    load_target(arguments.target)  # one that there is not is the greater mistake
    if not is_path(arguments.target):
        arguments.parser.error(f"{arguments.target} is built in: say with --output which profile to write")
    return str(arguments.target)


def _target(name: str, place: str) -> "AnyTarget":
    """The target; one that a profile is made of from what is built in is called as its file."""
    from msgspec.structs import replace

    from mlia.targets.profiles import is_path, load_target

    found = load_target(name)
    return found if is_path(name) or not place else replace(found, name=os.path.splitext(os.path.basename(place))[0])


def _to_change(target: str, place: str) -> str | None:
    """The profile whose words are kept; None for a built-in one, or where its words mean another file."""
    from mlia.targets.profiles import is_path

    is_near = os.path.dirname(os.path.realpath(target)) == os.path.dirname(os.path.realpath(place))
    return target if is_path(target) and is_near else None

"""`mlia optimize`: a model and a recipe in, a smaller and faster model out, with what it gained and lost."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from mlia.cli.options import add_form_options, add_model_options, add_target_options, seconds
from mlia.cli.streams import progress_line, refuse_overwriting, terminal_width, write_output
from mlia.render.forms import FORMS, in_form

EPILOG = """examples:
  mlia optimize model.keras -t ethos-u55-256 --pruning --pruning-target 0.6 --clustering --clustering-target 16
  mlia optimize model.tflite -t ethos-u55-256 --clustering-target 32 --calibration samples.npz
  mlia optimize model.tflite -t ethos-u85-256 --pruning-pattern 2:4 --layer 'dense:pruning=off,clustering=64'
  mlia optimize model.h5 -t ethos-u55-256 --auto --max-loss 1% --calibration samples.npz
  mlia optimize model.h5 -t board.toml --recipe model_optimized.recipe.toml

Writes the optimized model, and beside it the recipe that makes it again. The report goes to stdout; all else to
stderr. Without --calibration, seeded noise stands for data: speed and memory are right, closeness is of noise.
exit codes: 0 fine; 1 --auto found nothing within the limits of latency and flash; 2 could not run; 130 interrupted.
Ctrl-C while --auto searches is no failure: it writes the best so far, with exit code 0 or 1; a second one ends all.
"""
if TYPE_CHECKING:
    from mlia.pipeline.optimize.search_limits import Limits
    from mlia.recipe import Recipe

# What says what to do; each by its name in the parsed arguments.
STEPS = {
    "quantize": "--quantize", "per_tensor_fc": "--per-tensor-fc", "rewrite": "--rewrite", "allow": "--allow",
    "channels": "--channels", "channels_multiple": "--channels-multiple", "pruning": "--pruning",
    "pruning_target": "--pruning-target", "pruning_pattern": "--pruning-pattern", "clustering": "--clustering",
    "clustering_target": "--clustering-target", "no_compensation": "--no-compensation", "finetune": "--finetune",
    "layers": "--layer",
}  # fmt: skip
# What only a search asks for.
LIMITS = {
    "max_loss": "--max-loss", "min_sqnr": "--min-sqnr", "max_rel_error": "--max-rel-error",
    "max_latency_ms": "--max-latency-ms", "max_flash_kib": "--max-flash-kib", "time_budget": "--time-budget",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run, parser=parser)
    add_model_options(parser, can_skip_quantizing=False)
    add_target_options(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the TFLite file to write (default: MODEL_optimized.tflite, here)"
    )
    add_form_options(parser, FORMS["optimize"], "--report")
    parser.add_argument("--verbose", action="store_true", help="every change, also where there are many")
    _add_steps(parser.add_argument_group("what to do"))
    _add_search(parser.add_argument_group("or let it be searched"))


def _add_steps(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--recipe", metavar="FILE", help="a TOML file that says all of it")
    group.add_argument(
        "--quantize", choices=("int8", "int16"), help="activations; weights are int8 (default: as the model has)"
    )
    group.add_argument("--per-tensor-fc", action="store_true", help="one scale for all fully connected weights")
    group.add_argument("--rewrite", action="store_true", help="replace operators by equivalent, cheaper ones")
    group.add_argument("--allow", choices=("approximate",), help="let --rewrite also swap activations")
    group.add_argument("--channels", metavar="KEEP|dead", help="share of channels to keep, or all but the dead ones")
    group.add_argument("--channels-multiple", type=int, metavar="N", help="keep multiples of N channels (default: 8)")
    group.add_argument("--pruning", action="store_true", help="set weights to zero")
    group.add_argument("--pruning-target", type=float, metavar="SHARE", help="of the weights (default: 0.5)")
    group.add_argument("--pruning-pattern", choices=("unstructured", "2:4"), help="2:4 is for Ethos-U85")
    group.add_argument("--clustering", action="store_true", help="let weights share few codes")
    group.add_argument("--clustering-target", type=int, metavar="CODES", help="for each tensor (default: 16)")
    group.add_argument("--no-compensation", action="store_true", help="do not let what remains make up for what went")
    group.add_argument("--finetune", type=int, metavar="STEPS", help="distill from the original; needs mlia[finetune]")
    group.add_argument(
        "--layer",
        dest="layers",
        metavar="PATTERN:WHAT",
        action="append",
        default=[],
        help="other settings where a regular expression matches: 'dense:pruning=0.3,clustering=off,channels=0.5'",
    )


def _add_search(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--auto", action="store_true", help="search recipes, and take the fastest within the limits")
    group.add_argument("--max-loss", metavar="1%", help="of accuracy, or of top-1 agreement without labels")
    group.add_argument("--min-sqnr", type=float, metavar="DB", help="least signal-to-noise ratio of the outputs")
    group.add_argument("--max-rel-error", type=float, metavar="ERROR", help="largest relative error of the outputs")
    group.add_argument("--max-latency-ms", type=float, metavar="MS", help="on every target")
    group.add_argument("--max-flash-kib", type=float, metavar="KIB", help="on every target")
    group.add_argument("--time-budget", type=seconds, metavar="SECONDS", help="for the search (default: 60)")


def run(arguments: argparse.Namespace) -> int:
    """Optimize, write, report; returns the exit code."""
    from mlia.output import check_writable

    recipe = _recipe(arguments)
    if arguments.verbose and arguments.format != "terminal":
        arguments.parser.error("--verbose is for the terminal; other forms have every change always")
    if arguments.output == "" or arguments.report == "":
        arguments.parser.error(f"{'--output' if arguments.output == '' else '--report'} needs a name")
    output = arguments.output or _default_output(arguments.model)
    beside = _recipe_path(arguments, output)
    _refuse_collisions(arguments, [path for path in (output, beside, arguments.report) if path])
    for path in (output, beside, arguments.report):
        if path:
            check_writable(path)
    from mlia.transforms import child

    child.warm_up()
    try:
        return _optimize(arguments, recipe, output, beside)
    finally:
        child.abandon()


def _optimize(arguments: argparse.Namespace, recipe: Recipe | None, output: str, beside: str) -> int:
    from mlia.output import write_file
    from mlia.pipeline.optimize.optimize import optimize
    from mlia.pipeline.options import Options
    from mlia.recipe import recipe_toml

    with progress_line() as progress:
        made = optimize(
            arguments.model,
            arguments.targets,
            recipe,
            limits=_limits(arguments) if arguments.auto else None,
            calibration=arguments.calibration,
            options=Options(
                input_shapes=dict(arguments.input_shapes),
                estimator=arguments.estimator,
                timeout_s=arguments.timeout,
                progress=progress,
            ),
        )
    made.save(output)
    if beside:
        write_file(beside, recipe_toml(made.report.recipe).encode())
    if arguments.format != "terminal":
        text = in_form(made.report, arguments.format)
    else:
        from mlia.render.optimize import render_optimization

        width = max(terminal_width(), 80)
        text = render_optimization(made.report, output, beside, width, arguments.verbose)
    write_output(text, arguments.report)
    return 1 if made.report.missed_limit else 0


def _recipe_path(arguments: argparse.Namespace, output: str) -> str:
    """Where the recipe is saved: beside the model; nowhere for a device, or when it is where it came from."""
    path = os.path.splitext(output)[0] + ".recipe.toml"
    is_device = os.path.exists(output) and not os.path.isfile(output) and not os.path.isdir(output)
    is_given = arguments.recipe and os.path.exists(path) and os.path.samefile(path, arguments.recipe)
    return "" if is_device or is_given else path


def _refuse_collisions(arguments: argparse.Namespace, outputs: list[str]) -> None:
    """Refuse outputs that are one file, or one that is read.

    Raises:
        OutputError: there are such.
    """
    from mlia.errors import OutputError

    refuse_overwriting(arguments.model, arguments.output)
    read = [arguments.model, arguments.calibration, arguments.recipe, *arguments.targets]
    places: dict[str, str] = {}
    for path in outputs:
        place = os.path.realpath(path)
        if place in places:
            raise OutputError(f"cannot write {path}: {places[place]} is written there")
        places[place] = path
        if any(each and os.path.exists(each) and os.path.realpath(each) == place for each in read):
            raise OutputError(f"cannot write {path}: it is read")


def _default_output(model: str) -> str:
    name = os.path.basename(os.path.realpath(model))
    stem = name if os.path.isdir(model) else os.path.splitext(name)[0]
    return f"{stem or 'model'}_optimized.tflite"


def _given(arguments: argparse.Namespace, options: dict[str, str]) -> list[str]:
    """The options among these that the user gave."""
    return [option for name, option in options.items() if not _is_unsaid(getattr(arguments, name))]


def _is_unsaid(value: object) -> bool:
    """Whether an option has what it has when nobody gives it; a zero that somebody gave is to be refused."""
    return value is None or value is False or value == []


def _recipe(arguments: argparse.Namespace) -> Recipe | None:
    """The recipe that the command line asks for; None when it shall be searched."""
    steps, limits = _given(arguments, STEPS), _given(arguments, LIMITS)
    if arguments.auto and (steps or arguments.recipe):
        arguments.parser.error(f"--auto chooses the recipe itself; leave out {(steps or ['--recipe'])[0]}")
    if limits and not arguments.auto:
        arguments.parser.error(f"{limits[0]} goes with --auto")
    if arguments.recipe and steps:
        arguments.parser.error(f"--recipe says what to do; leave out {steps[0]}")
    if arguments.auto:
        return None
    from mlia.recipe import checked, load_recipe

    if arguments.recipe:
        return load_recipe(arguments.recipe)
    if not steps:
        arguments.parser.error("say what to do: --pruning, --clustering, --channels, --rewrite, --quantize, or --auto")
    for name, needs in (("allow", "rewrite"), ("channels_multiple", "channels")):
        if getattr(arguments, name) is not None and not getattr(arguments, needs):
            arguments.parser.error(f"{STEPS[name]} goes with --{needs}")
    return checked(_recipe_of_steps(arguments))


def _recipe_of_steps(arguments: argparse.Namespace) -> Recipe:
    from mlia.recipe import Channels, Clustering, Finetune, Pruning, Quantize, Recipe, Rewrite, parse_keep, parse_layer

    prunes = arguments.pruning or arguments.pruning_target is not None or arguments.pruning_pattern is not None
    clusters = arguments.clustering or arguments.clustering_target is not None
    pruning = {"target": arguments.pruning_target, "pattern": arguments.pruning_pattern}
    channels = {"multiple": arguments.channels_multiple}
    clustering = {"target": arguments.clustering_target}
    quantizes = arguments.quantize or arguments.per_tensor_fc
    return Recipe(
        quantize=Quantize(arguments.quantize, arguments.per_tensor_fc) if quantizes else None,
        rewrite=Rewrite(approximate=arguments.allow == "approximate") if arguments.rewrite else None,
        channels=Channels(parse_keep(arguments.channels), **_said(channels)) if arguments.channels else None,
        pruning=Pruning(**_said(pruning)) if prunes else None,
        clustering=Clustering(**_said(clustering)) if clusters else None,
        compensate=not arguments.no_compensation,
        finetune=Finetune(arguments.finetune) if arguments.finetune is not None else None,
        layers=tuple(parse_layer(text) for text in arguments.layers),
    )


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _limits(arguments: argparse.Namespace) -> Limits:
    from mlia.pipeline.optimize.search_limits import Limits, parse_loss

    given = {
        "max_loss": parse_loss(arguments.max_loss) if arguments.max_loss is not None else None,
        "min_sqnr_db": arguments.min_sqnr,
        "max_relative_error": arguments.max_rel_error,
        "max_latency_ms": arguments.max_latency_ms,
        "max_flash_kib": arguments.max_flash_kib,
        "time_budget_s": arguments.time_budget,
    }
    return Limits(**_said(given))

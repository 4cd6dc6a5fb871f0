"""Recipe: what to do with a model, as data. Read from TOML or made of options, printed and saved with results."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from mlia.errors import TransformError
from mlia.input import TEXT_BYTES, read_file

Dead: TypeAlias = Literal["dead"]
Pattern: TypeAlias = Literal["unstructured", "2:4"]
DEFAULT_PRUNING = 0.5
TWO_OF_FOUR_SHARE = 0.5
DEFAULT_CLUSTERS = 16
FEWEST_CLUSTERS, MOST_CLUSTERS = 2, 255  # that many int8 codes there are, without -128
MOST_STEPS = 100_000
MOST_MULTIPLE = 256


class Quantize(Struct, frozen=True, forbid_unknown_fields=True):
    """Activations "int8" or "int16", or None: what the model has, int8 for a float one.

    `per_tensor_fc` gives fully connected weights one scale.
    """

    activations: Literal["int8", "int16"] | None = None
    per_tensor_fc: bool = False


class Rewrite(Struct, frozen=True, forbid_unknown_fields=True):
    """Replacements in the graph: equivalent ones, and with `approximate` also those that change the outputs."""

    approximate: bool = False


class Channels(Struct, frozen=True, forbid_unknown_fields=True):
    """Channels to keep: a share above 0 and below 1 of each operator's, or "dead": all but those that never change.

    What is kept is rounded up to a `multiple` of channels.
    """

    keep: float | Dead
    multiple: int = 8


class Pruning(Struct, frozen=True, forbid_unknown_fields=True):
    """The share of each operator's weights to set to zero; with pattern "2:4", two of every four input channels."""

    target: float = DEFAULT_PRUNING
    pattern: Pattern = "unstructured"


class Clustering(Struct, frozen=True, forbid_unknown_fields=True):
    """How many different int8 codes each weights tensor may have, zero included."""

    target: int = DEFAULT_CLUSTERS


class Finetune(Struct, frozen=True, forbid_unknown_fields=True):
    """Steps of distillation from the float model on calibration data."""

    steps: int = 200


class Layer(Struct, frozen=True, forbid_unknown_fields=True):
    """Other settings for operators in whose name `match` (a regular expression) is found. False switches off."""

    match: str
    pruning: float | bool | None = None
    clustering: int | bool | None = None
    channels: float | bool | Dead | None = None


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All that is done to a model, in this order; None is not done. `compensate` lets what remains make up for it."""

    quantize: Quantize | None = None
    rewrite: Rewrite | None = None
    channels: Channels | None = None
    pruning: Pruning | None = None
    clustering: Clustering | None = None
    compensate: bool = True
    finetune: Finetune | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for: no step, and no override that does more than leave operators alone."""
        steps = (self.quantize, self.rewrite, self.channels, self.pruning, self.clustering, self.finetune)
        return not any(steps) and not any(layer.pruning or layer.clustering for layer in self.layers)

    def layer(self, name: str) -> Layer:
        """The settings for one operator: the last override that matches and says something wins."""
        merged = Layer(match=name)
        for override in self.layers:
            if re.search(override.match, name):
                said = {key: value for key, value in msgspec.structs.asdict(override).items() if value is not None}
                merged = msgspec.structs.replace(merged, **said)
        return merged


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises:
        TransformError: it cannot be read, or asks for what cannot be.
    """
    try:
        recipe = msgspec.toml.decode(read_file(path, TEXT_BYTES).decode(), type=Recipe)
    except OSError as error:
        raise TransformError(f"cannot read the recipe {path}: {error.strerror}") from None
    except RecursionError:
        raise TransformError(f"the recipe {path} is not one: it is nested too deeply") from None
    except UnicodeDecodeError:
        raise TransformError(f"the recipe {path} is not one: it is not text in UTF-8") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise TransformError(f"the recipe {path} is not one: {error}") from None
    try:
        return checked(recipe)
    except OverflowError:
        raise TransformError(f"the recipe {path}: a number is beyond all reason") from None
    except TransformError as error:
        raise TransformError(f"the recipe {path}: {error}") from None


def checked(recipe: Recipe) -> Recipe:
    """The recipe, if all of it can be.

    Raises:
        TransformError: a figure is out of its range, a pattern is no regular expression, or nothing is asked for.
    """
    try:
        recipe = msgspec.convert(msgspec.to_builtins(recipe), Recipe)  # one that was made in Python may hold anything
    except (msgspec.ValidationError, TypeError) as error:
        raise TransformError(f"the recipe is not one: {error}") from None
    if recipe.pruning:
        _check_share("the pruning target", recipe.pruning.target)
        if recipe.pruning.pattern == "2:4" and recipe.pruning.target != TWO_OF_FOUR_SHARE:
            raise TransformError(
                f"the pattern 2:4 prunes exactly half: the pruning target cannot be {recipe.pruning.target:g}"
            )
    if recipe.clustering:
        _check_count("the number of clusters", recipe.clustering.target, FEWEST_CLUSTERS, MOST_CLUSTERS)
    if recipe.channels:
        _check_channels(recipe.channels.keep)
        _check_count("the multiple of channels", recipe.channels.multiple, 1, MOST_MULTIPLE)
    if recipe.finetune:
        _check_count("the number of fine-tuning steps", recipe.finetune.steps, 1, MOST_STEPS)
    for layer in recipe.layers:
        _check_layer(layer, recipe)
    if recipe.is_empty:
        raise TransformError(
            "the recipe asks for nothing: no quantize, rewrite, channels, pruning, clustering, finetune"
        )
    return recipe


def _check_layer(layer: Layer, recipe: Recipe) -> None:
    try:
        re.compile(layer.match)
    except re.error as error:
        raise TransformError(f"'{layer.match}' is not a regular expression: {error}") from None
    if True in (layer.pruning is True, layer.clustering is True, layer.channels is True):
        raise TransformError(f"'{layer.match}' says true; give a figure, or false to leave the operators alone")
    if layer.pruning is not None and layer.pruning is not False:
        _check_share(f"the pruning target of '{layer.match}'", layer.pruning)
        if recipe.pruning and recipe.pruning.pattern == "2:4" and layer.pruning != TWO_OF_FOUR_SHARE:
            raise TransformError(f"the pattern 2:4 prunes exactly half, also of '{layer.match}'")
    if layer.clustering is not None and layer.clustering is not False:
        _check_count(f"the number of clusters of '{layer.match}'", layer.clustering, FEWEST_CLUSTERS, MOST_CLUSTERS)
    if layer.channels is not None and layer.channels is not False:
        _check_channels(layer.channels)
        if recipe.channels is None:
            raise TransformError(
                f"channels of '{layer.match}' are given, but none are removed: ask for channels as well"
            )
    if (layer.pruning, layer.clustering, layer.channels) == (None, None, None):
        raise TransformError(f"nothing is said about '{layer.match}'")


def _check_share(what: str, share: float) -> None:
    if not 0 < share < 1:
        raise TransformError(f"{what} is a share of the weights, above 0 and below 1; {share:g} is not")


def _check_channels(keep: float | str) -> None:
    if keep != "dead" and (isinstance(keep, str) or not 0 < keep < 1):
        raise TransformError(f"the share of channels to keep is above 0 and below 1, or 'dead'; {keep} is not")


def _check_count(what: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise TransformError(f"{what} is from {least} to {most:,}; {count:,} is not")


def parse_keep(text: str) -> float | Dead:
    """Channels to keep, as the command line gives them: 0.75 or dead.

    Raises:
        TransformError: it is neither.
    """
    if text == "dead":
        return "dead"
    try:
        return float(text)
    except ValueError:
        raise TransformError(f"'{text}' is neither a share of channels to keep nor 'dead'") from None


def parse_layer(text: str) -> Layer:
    """Settings for some operators, as the command line gives them: 'dense:pruning=0.3,clustering=off'.

    Raises:
        TransformError: it is not of that form.
    """
    match, _, said = text.rpartition(":")
    settings: dict[str, Any] = {}
    for word in said.split(","):
        name, _, value = word.partition("=")
        if not match or name not in ("pruning", "clustering", "channels") or not value or name in settings:
            raise TransformError(f"'{text}' is not like PATTERN:pruning=0.3,clustering=off,channels=0.5")
        try:
            settings[name] = False if value == "off" else _PARSE[name](value)
        except ValueError:
            raise TransformError(f"'{word}' in '{text}' is neither a figure nor off") from None
    return Layer(match, **settings)


_PARSE: dict[str, Callable[[str], Any]] = {"pruning": float, "clustering": int, "channels": parse_keep}


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML; load_recipe reads it as the same recipe."""
    built: dict[str, Any] = msgspec.to_builtins(recipe)
    lines = [] if recipe.compensate else ["compensate = false"]
    for name, table in built.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *_assignments(table), ""]
    for layer in built["layers"]:
        lines += ["[[layers]]", *_assignments(layer), ""]
    return "\n".join(lines).strip() + "\n"


def _assignments(table: dict[str, Any]) -> list[str]:
    # A JSON string, number or truth is one in TOML as well, but for a letter that JSON need not escape.
    return [
        f"{key} = {json.dumps(value, ensure_ascii=False).replace(chr(127), chr(92) + 'u007f')}"
        for key, value in table.items()
        if value is not None
    ]


def describe(recipe: Recipe) -> str:
    """The recipe in a few words, as options of the command line say it."""
    words = []
    if recipe.quantize:
        activations = recipe.quantize.activations
        words.append(f"--quantize {activations}" if activations else "")
        words.append("--per-tensor-fc" if recipe.quantize.per_tensor_fc else "")
    if recipe.rewrite:
        words.append("--rewrite" + " --allow approximate" * recipe.rewrite.approximate)
    if recipe.channels:
        words.append(f"--channels {recipe.channels.keep}")
        if recipe.channels.multiple != Channels(0.5).multiple:
            words.append(f"--channels-multiple {recipe.channels.multiple}")
    if recipe.pruning:
        pattern = " --pruning-pattern 2:4" if recipe.pruning.pattern == "2:4" else ""
        words.append(f"--pruning --pruning-target {recipe.pruning.target}{pattern}")
    if recipe.clustering:
        words.append(f"--clustering --clustering-target {recipe.clustering.target}")
    if not recipe.compensate:
        words.append("--no-compensation")
    if recipe.finetune:
        words.append(f"--finetune {recipe.finetune.steps}")
    for layer in recipe.layers:
        settings = {"pruning": layer.pruning, "clustering": layer.clustering, "channels": layer.channels}
        said = ",".join(
            f"{key}={'off' if value is False else value}" for key, value in settings.items() if value is not None
        )
        words.append(f"--layer {shlex.quote(f'{layer.match}:{said}')}")
    return " ".join(filter(None, words)) or "--quantize int8"


def brief(recipe: Recipe) -> str:
    """What a recipe does, in the fewest words: operators that differ are counted, not named."""
    words = []
    if recipe.quantize:
        words.append((recipe.quantize.activations or "") + " per-tensor FC" * recipe.quantize.per_tensor_fc)
    if recipe.rewrite:
        words.append("rewrite" + " approximate" * recipe.rewrite.approximate)
    if recipe.channels:
        words.append("no dead channels" if recipe.channels.keep == "dead" else f"{recipe.channels.keep:g} of channels")
    if recipe.pruning:
        words.append("2:4" if recipe.pruning.pattern == "2:4" else f"{recipe.pruning.target:g} zero")
    if recipe.clustering:
        words.append(f"{recipe.clustering.target} codes")
    if recipe.finetune:
        words.append(f"{recipe.finetune.steps} steps")
    for layer, operators in Counter(msgspec.structs.replace(layer, match="") for layer in recipe.layers).items():
        zero = f"{layer.pruning:g} zero, " if layer.pruning else ""
        words.append(f"{zero}{layer.clustering} codes in {operators}" if layer.clustering else f"{operators} otherwise")
    return ", ".join(words) or "nothing"

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
    """How to quantize a float model."""

    activations: Literal["int8", "int16"] | None = None
    """Type of activations, int8 or int16; null for what the model has, int8 for a float one."""
    per_tensor_fc: bool = False
    """Whether fully connected weights have one scale, and not one for each channel."""


class Rewrite(Struct, frozen=True, forbid_unknown_fields=True):
    """Replacements in the graph by equivalent ones."""

    approximate: bool = False
    """Whether replacements that change the outputs are made as well."""


class Channels(Struct, frozen=True, forbid_unknown_fields=True):
    """Channels to keep of each operator."""

    keep: float | Dead
    """Share above 0 and below 1, or "dead" for all but those that never change."""
    multiple: int = 8
    """What is kept is rounded up to a multiple of so many channels."""


class Pruning(Struct, frozen=True, forbid_unknown_fields=True):
    """Weights to set to zero."""

    target: float = DEFAULT_PRUNING
    """Share (0..1) of each operator's weights."""
    pattern: Pattern = "unstructured"
    """"2:4" takes two of every four input channels, "unstructured" any."""


class Clustering(Struct, frozen=True, forbid_unknown_fields=True):
    """How few values weights may have."""

    target: int = DEFAULT_CLUSTERS
    """How many different int8 values each weights tensor may have, zero included."""


class Finetune(Struct, frozen=True, forbid_unknown_fields=True):
    """Distillation from the float model on calibration data."""

    steps: int = 200
    """How many steps."""


class Layer(Struct, frozen=True, forbid_unknown_fields=True):
    """Other settings for some operators; false switches a step off, null leaves it as it is for all."""

    match: str
    """Regular expression that is looked for in their names."""
    pruning: float | bool | None = None
    """Share (0..1) of the weights to set to zero; null for that of all."""
    clustering: int | bool | None = None
    """How many different int8 values their weights may have; null for what all have."""
    channels: float | bool | Dead | None = None
    """Share of their channels to keep, or "dead"; null for that of all."""


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """All that is done to a model, in this order; null is not done."""

    quantize: Quantize | None = None
    """How to quantize it; null to leave that to what the model needs."""
    rewrite: Rewrite | None = None
    """Which replacements to make in the graph; null for none."""
    channels: Channels | None = None
    """Which channels to keep; null for all."""
    pruning: Pruning | None = None
    """Which weights to set to zero; null for none."""
    clustering: Clustering | None = None
    """How few values weights may have; null for as many as there are."""
    compensate: bool = True
    """Whether what remains makes up for what is taken away."""
    finetune: Finetune | None = None
    """How long to distill; null for not at all."""
    layers: tuple[Layer, ...] = ()
    """Other settings for some operators; the last that matches wins."""

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

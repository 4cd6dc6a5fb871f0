"""Recipe: what to do with a model, as data. Read from TOML or made of options, printed and saved with results."""

import re
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

Dead: TypeAlias = Literal["dead"]
UNSTRUCTURED, TWO_OF_FOUR = "unstructured", "2:4"
DEFAULT_PRUNING = 0.5
DEFAULT_CLUSTERS = 16
MOST_CLUSTERS = 256  # that many int8 codes there are


class Quantize(Struct, frozen=True, forbid_unknown_fields=True):
    """Activations "int8" or "int16"; `per_tensor_fc` gives fully connected weights one scale."""

    activations: Literal["int8", "int16"] = "int8"
    per_tensor_fc: bool = False


class Rewrite(Struct, frozen=True, forbid_unknown_fields=True):
    """Replacements in the graph: equivalent ones, and with `approximate` also those that change the outputs."""

    approximate: bool = False


class Channels(Struct, frozen=True, forbid_unknown_fields=True):
    """Channels to keep: a share above 0 and up to 1 of each layer, or "dead": all but those that never change.

    What is kept is rounded up to a `multiple` of channels.
    """

    keep: float | Dead
    multiple: int = 8


class Pruning(Struct, frozen=True, forbid_unknown_fields=True):
    """The share of each operator's weights to set to zero; with pattern "2:4", two of every four input channels."""

    target: float = DEFAULT_PRUNING
    pattern: Literal["unstructured", "2:4"] = "unstructured"


class Clustering(Struct, frozen=True, forbid_unknown_fields=True):
    """How many different int8 codes each weights tensor may have, zero included."""

    target: int = DEFAULT_CLUSTERS


class Finetune(Struct, frozen=True, forbid_unknown_fields=True):
    """Steps of distillation from the float model on calibration data."""

    steps: int = 200


class Layer(Struct, frozen=True, forbid_unknown_fields=True):
    """Other settings for operators whose name `match` (a regular expression) is found in. False switches off."""

    match: str
    pruning: float | Literal[False] | None = None
    clustering: int | Literal[False] | None = None
    channels: float | Dead | Literal[False] | None = None


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
        """Whether nothing would be done beyond plain quantization."""
        return not (self.quantize or self.rewrite or self.channels or self.pruning or self.clustering or self.layers)

    def layer(self, name: str) -> Layer:
        """The settings for one operator: the last override that matches and says something wins."""
        merged = Layer(match=name)
        for override in self.layers:
            if re.search(override.match, name):
                said = {key: value for key, value in msgspec.structs.asdict(override).items() if value is not None}
                merged = msgspec.structs.replace(merged, **said)
        return merged

"""What all containers of Keras models hold: the configuration of the layers, and their weights."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

Array: TypeAlias = Any  # numpy.ndarray, without importing numpy where nothing is computed


class KerasModel(Struct, frozen=True):
    """A Keras model as data.

    `config` is what Keras stores: {"class_name": "Functional" | "Sequential" | "Model", "config": {…}}, as
    Keras 2 or Keras 3 writes it, perhaps with more keys. `weights` are each layer's arrays in the order of its
    get_weights() (what can be trained first, then what cannot; a wrapper's are those of its parts, forwards
    before backwards), by the layer's name, and for a layer inside a nested model by "outer/inner". A layer
    without weights has no entry; the state of a random generator is no weight. Arrays have the type and shape
    that is stored, and may be read-only. `container` says what file it was.
    """

    config: dict[str, Any]
    weights: Mapping[str, tuple[Array, ...]]
    container: str

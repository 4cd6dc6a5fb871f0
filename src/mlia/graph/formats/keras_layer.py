"""One Keras layer as data, and how its options and weights are read without trusting them."""

from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import numpy
from msgspec import Struct

from mlia.errors import ModelError
from mlia.graph.formats.keras_model import Array

Config: TypeAlias = Mapping[str, Any]
NEXT_STEP = "export the model to TFLite and check that file"


class Layer(Struct, frozen=True):
    """A layer by its path ("outer/inner"); `generation` is 2 or 3, which of Keras wrote the model."""

    name: str
    kind: str
    config: Config
    weights: tuple[Array, ...] = ()
    generation: int = 3

    def refuse(self, why: str) -> NoReturn:
        """Raises ModelError: what cannot be read, where, why, and the next step."""
        raise ModelError(f"cannot read the layer '{self.name}' of class {self.kind}: {why}; {NEXT_STEP}")

    def part(self, name: str, kind: str, config: Config, weights: tuple[Array, ...] = ()) -> "Layer":
        """A layer inside this one."""
        return Layer(name, kind, config, weights, self.generation)

    def pair(self, key: str, default: int = 1, rank: int = 2) -> tuple[int, int]:
        """A size of one or two axes as (rows, columns); along one axis it has 1 row. All are at least 1."""
        value = self.config.get(key)
        sizes = default if value is None else value
        if isinstance(sizes, int):
            sizes = [sizes] * rank
        if len(sizes) != rank or not all(isinstance(size, int) and size >= 1 for size in sizes):
            self.refuse(f"its {key} is {value!r}")
        return (1, int(sizes[0])) if rank == 1 else (int(sizes[0]), int(sizes[1]))

    def number(self, key: str, default: float) -> float:
        """A number, also where Keras stored an array of one element."""
        value = self.config.get(key, default)
        if isinstance(value, Mapping):  # Keras 2 stores {"class_name": "__numpy__", "config": {"value": 6.0}}
            value = value["config"]["value"]
        return float(default if value is None else value)

    def flag(self, key: str, default: bool = False) -> bool:
        return bool(self.config.get(key, default))

    def axis(self, default: int, rank: int, key: str = "axis") -> int:
        """One axis, counted from 0; Keras 2 stores a list of one."""
        value = self.config.get(key, default)
        if isinstance(value, list | tuple):
            if len(value) != 1:
                self.refuse(f"it works along the axes {value}")
            value = value[0]
        if not isinstance(value, int) or not -rank <= value < rank:
            self.refuse(f"it works along axis {value} of {rank}")
        return value % rank

    def expect(self, shape: tuple[int, ...], *ranks: int) -> None:
        """Raises ModelError: the input does not have one of these ranks."""
        if len(shape) not in ranks:
            self.refuse(f"its input has the shape {shape}, and it takes rank {' or '.join(map(str, ranks))}")

    def demand(self, key: str, *allowed: Any) -> None:
        """Raises ModelError: an option is set to what TFLite cannot say."""
        value = self.config.get(key, allowed[0])
        if value not in allowed:
            self.refuse(f"its {key} is {value!r}")

    def arrays(self, *shapes: tuple[int | None, ...]) -> list[Any]:
        """The weights as float32, of exactly these shapes; None is any size.

        Raises:
            ModelError: missing, too many, of another shape, or not numbers.
        """
        if len(self.weights) != len(shapes):
            self.refuse(f"it has {len(self.weights)} arrays of weights instead of {len(shapes)}")
        return [self._array(number, shape) for number, shape in enumerate(shapes)]

    def _array(self, number: int, shape: tuple[int | None, ...]) -> Any:
        array = numpy.asarray(self.weights[number])
        fits = len(array.shape) == len(shape) and all(
            size in (None, actual) for size, actual in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in "fiu":
            wanted = tuple("any" if size is None else size for size in shape)
            self.refuse(f"weight {number} is {array.dtype.name} {array.shape} instead of a float {wanted}")
        if array.dtype == numpy.float32:
            return array
        with numpy.errstate(over="ignore"):
            return array.astype(numpy.float32)

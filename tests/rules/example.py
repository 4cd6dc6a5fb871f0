"""One small model that a rule must find something in, or must leave alone."""

from collections.abc import Callable

from msgspec import Struct


class Example(Struct, frozen=True):
    """A model made by `build` (TFLite), and what the rule `code` must say of it on `target`.

    `gets_onto_npu` says of a compatibility rule whether one of the remedies brings all operators that it names onto
    the NPU. `is_beyond_remedy` says that none of the remedies can be applied to this very model.
    """

    code: str
    name: str
    target: str
    build: Callable[[], bytes]
    fires: bool
    gets_onto_npu: bool | None = None
    is_beyond_remedy: bool = False

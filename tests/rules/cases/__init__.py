"""All examples: small models, and what rules must say of them."""

from importlib import import_module
from pathlib import Path

from tests.rules.example import Example

_FILES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
EXAMPLES: tuple[Example, ...] = tuple(
    example for name in _FILES for example in getattr(import_module(f"tests.rules.cases.{name}"), "EXAMPLES", ())
)

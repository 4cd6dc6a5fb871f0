"""Damage to values of a kind: numbers, words and lists as no sound file has them, and trees (JSON) of these."""

import copy
from random import Random
from typing import Any

WORDS = (
    "", " ", "a" * 300, "x" * 70_000, "line\nbreak", "\x1b[31mred", "\x00", "ünïcödé ☃", "\u202e", "..", "/", "NaN",
    "null", "-1", "{}", "%s%n", "$(true)", "'", '"', "<script>alert(1)</script>", "float32", "linear", "mlia",
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 3e38, -3e38, 0.5, float("inf"), float("-inf"), float("nan"))
INTEGERS = (0, 1, -1, 2, 3, 4, 7, 127, 128, -128, 255, 256, 32767, 65536, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
BEYOND = (2**64, 10**30, -(10**30), 1e308)  # what JSON can say and a word of 64 bits cannot


def wild_integer(old: int, random: Random, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """Another number that the type can hold: near to the old one, or from the edges."""
    near = (old + 1, old - 1, -old, old * 2, old // 2, old + random.randrange(-9, 10))
    fit = [each for each in (*near, *near, *INTEGERS) if low <= each <= high and each != old]
    return random.choice(fit or [0])


def wild_float(old: float, random: Random) -> float:
    near = (-old, old * 2, old / 2, old * 1e6, old / 1e6, old * 1.01)
    return random.choice((*near, *FLOATS))


def wild_word(old: str, random: Random) -> str:
    turned = (old[::-1], old.upper(), old + old, old[:-1], old + "_1", f"{old} ")
    return random.choice((*turned, *WORDS))


def wild_list(old: list[Any], random: Random) -> list[Any]:
    """One element less or more, none, in another order, or very many."""
    if not old:
        return random.choice(([0], [1, 2, 3], [None], [[]]))
    ways = (old[:-1], old[1:], [*old, old[-1]], [], old[::-1], [*old, *old], old[:1] * random.choice((1, 9, 300)))
    return [*random.choice(ways)]


def damaged_tree(tree: Any, random: Random) -> tuple[str, Any]:
    """A copy of the tree with one to three values changed, taken away or doubled, and where the first is.

    Fields of the same name are drawn as often as any other, however often they occur.
    """
    tree = copy.deepcopy(tree)
    said = ""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places: dict[str, list[tuple[Any, Any]]] = {}
        _collect(tree, "", places)
        if not places:
            return said or "nothing", random.choice((None, [], {}, 0, "x"))
        name = random.choice([*places])
        owner, key = random.choice(places[name])
        said = said or name
        _change(owner, key, random)
    return said, tree


def _collect(tree: Any, path: str, places: dict[str, list[tuple[Any, Any]]]) -> None:
    if isinstance(tree, dict):
        for key, value in tree.items():
            here = f"{path}.{key}" if path else str(key)
            places.setdefault(here, []).append((tree, key))
            _collect(value, here, places)
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            places.setdefault(f"{path}[]", []).append((tree, index))
            _collect(value, f"{path}[]", places)


def _change(owner: Any, key: Any, random: Random) -> None:
    """Mostly a value of the same kind: one of another kind is refused by any decoder."""
    way = random.random()
    if way < 0.1:
        del owner[key]
    elif way < 0.15 and isinstance(owner, dict):
        owner[wild_word(key, random)] = owner.pop(key)
    elif way < 0.3:
        kinds = (None, True, 0, -1, 0.5, "", "x", [], {}, [None], {"a": 1}, *BEYOND, _deep(random))
        owner[key] = random.choice(kinds)
    else:
        owner[key] = _wild(owner[key], random)


def _wild(value: Any, random: Random) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return random.choice((wild_integer(value, random), wild_integer(value, random), *BEYOND[:1]))
        case float():
            return wild_float(value, random)
        case str():
            return wild_word(value, random)
        case list():
            return wild_list(value, random)
        case dict():
            return {} if random.random() < 0.5 else {key: value[key] for key in [*value][1:]}
        case _:
            return random.choice((0, 1, -1, "x", [], {}, False))


def _deep(random: Random) -> Any:
    value: Any = 0
    for _ in range(random.choice((3, 60))):
        value = [value]
    return value

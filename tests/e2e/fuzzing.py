"""The fuzz of the command line: case N of a seed is one damaged file and one command that is given it.

    case = draw_case(seed, number, make_sound_files(sound), folder)
    case.command  # the words after `mlia`

A round of cases has every format with every verb that takes it; the next round has the same with other damage.
"""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec import Struct

from tests.damage import raw
from tests.damage.containers import damaged_folder, damaged_h5, damaged_npz, damaged_samples, damaged_zip
from tests.damage.messages import with_wild_message
from tests.damage.tables import with_wild_commands, with_wild_fields, with_wild_offsets
from tests.damage.texts import damaged_csv, damaged_json, damaged_log, damaged_toml
from tests.e2e.fuzzing_commands import command, wild_words

# How often a verb is in a round, by format. Most of what goes wrong is in models.
ROUND = {
    "tflite": "check check check check compare verify verify run trace optimize optimize convert calibrate",
    "compiled": "check verify verify run trace trace compare convert",
    "h5": "check convert optimize verify",
    "keras": "check check compare convert trace run",
    "saved_model": "check convert verify",
    "tosa": "check check verify trace optimize",
    "pt2": "check convert",
    "onnx": "check check compare convert optimize verify run",
    "npz": "run run verify check convert optimize",
    "samples": "run convert",
    "report": "view view view compare compare check",
    "profile": "target target check verify trace calibrate",
    "ini": "target check",
    "budget": "check view",
    "recipe": "optimize optimize",
    "csv": "calibrate calibrate",
    "log": "calibrate",
    "words": "explain schema target rule check view optimize convert compare accuracy backend run verify",
}
PAIRS = tuple((kind, verb) for kind, verbs in ROUND.items() for verb in verbs.split())
VERBS = tuple(sorted({verb for _, verb in PAIRS}))
SUFFIXES = {
    "tflite": ".tflite", "compiled": ".tflite", "h5": ".h5", "keras": ".keras", "saved_model": "", "tosa": ".tosa",
    "pt2": ".pt2", "onnx": ".onnx", "npz": ".npz", "samples": "", "report": ".json", "profile": ".toml",
    "ini": ".ini", "budget": ".toml", "recipe": ".toml", "csv": ".csv", "log": ".log",
}  # fmt: skip
_TAKEN = {
    ("tflite", "convert"): ("float",),
    ("tflite", "optimize"): ("float", "conv", "depthwise", "dense", "ds_cnn", "off"),
    ("report", "compare"): ("check",),
    ("report", "check"): ("check",),
}  # by words of their names; an integer model is not converted, one without weights not optimized
MODELS = ("tflite", "compiled", "h5", "keras", "saved_model", "tosa", "pt2", "onnx")
_ODD_NAMES = (
    "a b", "x=y", "new\nline", "\x1b[31mred", "ünïcödé ☃", "'quoted\"", "%s%n", "l" * 200, ".hidden", "a,b", "a=b=c",
    "\u202egnp", "..x", "#",
)  # fmt: skip
_Damage = Callable[[bytes, Random], tuple[str, bytes]]
_DAMAGE: dict[str, tuple[_Damage, ...]] = {
    "tflite": (with_wild_fields, with_wild_fields, with_wild_fields, with_wild_offsets, raw.damaged),
    "compiled": (
        with_wild_commands,
        with_wild_commands,
        with_wild_commands,
        with_wild_fields,
        with_wild_offsets,
        raw.damaged,
    ),
    "h5": (damaged_h5,),
    "keras": (damaged_zip,),
    "tosa": (with_wild_offsets, with_wild_offsets, raw.damaged),
    "pt2": (damaged_zip,),
    "onnx": (with_wild_message, with_wild_message, raw.damaged),
    "npz": (damaged_npz,),
    "report": (damaged_json,),
    "profile": (damaged_toml,),
    "ini": (damaged_toml, raw.damaged),
    "budget": (damaged_toml,),
    "recipe": (damaged_toml,),
    "csv": (damaged_csv,),
    "log": (damaged_log,),
}


class Case(Struct, frozen=True):
    """One command, run in the folder `cwd` of the case's folder. `given` are the files that it may read."""

    number: int
    format: str
    verb: str
    damage: str
    command: tuple[str, ...]

    @property
    def line(self) -> str:
        return "mlia " + " ".join(_quoted(word) for word in self.command)


class Places(Struct, frozen=True):
    """The folders of one case: what it is given, where it runs, and where alone it may write."""

    given: Path
    cwd: Path
    home: Path
    temporary: Path
    output: Path


def prepare(folder: Path) -> Places:
    """Make the folders of a case, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    places = Places(*(folder / name for name in ("in", "cwd", "home", "tmp", "out")))
    for name in places.__struct_fields__:
        getattr(places, name).mkdir(parents=True)
    return places


def draw_case(seed: int, number: int, sound: Path, folder: Path) -> Case:
    """Write what the case is given into `folder`, and say which command is. The same numbers give the same case."""
    kind, verb = PAIRS[number % len(PAIRS)]
    random = Random(f"{seed} {number}")
    places = prepare(folder)
    if kind == "words":
        return Case(number, kind, verb, "words", tuple(wild_words(verb, random)))
    source = _source(sound, kind, verb, random)
    name = _name(random, SUFFIXES[kind], source)
    path = places.given / name
    damage = _not_a_file(path, random) if random.random() < 0.03 else _write_damaged(kind, source, path, random)
    given = f"../in/{name}"
    words = command(kind, verb, given, source, places.given, random)
    return Case(number, kind, verb, f"{source.name}: {damage}", tuple(words))


def _source(sound: Path, kind: str, verb: str, random: Random) -> Path:
    """The sound file to damage: mostly one that the verb takes."""
    files = sorted((sound / ("samples" if kind == "npz" else kind)).iterdir())
    taken = [path for path in files if any(word in path.name for word in _TAKEN.get((kind, verb), ("",)))]
    return random.choice(taken if random.random() < 0.9 else files)


def _name(random: Random, suffix: str, source: Path) -> str:
    if source.suffix == ".log" or random.random() < 0.92:
        return f"input{suffix}"
    return random.choice(_ODD_NAMES) + random.choice((suffix, suffix, suffix.upper(), "", ".bin"))


def _write_damaged(kind: str, source: Path, path: Path, random: Random) -> str:
    if kind == "saved_model":
        return damaged_folder(source, path, random)
    if kind == "samples":
        return damaged_samples(source.read_bytes(), path, random)
    said, content = random.choice(_DAMAGE[kind])(source.read_bytes(), random)
    path.write_bytes(content)
    return said


def _not_a_file(path: Path, random: Random) -> str:
    """Nothing there, an empty folder, a link to itself, or a device."""
    way = random.choice(("missing", "a folder", "a loop of links", "/dev/null"))
    if way == "a folder":
        path.mkdir()
    elif way == "a loop of links":
        path.symlink_to(path.name)
    elif way == "/dev/null":
        path.symlink_to(way)
    return way


def _quoted(word: str) -> str:
    return shlex.quote(word) if word.isprintable() else "$" + repr(word)

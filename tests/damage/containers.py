"""Damage to files that hold other files or arrays: zip archives, HDF5, SavedModel folders, .npz and .npy."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from tests.damage import raw
from tests.damage.messages import with_wild_message
from tests.damage.texts import damaged_json
from tests.damage.values import damaged_tree, wild_word

_STAMP = (2026, 1, 1, 0, 0, 0)  # of a zip's entries, so that the same damage gives the same bytes
_NAMES = ("x", "../../outside.txt", "/outside.txt", "a\\b", "data.pkl", "config.json", "", "ü", "a/" * 40 + "b")


def damaged_zip(content: bytes, random: Random) -> tuple[str, bytes]:
    """An archive that is damaged itself, or is sound and holds what is damaged, renamed, missing or twice there."""
    if random.random() < 0.2:
        return raw.damaged(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    places = [*range(len(members))]
    texts = [place for place in places if members[place][0].endswith(".json")]  # what is understood, not only copied
    at = random.choice(texts if texts and random.random() < 0.5 else places)
    name, inside = members[at]
    way = random.random()
    if way < 0.06:
        del members[at]
        said = f"no {name}"
    elif way < 0.12:
        members[at] = random.choice(_NAMES) or "empty", inside
        said = f"{name} renamed"
    elif way < 0.18:
        members.append((name, raw.damaged(inside, random)[1]))
        said = f"{name} twice"
    else:
        how, inside = _damaged_member(name, inside, random)
        members[at], said = (name, inside), f"{name}: {how}"
    return said, zipped(members, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _damaged_member(name: str, content: bytes, random: Random) -> tuple[str, bytes]:
    if name.endswith(".json"):
        return damaged_json(content, random)
    if name.endswith(".h5"):
        return damaged_h5(content, random)
    if name.endswith(".npy"):
        return damaged_npy(content, random)
    return raw.damaged(content, random)


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these entries; the same bytes each time."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, _STAMP)
            entry.compress_type = method
            if name in archive.NameToInfo:  # twice on purpose; zipfile would warn
                del archive.NameToInfo[name]
            archive.writestr(entry, content)
    return made.getvalue()


def damaged_h5(content: bytes, random: Random) -> tuple[str, bytes]:
    """An HDF5 file with damaged bytes, or a sound one whose arrays and configuration contradict each other."""
    if random.random() < 0.3:
        return raw.damaged(content, random)
    held = io.BytesIO(content)
    with h5py.File(held, "r+") as file:
        if "model_config" in file.attrs and random.random() < 0.6:
            text = file.attrs["model_config"]
            said, tree = damaged_tree(json.loads(text), random)
            file.attrs["model_config"] = json.dumps(tree)
        else:
            said = _change_h5(file, random)
    return said, held.getvalue()


def _change_h5(file: Any, random: Random) -> str:
    names: list[str] = []
    file.visit(names.append)
    owners = [file, *(file[name] for name in sorted(names))]
    attributes = [(owner, key) for owner in owners for key in sorted(owner.attrs)]
    if attributes and random.random() < 0.3:
        owner, key = random.choice(attributes)
        wild = (b"", b"\xff\xfe", "x", 3, np.float32(0.5), np.zeros((2, 2), "i4"), np.array([b"x", b"y"]), b"[" * 5000)
        if random.random() < 0.3:
            del owner.attrs[key]
        else:
            owner.attrs[key] = random.choice(wild)
        return f"attribute {key}"
    name = random.choice(sorted(names) or ["x"])
    kept = file[name][()] if isinstance(file.get(name), h5py.Dataset) else None
    if name in file:
        del file[name]
    if random.random() < 0.75:
        file[name] = random.choice(_wild_arrays(kept if isinstance(kept, np.ndarray) else np.ones((2, 3), "f4"))[:14])
    return f"array {name}"


def damaged_folder(source: Path, target: Path, random: Random) -> str:
    """A SavedModel copied with one of its files damaged, away, or a folder instead; says which."""
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    chosen = random.choice(files)
    way = random.random()
    for path in files:
        content = (source / path).read_bytes()
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if path != chosen:
            place.write_bytes(content)
        elif way < 0.08:
            place.mkdir()
        elif way > 0.15:
            is_message = path.suffix == ".pb" and way < 0.7
            place.write_bytes((with_wild_message if is_message else raw.damaged)(content, random)[1])
    return str(chosen)


def damaged_npz(content: bytes, random: Random) -> tuple[str, bytes]:
    """Samples of other shapes, types and names, or an archive that is damaged."""
    if random.random() < 0.5:
        return damaged_zip(content, random)
    arrays = _arrays(content)
    name = random.choice(sorted(arrays))
    way = random.random()
    if way < 0.15:
        arrays[wild_word(name, random).replace("\x00", "")[:200] or "x"] = arrays.pop(name)
    elif way < 0.3:
        arrays[random.choice(("labels", "y", "x", name))] = random.choice(_wild_arrays(arrays[name]))
    else:
        arrays[name] = random.choice(_wild_arrays(arrays[name]))
    members = [(f"{key}.npy", _npy(array)) for key, array in arrays.items()]
    return f"array {name[:30]}", zipped(members, zipfile.ZIP_DEFLATED)


def damaged_samples(content: bytes, folder: Path, random: Random) -> str:
    """A folder of .npy files, of which one is damaged; says how."""
    folder.mkdir()
    array = next(iter(_arrays(content).values()))
    chosen = random.randrange(len(array))
    said = "no files" if not len(array) else ""
    for number, sample in enumerate(array):
        inside = _npy(sample)
        if number == chosen:
            if random.random() < 0.5:
                said, inside = damaged_npy(inside, random)
            else:
                said, inside = "array", _npy(random.choice(_wild_arrays(sample)))
        (folder / f"{number}.npy").write_bytes(inside)
    return said


def damaged_npy(content: bytes, random: Random) -> tuple[str, bytes]:
    """An array's file with damaged bytes, or with a header that says what is not so."""
    if random.random() < 0.4 or not content.startswith(b"\x93NUMPY"):
        return raw.damaged(content, random)
    size = struct.unpack("<H", content[8:10])[0]
    shapes = (
        "(1099511627776,)",
        "(-1,)",
        "()",
        "(0, 5)",
        "(2.5,)",
        "('x',)",
        "(" * 90,
        "None",
        "(1 << 40,)",
        "[3]",
        "(True,)",
    )
    types = (
        "'|O'",
        "'<U9'",
        "'|V4'",
        "'<c8'",
        "'>f4'",
        "'<M8[s]'",
        "'x'",
        "3",
        "[('a', '<i4')]",
        "'|b1'",
        "'<f2'",
        "'|S0'",
    )
    fields = {
        "descr": random.choice(types) if random.random() < 0.5 else "'<f4'",
        "fortran_order": random.choice(("False", "False", "True", "0", "'x'")),
        "shape": random.choice(shapes) if random.random() < 0.6 else "(1,)",
    }
    said = random.choice(("", ", 'more': 1", "}", "\x00", "\\"))
    header = "{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + said + "}\n"
    packed = header.encode("latin-1")
    return "header", content[:8] + struct.pack("<H", len(packed)) + packed + content[10 + size :]


def _arrays(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content)) as archive:
        return {name: archive[name] for name in archive.files}


def _npy(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def zipped_arrays(arrays: Mapping[str, Any]) -> bytes:
    """An .npz, the same bytes for the same arrays."""
    return zipped([(f"{name}.npy", _npy(array)) for name, array in arrays.items()], zipfile.ZIP_DEFLATED)


def _wild_arrays(array: Any) -> list[Any]:
    """Arrays that are not quite, or not at all, what is wanted; those that HDF5 has too come first."""
    with np.errstate(all="ignore"):
        as_real = array.astype("f4")
    return [
        array[:0], array[:1], array[..., None], np.stack([array, array]), array.reshape(-1), array.T, np.float32(1.0),
        np.full_like(as_real, np.nan), np.full_like(as_real, np.inf), np.full_like(as_real, 3e38), as_real * 0,
        array.astype("c8"), array.astype("S3"), np.zeros((0, 3), "i8"), array.astype("f8") * 1e300, array.astype("f2"),
        array.astype("U3"), array.astype("M8[s]"), array.astype(object), np.zeros(3, [("a", "i4"), ("b", "f4")]),
        np.array([None, {}, "x"], object), np.zeros((1,) * 31), as_real.astype("i8") + 2**40, array.astype(bool),
    ]  # fmt: skip

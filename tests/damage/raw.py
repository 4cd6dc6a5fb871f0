"""Damage to bytes, whatever they mean: cuts, flipped bits, wild words, pieces in other places."""

from collections.abc import Callable
from random import Random

WILD_WORDS = (0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000)
_EDGE_BYTES = 6000  # tables, where damage is interesting, are at either end of a model; constants lie between


def cut(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content))]


def flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def with_wild_words(content: bytes, random: Random) -> bytes:
    """Words overwritten with what breaks readers: huge, negative, or slightly wrong offsets and counts."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 4))):
        edge = min(max(len(changed) - 4, 1), _EDGE_BYTES)
        start = random.randrange(edge) if random.random() < 0.5 else len(changed) - 4 - random.randrange(edge)
        position = max(start, 0) // 4 * 4
        old = int.from_bytes(changed[position : position + 4], "little")
        new = random.choice((*WILD_WORDS, old + 4, max(old - 4, 0), len(content)))
        changed[position : position + 4] = (new & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(changed)


def with_pieces_moved(content: bytes, random: Random) -> bytes:
    """A piece copied over another, as a broken download or a bad merge leaves it."""
    changed = bytearray(content)
    size = min(random.choice((4, 16, 64, 256)), max(len(changed) // 2, 1))
    here, there = (random.randrange(max(len(changed) - size, 1)) for _ in range(2))
    changed[here : here + size] = content[there : there + size]
    return bytes(changed)


def with_bytes_missing(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + content[at + random.randrange(1, 64) :]


def with_bytes_added(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + random.randbytes(random.randrange(1, 64)) + content[at:]


def with_a_run_overwritten(content: bytes, random: Random) -> bytes:
    """A sector of zeros, ones or noise, as a failing disk gives it."""
    size = min(random.choice((16, 512, 4096)), len(content))
    at = random.randrange(len(content) - size + 1)
    run = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return content[:at] + run + content[at + size :]


def nothing_of_it(content: bytes, random: Random) -> bytes:
    """The file is there, and its content is none, the beginning alone, zeros, or noise."""
    return random.choice((b"", content[:8], content[:64], bytes(len(content)), random.randbytes(200)))


WAYS: dict[str, Callable[[bytes, Random], bytes]] = {
    "cut": cut,
    "flipped bits": flipped,
    "wild words": with_wild_words,
    "pieces moved": with_pieces_moved,
    "bytes missing": with_bytes_missing,
    "bytes added": with_bytes_added,
    "a run overwritten": with_a_run_overwritten,
    "nothing of it": nothing_of_it,
}


def damaged(content: bytes, random: Random) -> tuple[str, bytes]:
    """The content damaged in one way, and which way that is."""
    way = random.choice([*WAYS])
    return way, WAYS[way](content or b"\n", random)

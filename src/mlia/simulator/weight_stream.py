"""The entropy coding of weights: a stream of bits to numbers. All Ethos-U families; Ethos-U85 has another format too.

A stream is a sequence of slices; Vela's mlw codec is the source of the format, and a second opinion in the tests.
A slice has a header, then chunks. A chunk holds the unary parts of 12 weight indices and, alternating under a flow
control, of runs of zeros between the weights; the remainders of its symbols come in the next chunk. Where a chunk
begins depends on the bits of all before it, so that is a loop in Python, one turn for a chunk; numpy does the rest.
"""

import numpy
from msgspec import Struct
from numpy.typing import NDArray

from mlia.errors import SimulatorError

Ints = NDArray[numpy.int64]

_CHUNK = 12
_END = 7  # of a section, in the place of the zero runs' divisor: align to a byte, and begin anew
_NO_RUNS = 6
_RAW = 7  # in the place of the weights' divisor: no unary parts
_HEAD_START = 8  # weights stop when they are that far ahead of the runs
_LARGEST_INDEX = 511


class _Bits:
    """Bits of a stream by position, the lowest of each byte first: up to 24 at a time."""

    def __init__(self, content: bytes) -> None:
        padded = numpy.frombuffer(content + bytes(4), numpy.uint8).astype(numpy.int64)
        self.windows: Ints = padded[:-3] | padded[1:-2] << 8 | padded[2:-1] << 16 | padded[3:] << 24
        self.list: list[int] = self.windows.tolist()  # much faster one by one
        self.length = 8 * len(content)

    def read(self, position: int, width: int) -> int:
        return (self.list[position >> 3] >> (position & 7)) & ((1 << width) - 1)

    def gather(self, positions: Ints, width: int) -> Ints:
        taken: Ints = (self.windows[positions >> 3] >> (positions & 7)) & ((1 << width) - 1)
        return taken


class _Palette(Struct, frozen=True):
    """What an index means, as a folded value (sign in the lowest bit), and how wide an index is that is not coded."""

    folded: Ints
    raw_bits: int


class _Slice(Struct, frozen=True):
    """The header of a slice, with the palette that holds for it: its own, or that of the slice before."""

    count: int
    weight_divisor: int
    run_divisor: int
    has_runs: bool
    is_raw: bool
    is_truncated: bool
    is_first: bool  # of its palette: a run of zeros may come before the first weight
    palette: _Palette

    @property
    def run_count(self) -> int:
        return self.count + self.is_first if self.has_runs else 0


class _Chunks:
    """Where things are in a slice: per chunk the unary bits, where the remainders are, and how many symbols."""

    def __init__(self) -> None:
        self.unary: list[int] = []
        self.second: list[int] = []
        self.starts: list[int] = []
        self.counts: list[int] = []


def decode_stream(content: bytes) -> NDArray[numpy.int16]:
    """All weights of an entropy coded stream, in its order: -255..255.

    Raises:
        SimulatorError: the stream is damaged.
    """
    bits = _Bits(content)
    position, parts = 0, []
    palette: _Palette | None = None
    try:
        while True:
            while position < bits.length and bits.read(position, 3) == _END:
                position, palette = (position + 3 + 7) // 8 * 8, None
            if position // 8 >= len(content):
                break
            header, position = _read_header(bits, position, palette)
            palette = header.palette
            weights, runs, position = _walk(bits, position, header)
            parts.append(_slice_values(bits, header, weights, runs))
    except IndexError:
        raise SimulatorError("weights: a stream ends within a slice") from None
    if position > bits.length:
        raise SimulatorError("weights: a stream ends within a slice")
    return numpy.concatenate(parts) if parts else numpy.zeros(0, numpy.int16)


def _read_header(bits: _Bits, position: int, palette: _Palette | None) -> tuple[_Slice, int]:
    """The header of a slice at a position, and the position after it."""
    run_divisor, count = bits.read(position, 3), bits.read(position + 3, 15) + 1
    weight_divisor = bits.read(position + 18, 3)
    is_truncated, is_new = bits.read(position + 21, 1) == 1, bits.read(position + 22, 1) == 1
    position += 23
    if is_new:
        palette, position = _read_palette(bits, position)
    if palette is None or run_divisor in (4, 5) or weight_divisor == 6:
        without = " and without a palette" if palette is None else ""
        raise SimulatorError(
            f"weights: a slice with the divisors {weight_divisor}, {run_divisor}{without} is not known"
        )
    is_raw, has_runs = weight_divisor == _RAW, run_divisor != _NO_RUNS
    divisor = palette.raw_bits if is_raw else weight_divisor
    return _Slice(count, divisor, run_divisor, has_runs, is_raw, is_truncated, is_new, palette), position


def _read_palette(bits: _Bits, position: int) -> tuple[_Palette, int]:
    """The palette at a position, and the position after it: first values by themselves, then all from an offset on."""
    offset, size, width = bits.read(position, 5), bits.read(position + 5, 5), bits.read(position + 10, 3) + 2
    size += size > 0
    position += 13
    entries = [bits.read(position + index * width, width) for index in range(size)]
    direct = range(offset, offset + _LARGEST_INDEX + 1 - size)
    folded = numpy.array([*entries, *direct], numpy.int64)
    return _Palette(folded, (size - 1).bit_length() if size else width), position + size * width


def _walk(bits: _Bits, position: int, header: _Slice) -> tuple[_Chunks, _Chunks, int]:
    """The chunks of a slice, of weights and of runs, and the position after them."""
    weights, runs = _Chunks(), _Chunks()
    words = bits.list
    count, run_count, has_runs, is_raw = header.count, header.run_count, header.has_runs, header.is_raw
    unary_width = _CHUNK if header.run_divisor < 3 else 8
    raw_symbols = 8 if header.weight_divisor > 5 else _CHUNK
    begun = ended = run_begun = run_ended = waiting = runs_waiting = 0
    while True:
        # Weights and runs take turns: neither gets far ahead of the other.
        ahead = begun - run_begun if has_runs else 0
        is_weight = begun < count and ahead < _HEAD_START
        is_run = ahead >= 0 and run_begun < run_count
        unary = symbols = run_symbols = 0
        if is_weight and not is_raw:
            unary = words[position >> 3] >> (position & 7) & 0xFFF
            position += _CHUNK
        if is_run:
            ones = (words[position >> 3] >> (position & 7)) & ((1 << unary_width) - 1)
            position += unary_width
            run_symbols = unary_width - ones.bit_count()
            runs.unary.append(ones)
            run_begun += run_symbols
        if is_weight:
            width = unary.bit_count()
            second = (words[position >> 3] >> (position & 7)) & ((1 << width) - 1)
            position += width
            symbols = raw_symbols if is_raw else _CHUNK if header.is_truncated else _CHUNK - second.bit_count()
            weights.unary.append(unary)
            weights.second.append(second)
            begun += symbols
        if waiting:
            weights.starts.append(position)
            weights.counts.append(waiting)
            position += waiting * header.weight_divisor
        if runs_waiting:
            runs.starts.append(position)
            runs.counts.append(runs_waiting)
            position += runs_waiting * header.run_divisor
        if not is_weight and not is_run:
            return weights, runs, position
        waiting = min(symbols, count - ended)
        ended += waiting
        runs_waiting = min(run_symbols, run_count - run_ended)
        run_ended += runs_waiting


def _slice_values(bits: _Bits, header: _Slice, weights: _Chunks, runs: _Chunks) -> NDArray[numpy.int16]:
    """The weights of a slice, the zeros between them included."""
    quotients = numpy.zeros(header.count, numpy.int64) if header.is_raw else _quotients(weights, header.is_truncated)
    indices = _with_remainders(bits, quotients[: header.count], weights, header.weight_divisor)
    if int(indices.max()) >= len(header.palette.folded):
        raise SimulatorError(f"weights: index {int(indices.max())} is more than 9 bits")
    folded = header.palette.folded[indices]
    values = numpy.where(folded & 1, -(folded >> 1), folded >> 1).astype(numpy.int16)
    if not header.has_runs:
        return values
    lengths = _with_remainders(bits, _run_quotients(runs, header)[: header.run_count], runs, header.run_divisor)
    before = lengths if header.is_first else numpy.concatenate([numpy.zeros(1, numpy.int64), lengths])
    spread = numpy.zeros(header.count + int(lengths.sum()), numpy.int16)
    spread[numpy.cumsum(before[:-1] + 1) - 1] = values
    return spread


def _quotients(weights: _Chunks, is_truncated: bool) -> Ints:
    """The unary parts: 0 is 0, 1 is 10, 2 is 11 and goes on (or ends there, if truncated).

    The first bits of 12 codes come together, then the second bits of those that have one.
    """
    places = numpy.arange(_CHUNK)
    first = (numpy.array(weights.unary)[:, None] >> places) & 1
    rank = numpy.cumsum(first, axis=1) - first
    codes = first + (first & (numpy.array(weights.second)[:, None] >> rank))
    codes = codes.ravel()
    return codes if is_truncated else _sums(codes, codes < 2)


def _run_quotients(runs: _Chunks, header: _Slice) -> Ints:
    """The unary parts of runs: ones up to a zero."""
    width = _CHUNK if header.run_divisor < 3 else 8
    ones = (numpy.array(runs.unary)[:, None] >> numpy.arange(width)) & 1
    ones = ones.ravel()
    return _sums(ones, ones == 0)


def _sums(codes: Ints, is_end: NDArray[numpy.bool_]) -> Ints:
    """The sum of each stretch of codes that ends where `is_end` says."""
    return numpy.diff(numpy.cumsum(codes)[is_end], prepend=0)


def _with_remainders(bits: _Bits, quotients: Ints, chunks: _Chunks, divisor: int) -> Ints:
    """quotient * 2**divisor + remainder; the remainders of a chunk are side by side."""
    counts = numpy.array(chunks.counts, numpy.int64)
    first = numpy.cumsum(counts) - counts
    places = numpy.repeat(numpy.array(chunks.starts, numpy.int64) - first * divisor, counts)
    positions = places + numpy.arange(len(places)) * divisor
    if len(quotients) != len(positions):
        raise SimulatorError("weights: a slice has less weights than it says")
    return (quotients << divisor) + bits.gather(positions, divisor)

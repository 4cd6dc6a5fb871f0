"""In which order an NPU takes the weights of a convolution, and where it expects zeros as padding.

All families walk the same way, from outside to inside: blocks of output channels; blocks of input channels;
sub-kernels; steps of input channels; units of output channels; taps of the sub-kernel; units of input channels; output
channels of the unit; input channels of the unit. They differ in sizes, in the order of taps, and in where they pad.
A depthwise convolution is one with one input channel. Source: Vela's weight encoders (mlw codec, Regor).
"""

import numpy
from msgspec import Struct
from numpy.typing import NDArray

Ints = NDArray[numpy.int64]
Shape = tuple[int, int, int, int]

_PADDING = -(1 << 40)  # stays negative with any offset added


class Traversal(Struct, frozen=True):
    """How one stream of weights is ordered.

    A step of `input_step` input channels goes through all taps before the next; inputs are filled with padding up to
    it. `lanes` are the channels of an output unit that are in this stream. Taps are filled with padding to a multiple
    of `tap_group`, and each such group is followed by `extra_taps` more of padding.
    """

    output_block: int
    output_unit: int
    lanes: tuple[int, ...]
    input_block: int
    input_step: int
    input_unit: int
    sub_kernel: tuple[int, int]  # height, width
    tap_group: int = 1
    extra_taps: int = 0
    phases: tuple[int, int] = (1, 1)  # a strided kernel takes its taps phase by phase (Ethos-U85)
    is_serpentine: bool = False  # every second row of taps, and block of outputs, goes backwards (Ethos-U85)
    is_column_first: bool = False  # of sub-kernels (Ethos-U85)
    first_output: int = 0  # of every `output_stride`: two cores have every second output each (Ethos-U65)
    output_stride: int = 1


def order(traversal: Traversal, shape: Shape) -> Ints:
    """For each weight of a stream its place in an array of `shape` (outputs, height, width, inputs); padding is < 0."""
    total, height, width, inputs = shape
    dealt = range(traversal.first_output, total, traversal.output_stride)
    outputs = len(dealt)
    patterns: dict[Shape, Ints] = {}
    parts = []
    for number, output in enumerate(range(0, outputs, traversal.output_block)):
        blocks = range(0, inputs, traversal.input_block)
        for begin in reversed(blocks) if traversal.is_serpentine and number % 2 else blocks:
            for y, x in _sub_kernels(traversal, height, width):
                # Parts of one size are alike, but for where they begin.
                rows, columns = min(height - y, traversal.sub_kernel[0]), min(width - x, traversal.sub_kernel[1])
                size = _outputs(traversal, outputs - output), rows, columns, min(inputs - begin, traversal.input_block)
                if size not in patterns:
                    patterns[size] = _pattern(traversal, size, shape)
                parts.append(patterns[size] + ((dealt[output] * height + y) * width + x) * inputs + begin)
    return numpy.concatenate(parts) if parts else numpy.zeros(0, numpy.int64)


def _sub_kernels(traversal: Traversal, height: int, width: int) -> list[tuple[int, int]]:
    """Where sub-kernels begin, as (y, x)."""
    rows, columns = range(0, height, traversal.sub_kernel[0]), range(0, width, traversal.sub_kernel[1])
    if traversal.is_column_first:
        return [(y, x) for x in columns for y in rows]
    return [(y, x) for y in rows for x in columns]


def _outputs(traversal: Traversal, remaining: int) -> int:
    """How many channels a block of outputs has: whole units, even where they are more than the block."""
    block = min(traversal.output_block, remaining)
    return min(-(-block // traversal.output_unit) * traversal.output_unit, remaining)


def _pattern(traversal: Traversal, size: Shape, shape: Shape) -> Ints:
    """The order within one block of outputs, block of inputs and sub-kernel, relative to where it begins."""
    outputs, rows, columns, inputs = size
    _, height, width, depth = shape
    places = [place if place is None else place[0] * width + place[1] for place in _taps(traversal, rows, columns)]
    taps = numpy.array([_PADDING if place is None else place * depth for place in places])
    steps = numpy.arange(0, inputs, traversal.input_step)
    units = numpy.arange(0, traversal.input_step, traversal.input_unit)
    channels = numpy.arange(traversal.input_unit)
    source = steps[:, None, None, None, None, None] + units[:, None, None] + channels
    source = numpy.where(source < inputs, source, _PADDING)
    blocks = numpy.arange(0, outputs, traversal.output_unit)
    target = blocks[:, None, None, None, None] + numpy.array(traversal.lanes)[:, None]
    stride = traversal.output_stride * height * width * depth
    target = numpy.where(target < outputs, target * stride, _PADDING)
    pattern: Ints = (source + target + taps[:, None, None, None]).ravel()
    return pattern


def _taps(traversal: Traversal, rows: int, columns: int) -> list[tuple[int, int] | None]:
    """The taps of a sub-kernel in their order, None being padding."""
    taps: list[tuple[int, int] | None] = []
    down, across = traversal.phases
    for phase_y in range(down):
        for phase_x in range(across):
            for row, y in enumerate(range(phase_y, rows, down)):
                line = range(phase_x, columns, across)
                taps += [(y, x) for x in (reversed(line) if traversal.is_serpentine and row % 2 else line)]
    taps += [None] * (-len(taps) % traversal.tap_group)
    grouped = [taps[begin : begin + traversal.tap_group] for begin in range(0, len(taps), traversal.tap_group)]
    return [tap for group in grouped for tap in [*group, *[None] * traversal.extra_taps]]

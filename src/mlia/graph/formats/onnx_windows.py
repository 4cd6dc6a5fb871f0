"""Where the windows of ONNX's convolutions, pools and resizes lie: sizes and padding, from the operators' text.

Source: https://onnx.ai/onnx/operators/ (Conv, ConvTranspose, MaxPool, AveragePool, Resize, Upsample).
"""

from collections.abc import Sequence
from math import ceil, floor
from typing import Any

import numpy
from msgspec import Struct

from mlia.graph.formats.onnx_model import Node


class Windows(Struct, frozen=True):
    """Per spatial axis: kernel, stride, dilation, padding before and behind, and the size of the output.

    `behind` is what the attributes say; a pool that rounds up reads beyond it.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    output: tuple[int, ...]

    def reach(self, axis: int, size: int) -> int:
        """How far behind the input the last window reads; negative where it ends inside."""
        span = (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return (self.output[axis] - 1) * self.stride[axis] + span - self.before[axis] - size


def windows_of(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a convolution or a pool over spatial `sizes`."""
    rank = len(sizes)
    kernel = tuple(node.integers("kernel_shape") or kernel)
    stride = tuple(node.integers("strides") or [1] * rank)
    dilation = tuple(node.integers("dilations") or [1] * rank)
    if not len(kernel) == len(stride) == len(dilation) == rank or min(*kernel, *stride, *dilation) < 1:
        node.refuse(f"its kernel {kernel}, strides {stride} and dilations {dilation} do not fit {rank} axes")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = node.integers("pads") or [0] * 2 * rank
    if len(pads) != 2 * rank or min(pads) < 0:
        node.refuse(f"its pads are {pads}")
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        output = tuple(-(-size // s) for size, s in zip(sizes, stride, strict=True))
        totals = [
            max((o - 1) * s + span - size, 0) for o, s, span, size in zip(output, stride, spans, sizes, strict=True)
        ]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, behind = (small, large) if auto == "SAME_UPPER" else (large, small)
        return Windows(kernel, stride, dilation, before, behind, output)
    if auto == "VALID":
        pads = [0] * 2 * rank
    before, behind = tuple(pads[:rank]), tuple(pads[rank:])
    rounds_up = bool(node.integer("ceil_mode", 0))
    sized = []
    for axis, size in enumerate(sizes):
        room = size + before[axis] + behind[axis] - spans[axis]
        count = (-(-room // stride[axis]) if rounds_up else room // stride[axis]) + 1
        if rounds_up and (count - 1) * stride[axis] >= size + before[axis]:
            count -= 1  # a window must not start behind the input
        sized.append(count)
    if min(sized) < 1:
        node.refuse(f"its kernel {kernel} is larger than its input {tuple(sizes)}")
    return Windows(kernel, stride, dilation, before, behind, tuple(sized))


def transposed_windows_of(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Windows:
    """The windows of a ConvTranspose: `before` and `behind` are cut from the full output (negative: added to it)."""
    rank = len(sizes)
    kernel = tuple(node.integers("kernel_shape") or kernel)
    stride = tuple(node.integers("strides") or [1] * rank)
    dilation = tuple(node.integers("dilations") or [1] * rank)
    extra = node.integers("output_padding") or [0] * rank
    wanted = node.integers("output_shape")[-rank:]
    pads = node.integers("pads") or [0] * 2 * rank
    if not len(kernel) == len(stride) == len(dilation) == len(extra) == rank or len(pads) != 2 * rank:
        node.refuse(f"its attributes do not fit {rank} axes")
    if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0:
        node.refuse(f"its kernel is {kernel}, its strides {stride} and its pads {pads}")
    auto = node.text("auto_pad", "NOTSET")
    full = [s * (size - 1) + (k - 1) * d + 1 for s, size, k, d in zip(stride, sizes, kernel, dilation, strict=True)]
    if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = wanted or [size * s for size, s in zip(sizes, stride, strict=True)]
        totals = [f + e - w for f, e, w in zip(full, extra, wanted, strict=True)]
        halves = [t // 2 for t in totals]
        others = [t - h for t, h in zip(totals, halves, strict=True)]
        first, last = (halves, others) if auto == "SAME_UPPER" else (others, halves)
        before, behind = tuple(first), tuple(e - x for e, x in zip(last, extra, strict=True))
    else:
        pads = [0] * 2 * rank if auto == "VALID" else pads
        before, behind = tuple(pads[:rank]), tuple(p - e for p, e in zip(pads[rank:], extra, strict=True))
    output = tuple(f - b - e for f, b, e in zip(full, before, behind, strict=True))
    if min(output) < 1:
        node.refuse(f"its output would have the sizes {output}")
    return Windows(kernel, stride, dilation, before, behind, output)


class Resizing(Struct, frozen=True):
    """What a Resize does along one axis: for each place of the output, weights of places of the input."""

    size: int
    output: int
    weights: Any  # (output, size), float64

    @property
    def is_identity(self) -> bool:
        return self.size == self.output and bool((self.weights == numpy.eye(self.size)).all())

    @property
    def places(self) -> list[int] | None:
        """The one place that each output is a copy of; None where outputs are mixed."""
        if not ((self.weights == 0) | (self.weights == 1)).all():
            return None
        return [int(place) for place in self.weights.argmax(axis=1)]


def resizings_of(node: Node, shape: Sequence[int], scales: Sequence[float], sizes: Sequence[int]) -> list[Resizing]:
    """What a Resize or an Upsample does along each axis; `scales` or `sizes` is empty."""
    axes = [axis % len(shape) for axis in node.integers("axes")] or list(range(len(shape)))
    if len(scales or sizes) != len(axes):
        node.refuse("its scales or sizes do not fit its axes")
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.refuse("it keeps the aspect ratio")
    is_old = node.kind == "Upsample" or node.opset < 11
    mode = node.text("mode", "nearest")
    where = "asymmetric" if is_old else node.text("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if is_old else node.text("nearest_mode", "round_prefer_floor")
    found = []
    for axis, size in enumerate(shape):
        if axis not in axes:
            found.append(Resizing(size, size, numpy.eye(size)))
            continue
        place = axes.index(axis)
        output = int(sizes[place]) if sizes else floor(size * float(scales[place]) + 1e-6)
        scale = output / size if sizes else float(scales[place])
        if output < 1 or output > 1 << 15 or output * size > 1 << 26:
            node.refuse(f"its output would have the size {output}")
        if scale < 1 and node.integer("antialias", 0):
            node.refuse("it smooths what it makes smaller (antialias)")
        spots = [_spot(node, where, x, size, output, scale) for x in range(output)]
        found.append(Resizing(size, output, _weights(node, mode, rounding, spots, size)))
    return found


def _spot(node: Node, where: str, x: int, size: int, output: int, scale: float) -> float:
    """Where in the input an output's place lies."""
    if size == output and scale == 1:
        return float(x)
    if where == "asymmetric":
        return x / scale
    if where == "align_corners":
        length = scale * size  # which is not whole where a scale is given
        return x * (size - 1) / (length - 1) if length != 1 else 0.0
    if where == "half_pixel" or (where == "pytorch_half_pixel" and output > 1):
        return (x + 0.5) / scale - 0.5
    if where == "pytorch_half_pixel":
        return 0.0
    if where == "half_pixel_symmetric":
        return size / 2 * (1 - output / (scale * size)) + (x + 0.5) / scale - 0.5
    return node.refuse(f"its coordinate_transformation_mode is {where}")


def _weights(node: Node, mode: str, rounding: str, spots: Sequence[float], size: int) -> Any:
    weights = numpy.zeros((len(spots), size))
    for row, spot in enumerate(spots):
        if mode == "nearest":
            rounded = {
                "round_prefer_floor": ceil(spot - 0.5), "round_prefer_ceil": floor(spot + 0.5), "floor": floor(spot),
                "ceil": ceil(spot),
            }  # fmt: skip
            if rounding not in rounded:
                node.refuse(f"its nearest_mode is {rounding}")
            weights[row, min(max(rounded[rounding], 0), size - 1)] = 1
        elif mode in ("linear", "bilinear"):
            low = floor(spot)
            weights[row, min(max(low, 0), size - 1)] += 1 - (spot - low)
            weights[row, min(max(low + 1, 0), size - 1)] += spot - low
        elif mode == "cubic" and not node.integer("exclude_outside", 0):
            low = floor(spot)
            for tap, factor in enumerate(_cubic(spot - low, node.number("cubic_coeff_a", -0.75))):
                weights[row, min(max(low - 1 + tap, 0), size - 1)] += factor
        else:
            node.refuse(f"its mode is {mode}")
    return weights


def _cubic(rest: float, a: float) -> list[float]:
    """Weights of the four neighbors (Keys, 1981)."""
    outer, inner = (1 + rest, 2 - rest), (rest, 1 - rest)
    far = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in outer]
    near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in inner]
    return [far[0], near[0], near[1], far[1]]

"""What the remedies for limits of single operators compute, on odd sizes, and what they refuse."""

from functools import partial

import pytest

from mlia.errors import TransformError
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.testing import fixed
from mlia.transforms.remedies import kernels, pooling, reductions, resizing, slices, transposing, upsampling
from mlia.transforms.remedies.places import Place, place_of
from tests.rules.cases import limits_axes as axes
from tests.rules.cases import limits_kernels as models
from tests.transforms.remedies.limits_proof import furthest

DEPTHWISE = (
    {"stride": (4, 4)},
    {"stride": (5, 4), "kernel": (5, 2)},
    {"stride": (6, 4), "dilation": (2, 3)},
    {"stride": (4, 7), "kernel": (1, 1)},
    {"stride": (4, 4), "filters": 12},
    {"stride": (4, 4), "kernel": (4, 4), "padding": "VALID", "activation": "RELU6"},
)


@pytest.mark.parametrize("options", DEPTHWISE)
@pytest.mark.parametrize("change", [kernels.subsampled_depthwise, kernels.depthwise_as_convolution])
def test_depthwise_with_large_strides(options, change):
    assert furthest(models.depthwise(**options), partial(change, places=[Place("conv")])) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"stride": (4, 4)},
        {"stride": (7, 4), "kernel": (5, 2)},
        {"stride": (4, 5), "dilation": (2, 3), "padding": "VALID"},
        {"stride": (4, 4), "dilation": (3, 1)},
        {"stride": (4, 4), "kernel": (1, 1), "dilation": (2, 2)},
    ],
)
def test_convolutions_with_large_strides(options):
    assert furthest(models.convolution(**options), partial(kernels.plain_convolutions, places=[Place("conv")])) == 0


@pytest.mark.parametrize(
    ("stride", "kernel", "padding", "size"),
    [
        ((3, 3), (3, 3), "SAME", None),
        ((4, 2), (2, 5), "SAME", None),
        ((3, 5), (7, 4), "VALID", None),
        ((2, 2), (3, 3), "SAME", (9, 11)),
        ((2, 2), (2, 2), "VALID", (11, 13)),
        ((8, 8), (16, 16), "SAME", None),
        ((3, 3), (1, 1), "VALID", None),
    ],
)
def test_transposed_convolutions(stride, kernel, padding, size):
    content = models.transposed(stride, kernel, padding, size)
    assert furthest(content, partial(upsampling.convolutions_interleaved, places=[Place("transposed")])) == 0


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3), (4, 4)), ((9, 9), (9, 9)), ((5, 3), (4, 5)), ((10, 2), (7, 2))]
)
def test_pools_in_parts(kind, kernel, stride):
    content = models.pool(kind, kernel, stride, "SAME")
    assert furthest(content, partial(pooling.pools_in_parts, places=[Place("pool")])) == 0


@pytest.mark.parametrize(("kernel", "stride"), [((7, 7), (5, 5)), ((3, 3), (4, 4)), ((2, 9), (1, 6))])
def test_max_pools_padded_or_in_steps(kernel, stride):
    content = models.highest(kernel, stride, "SAME")
    assert furthest(content, partial(pooling.padded_max_pools, places=[Place("pool")])) == 0
    assert furthest(content, partial(pooling.max_pools_in_steps, places=[Place("pool")])) == 0


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pools_of_another_shape(kind):
    for kernel, width in (((300, 1), 3), ((280, 2), 2)):
        content = models.pool(kind, kernel, (1, 1), "VALID", (1, kernel[0], width, 2))
        assert furthest(content, partial(pooling.pools_of_another_shape, places=[Place("pool")])) == 0


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((9, 9), (1, 1), "SAME"), ((11, 4), (2, 1), "SAME"), ((9, 3), (1, 1), "VALID")]
)
def test_averages_by_convolution_are_off_by_at_most_two_codes(kernel, stride, padding):
    content = models.average(kernel, stride, padding)
    assert furthest(content, partial(pooling.averages_by_convolution, places=[Place("pool")])) <= 2


@pytest.mark.parametrize(("aligned", "centered"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(12, 15), (8, 20), (7, 9), (2, 3), (1, 5), (4, 10), (13, 5)])
def test_nearest_neighbor_of_any_size(size, aligned, centered):
    for dtype in ("int8", "int16"):
        content = models.nearest(size, aligned, centered, dtype=dtype)
        assert furthest(content, partial(resizing.copies, places=[Place("resize")])) == 0


@pytest.mark.parametrize(
    ("size", "aligned", "centered"),
    [
        ((12, 15), False, False),
        ((12, 15), False, True),
        ((10, 13), True, False),
        ((8, 20), False, False),
        ((8, 20), False, True),
        ((6, 10), False, True),
        ((7, 7), True, False),
        ((2, 5), False, True),
    ],
)
def test_bilinear_by_convolutions_is_close(size, aligned, centered):
    content = models.bilinear(size, aligned, centered)
    assert furthest(content, partial(resizing.interpolating_convolutions, places=[Place("resize")])) <= 4


@pytest.mark.parametrize(
    ("begin", "end", "step"),
    [
        ((0, 0, 0, 0), (2, 5, 6, 7), (1, 1, 1, 3)),
        ((1, 4, -1, 6), (2, 0, -6, 1), (1, -1, -2, -2)),
        ((0, 1, 0, 0), (2, 5, 6, 7), (2, 3, 1, 1)),
        ((-1, 0, 0, 2), (-9, 5, 6, 3), (-1, 2, 2, 4)),
    ],
)
def test_slices_of_any_axis_and_direction(begin, end, step):
    content = axes.strided((2, 5, 6, 7), begin, end, step)
    assert furthest(content, partial(slices.forward_slices, places=[Place("strided")])) == 0


@pytest.mark.parametrize(
    ("shape", "over"), [((2, 3, 4, 5), (0,)), ((3, 5), (1, 0)), ((7,), (0,)), ((2, 1, 4, 3), (1, 2))]
)
def test_reversed_axes(shape, over):
    assert furthest(axes.reverse(shape, over), partial(slices.mirrored, places=[Place("reverse")])) == 0


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("shape", "over"),
    [
        ((1, 3, 5, 7), (3,)),
        ((2, 3, 5, 7), (1, 3)),
        ((1, 3, 5, 7), (2, 3)),
        ((1, 3, 4, 5, 6), (1, 2, 4)),
        ((2, 5000), (1,)),
    ],
)
def test_means_of_another_shape(shape, over, keep):
    for dtype in ("int8", "int16"):
        content = axes.mean(shape, over, dtype, keep)
        assert furthest(content, partial(reductions.means_of_another_shape, places=[Place("mean")])) == 0


def test_means_in_two_steps_are_off_by_one_code():
    content = axes.mean((1, 5000, 1, 4), (1,))
    assert furthest(content, partial(reductions.means_in_two_steps, places=[Place("mean")])) == 1


def test_softmax_in_batches_or_parts():
    for shape in ((2, 33000, 2), (1, 65537, 2)):  # the second is a prime: parts
        assert furthest(axes.softmax(shape), partial(reductions.softmax_in_batches, places=[Place("softmax")])) == 0


def test_argmax_finds_the_first_of_equals():
    for axis in (0, 1, 2):
        change = partial(reductions.argmax_over_depth, places=[Place("argmax")])
        assert furthest(axes.argmax((3, 6, 2, 5), axis), change) == 0


@pytest.mark.parametrize(
    ("shape", "order", "dtype"),
    [
        ((2, 3, 4, 5), (3, 1, 0, 2), "int32"),
        ((3, 1, 4, 1, 5), (4, 2, 3, 1, 0), "int32"),
        ((70000, 2), (1, 0), "int8"),
        ((2, 5, 200, 100), (3, 1, 2, 0), "int8"),
        ((2, 5, 3, 4), (0, 2, 3, 1), "int16"),
    ],
)
def test_transposes_in_parts(shape, order, dtype):
    content = axes.transpose(shape, order, dtype)
    assert furthest(content, partial(transposing.merged_transposes_in_parts, places=[Place("transpose")])) == 0


def test_matmul_in_columns():
    change = partial(transposing.matmul_in_columns, places=[Place("matmul")])
    assert furthest(axes.matmul((1, 2, 3), (1, 3, 65540)), change) == 0
    assert furthest(axes.matmul((1, 2, 3), (1, 65540, 3), adjoint=True), change) == 0


@pytest.mark.parametrize(
    ("change", "content"),
    [
        (kernels.plain_convolutions, models.depthwise()),
        (kernels.subsampled_depthwise, models.convolution()),
        (upsampling.convolutions_interleaved, models.convolution()),
        (pooling.pools_in_parts, models.average((2, 2), (2, 2), "VALID")),
        (pooling.pools_in_parts, models.average((9, 9), (1, 1), "SAME")),
        (pooling.max_pools_in_steps, models.average((2, 2), (2, 2), "VALID")),
        (pooling.pools_of_another_shape, models.average((2, 2), (2, 2), "VALID")),
        (resizing.copies, models.bilinear((8, 10))),
        (resizing.interpolating_convolutions, models.bilinear((7, 9))),
        (resizing.half_pixel_centers_only, models.bilinear((8, 10))),
        (slices.mirrored, axes.transpose((2, 3), (1, 0))),
        (reductions.means_of_another_shape, axes.mean((1, 5003, 1, 4), (1,))),
        (reductions.argmax_over_depth, axes.softmax((2, 3))),
        (transposing.matmul_of_int8, axes.matmul((1, 2, 3), (1, 3, 4))),
    ],
)
def test_what_cannot_be_done_is_refused(change, content):
    graph = read_tflite(content)
    found = [place_of(graph.main, operator) for operator in graph.operators]
    places = [place for place in found if place is not None]
    with pytest.raises(TransformError):
        change(graph, places)


def test_only_what_is_named_changes():
    content = axes.cut(2)
    graph: Graph = read_tflite(fixed(partial(slices.mirrored, places=[Place("turn_1")]), content))
    assert [operator.kind for operator in graph.operators].count("REVERSE_V2") == 1
    with pytest.raises(TransformError, match="nothing to change"):
        slices.mirrored(read_tflite(content), [Place("nowhere")])

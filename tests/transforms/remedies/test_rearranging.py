"""Remedies that move the same bytes by operators of the NPU: bit by bit, in odd shapes."""

import pytest

from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.testing import fixed
from mlia.transforms.proof import prove
from mlia.transforms.remedies.rearranging import (
    MOST_SLICES,
    broadcasts_as_tiles,
    gathers_as_slices,
    runs,
    space_moved_by_transposes,
)
from mlia.transforms.remedies.substitutes import smallest_as_largest, softmax_at_the_end
from tests.rules.cases import compat_kinds as models
from tests.rules.cases.compat_sketches import one

PADDED = (([2, 3], "int32"), ([[0, 1], [2, 1]], "int32"))
CROPPED = (([3, 2], "int32"), ([[1, 0], [0, 3]], "int32"))


@pytest.mark.parametrize(
    "build",
    [
        one("DEPTH_TO_SPACE", "DepthToSpaceOptions", source=(2, 3, 5, 18), shape=(2, 9, 15, 2), block_size=3),
        one("SPACE_TO_DEPTH", "SpaceToDepthOptions", source=(2, 6, 9, 2), shape=(2, 2, 3, 18), block_size=3),
        one("SPACE_TO_DEPTH", "SpaceToDepthOptions", shape=(1, 8, 8, 8), block_size=1),
        one("SPACE_TO_BATCH_ND", "SpaceToBatchNDOptions", source=(2, 7, 9, 3), shape=(12, 4, 4, 3), constants=PADDED),
        one("BATCH_TO_SPACE_ND", "BatchToSpaceNDOptions", source=(12, 4, 5, 3), shape=(2, 11, 7, 3), constants=CROPPED),
    ],
)
def test_space_is_moved_alike(build):
    content = build()
    changed = fixed(space_moved_by_transposes, content)
    assert prove(content, changed) == ""
    kinds = {operator.kind for operator in read_tflite(changed).operators}
    assert kinds <= {"CONV_2D", "RESHAPE", "TRANSPOSE", "PAD", "SLICE"}


@pytest.mark.parametrize(
    ("indexes", "axis", "shape"),
    [([7, 0, 1, 2], 3, (1, 8, 8, 4)), ([[1, 2], [5, 0]], 1, (1, 2, 2, 8, 8)), ([3], -2, (1, 8, 1, 8))],
)
def test_gather_is_sliced(indexes, axis, shape):
    content = models.gather(indexes, shape, axis)
    changed = fixed(gathers_as_slices, content)
    assert prove(content, changed) == ""
    assert "GATHER" not in {operator.kind for operator in read_tflite(changed).operators}


def test_too_many_runs_stay():
    indexes = [7, 0] * MOST_SLICES
    with pytest.raises(TransformError, match="runs"):
        fixed(gathers_as_slices, models.gather(indexes, (1, 8, 8, len(indexes))))


def test_runs():
    assert runs([4, 5, 6, 1, 1, 2]) == [(4, 3), (1, 1), (1, 2)]
    assert runs([]) == []


def test_broadcast_along_two_axes():
    content = one("BROADCAST_TO", source=(1, 8, 8, 1), shape=(5, 8, 8, 2), constants=(([5, 8, 8, 2], "int32"),))()
    assert prove(content, fixed(broadcasts_as_tiles, content)) == ""


def test_the_smallest_is_found_where_several_are():
    content = models.arg_min()
    assert prove(content, fixed(smallest_as_largest, content)) == ""


@pytest.mark.parametrize(
    "change",
    [space_moved_by_transposes, gathers_as_slices, broadcasts_as_tiles, smallest_as_largest, softmax_at_the_end],
)
def test_nothing_to_change_is_told(change):
    with pytest.raises(TransformError):
        fixed(change, models.top_k())

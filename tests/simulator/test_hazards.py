"""Hazards: Vela's streams have none, and streams that are damaged have those that they must have."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.backends.simulator.hazards import hazards_of, memory_of
from mlia.backends.simulator.session import addresses_of, streams_of
from mlia.backends.vela.process import compile_model
from mlia.graph.graph import Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.block_dependency import early_reads
from mlia.simulator.container import Config
from mlia.simulator.differences import Trait, known_difference
from mlia.simulator.feature_maps import write
from mlia.simulator.footprints import TABLES, box
from mlia.simulator.hazards import Hazard, HazardKind, find_hazards
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, FeatureMap, Operation, Padding, Range, Tiles, Transfer, Wait
from mlia.targets.profiles import load_target
from tests.conftest import SAMPLE
from tests.simulator.fuzzing import TARGETS, compiled
from tests.simulator.single_operators import KINDS, draw
from tests.simulator.sketch import OperatorSketch


class Setting:
    """One stream and the memory that it works on."""

    def __init__(self, content: bytes) -> None:
        graph = read_tflite(content)
        ((place, stream),) = streams_of(graph).items()
        self.operations: tuple[Operation, ...] = stream.operations
        self.config: Config = stream.program.config
        operator = graph.main.operators[place[1]]
        self.regions, self.initial, self.aliases = memory_of(graph.main, operator, addresses_of(graph)[0])

    def hazards(self, operations: Sequence[Operation], **changed: Any) -> list[Hazard]:
        given = {"regions": self.regions, "initial": self.initial, "aliases": self.aliases} | changed
        return find_hazards(operations, self.config, **given)

    def changed(self, index: int, change: Callable[[Any], Operation]) -> list[Operation]:
        operations = list(self.operations)
        operations[index] = change(operations[index])
        return operations

    def indexes(self, kind: type) -> list[int]:
        return [index for index, operation in enumerate(self.operations) if isinstance(operation, kind)]


@cache
def setting(kind: str, dtype: str, target: str, seed: int = 0) -> Setting:
    return Setting(compiled(draw(kind, dtype, seed), target))


@cache
def keywords(target: str) -> Setting:
    """A real model, with weights that come in parts and buffers that are used again."""
    return Setting(compile_model(SAMPLE.read_bytes(), load_target(target), 120).model)


def moved(feature_map: FeatureMap, by: int) -> FeatureMap:
    first, *others = feature_map.tiles.bases
    return replace(feature_map, tiles=replace(feature_map.tiles, bases=(first + by, *others)))


def box_of(feature_map: FeatureMap) -> tuple[int, int]:
    """Address and length of a map without gaps."""
    spans = ((0, size) for size in (feature_map.height, feature_map.width, feature_map.depth))
    ((begin, end),) = box(feature_map, *spans).tolist()
    return begin, end - begin


@pytest.mark.parametrize("number", range(0, len(KINDS), 3))
def test_streams_of_vela_are_clean(number: int) -> None:
    name, kind = list(KINDS.items())[number]
    target = TARGETS[number // 3 % len(TARGETS)]
    target = target if kind.runs_on(target.rpartition("-")[0], kind.dtypes[-1]) else "ethos-u85-256"
    assert hazards_of(read_tflite(compiled(draw(name, kind.dtypes[-1], number), target))) == []


@pytest.mark.parametrize("target", ["ethos-u55-32", "ethos-u55-256", "ethos-u65-512", "ethos-u85-256"])
def test_no_wait_can_be_left_out(target: str) -> None:
    for stream in (keywords(target), setting("cascade", "int8", target), setting("softmax", "int8", target)):
        assert stream.hazards(stream.operations) == []
        waits = stream.indexes(Wait)
        assert waits
        for index in waits:
            left = [operation for place, operation in enumerate(stream.operations) if place != index]
            found = stream.hazards(left)
            assert {hazard.kind for hazard in found} == {HazardKind.WAIT}
            assert all(hazard.earlier is not None and hazard.earlier < hazard.offset for hazard in found)


@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-u65-256", "ethos-u85-512"])
def test_no_wait_can_be_for_fewer(target: str) -> None:
    stream = keywords(target)
    kinds = set()
    for index in stream.indexes(Wait):
        kinds.add(stream.operations[index].kind)
        longer = stream.changed(index, lambda wait: replace(wait, outstanding=wait.outstanding + 1))
        assert {hazard.kind for hazard in stream.hazards(longer)} == {HazardKind.WAIT}
    assert kinds == {"dma", "kernel"}


def test_an_input_that_is_not_there_is_read_before_anything_is_written() -> None:
    stream = setting("cascade", "int8", "ethos-u55-128")
    constants = [place for place in stream.initial if place.region == 0]
    found = stream.hazards(stream.operations, initial=constants)
    first = stream.operations[stream.indexes(Compute)[0]]
    assert isinstance(first, Compute)
    assert (found[0].kind, found[0].what, found[0].offset) == (HazardKind.UNWRITTEN, "ifm", first.offset)
    assert "ifm read before anything is written" in str(found[0])


def test_weights_that_no_transfer_brings_are_read_before_anything_is_written() -> None:
    stream = keywords("ethos-u55-128")
    for index in stream.indexes(Transfer):
        left = [operation for place, operation in enumerate(stream.operations) if place != index]
        found = stream.hazards(left)
        assert {hazard.kind for hazard in found} <= {HazardKind.UNWRITTEN, HazardKind.WAIT}
        # Where a buffer is used again, its bytes are old, not missing: only the first time can be told.
        if index == stream.indexes(Transfer)[0]:
            assert {hazard.what for hazard in found} & {"weights", "scales"}


def test_a_table_that_is_not_loaded_is_found() -> None:
    stream = setting("tanh", "int8", "ethos-u55-64")
    left = [operation for operation in stream.operations if not isinstance(operation, Transfer)]
    found = stream.hazards(left)
    assert [(hazard.kind, hazard.what, hazard.place.region) for hazard in found] == [
        (HazardKind.UNWRITTEN, "table", TABLES)
    ]
    assert "the look-up memory" in str(found[0])


def test_accumulators_overwrite_tables_where_there_is_little_memory() -> None:
    for target, is_lost in (("ethos-u55-64", True), ("ethos-u55-256", False)):
        stream = setting("tanh", "int8", target)
        (index,) = stream.indexes(Compute)
        kernel = stream.operations[index]
        assert isinstance(kernel, Compute)
        plain = replace(kernel, activation=replace(kernel.activation, function="none"))
        found = stream.hazards([*stream.operations[:index], plain, *stream.operations[index:]])
        assert [hazard.kind for hazard in found if hazard.kind == HazardKind.UNWRITTEN] == (
            [HazardKind.UNWRITTEN] if is_lost else []
        )


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-512"])
def test_swapped_kernels_read_what_is_not_written(target: str) -> None:
    stream = setting("cascade", "int8", target)
    first, second = stream.indexes(Compute)[:2]
    operations = list(stream.operations)
    operations[first], operations[second] = operations[second], operations[first]
    assert HazardKind.UNWRITTEN in {hazard.kind for hazard in stream.hazards(operations)}


@pytest.mark.parametrize("what", ["ifm", "ofm"])
@pytest.mark.parametrize("by", [-(1 << 24), 1 << 24])
def test_a_shifted_address_leaves_its_region(what: str, by: int) -> None:
    stream = setting("add", "int8", "ethos-u65-256")
    (index,) = stream.indexes(Compute)
    operations = stream.changed(index, lambda kernel: replace(kernel, **{what: moved(getattr(kernel, what), by)}))
    found = stream.hazards(operations)
    assert [(hazard.kind, hazard.what) for hazard in found] == [(HazardKind.OUTSIDE, what)]


def test_an_unknown_region_has_no_bytes() -> None:
    stream = setting("add", "int8", "ethos-u65-256")
    (index,) = stream.indexes(Compute)
    operations = stream.changed(index, lambda kernel: replace(kernel, ofm=replace(kernel.ofm, region=6)))
    assert [hazard.kind for hazard in stream.hazards(operations)] == [HazardKind.OUTSIDE]


def test_a_result_that_is_elsewhere_is_missed() -> None:
    stream = setting("residual", "int8", "ethos-u55-256")
    index = stream.indexes(Compute)[0]
    operations = stream.changed(index, lambda kernel: replace(kernel, ofm=replace(kernel.ofm, region=2)))
    found = stream.hazards(operations, regions=stream.regions | {2: 1 << 20}, aliases={})
    assert {hazard.kind for hazard in found} == {HazardKind.UNWRITTEN}
    assert found[0].bytes > 0


def test_outputs_must_be_written_to_their_end() -> None:
    stream = setting("add", "int8", "ethos-u65-256")
    (index,) = stream.indexes(Compute)
    kernel = stream.operations[index]
    assert isinstance(kernel, Compute)
    (address, length), region = box_of(kernel.ofm), kernel.ofm.region
    assert stream.hazards(stream.operations, outputs=[Range(region, address, length)]) == []
    (found,) = stream.hazards(stream.operations, outputs=[Range(region, address + 8, length)])
    assert (found.kind, found.bytes, found.place.address) == (HazardKind.MISSING, 8, address + length)


def test_what_vela_does_not_write_of_mirrored_channels_is_found() -> None:
    net = OperatorSketch("mirrored channels", "int8", 0)
    pads = net.constant("pads", np.array([[0, 0], [0, 0], [0, 0], [1, 2]], np.int32))
    made = net.one("MIRROR_PAD", [net.x((1, 2, 3, 6)), pads], (1, 2, 3, 9), None, "MirrorPadOptions", mode="REFLECT")
    model = compile_model(write_tflite(net.graph([made])), load_target("ethos-u55-128"), 120).model
    ((_, found),) = hazards_of(read_tflite(model))
    assert (found.kind, found.bytes) == (HazardKind.MISSING, 2 * 3 * 3)
    assert known_difference("MIRROR_PAD", "int8", "ethos-u55", {Trait.MIRRORS_CHANNELS}) is not None


def test_an_output_over_its_input_is_found_unless_it_is_in_place() -> None:
    stream = setting("convolution_3x3", "int8", "ethos-u55-128", seed=3)
    index = stream.indexes(Compute)[0]
    by = {"ofm": lambda kernel: replace(kernel, ofm=replace(kernel.ofm, tiles=kernel.ifm.tiles))}
    found = stream.hazards(stream.changed(index, by["ofm"]))
    assert HazardKind.OVERLAP in {hazard.kind for hazard in found}
    stream = setting("relu", "int16", "ethos-u55-128")
    index = stream.indexes(Compute)[0]
    same = stream.changed(index, lambda kernel: replace(kernel, ofm=replace(kernel.ofm, tiles=kernel.ifm.tiles)))
    assert stream.hazards(same) == []
    for size, is_found in ((1 << 10, False), (1, True)):  # in one block, all is read before anything is written
        by_one = stream.changed(index, lambda kernel: replace(kernel, ofm=moved(kernel.ifm, 2)))
        kernel = by_one[index]
        assert isinstance(kernel, Compute)
        by_one[index] = replace(kernel, block=replace(kernel.block, height=size, width=size, depth=size))
        kinds = {hazard.kind for hazard in stream.hazards(by_one, regions={0: 1 << 20, 1: 1 << 20})}
        assert (HazardKind.OVERLAP in kinds) == is_found


@pytest.mark.parametrize("target", ["ethos-u55-64", "ethos-u65-512", "ethos-u85-1024"])
def test_a_block_dependency_that_is_too_large_is_found(target: str) -> None:
    stream = setting("cascade", "int8", target, seed=2)
    found = []
    for index in stream.indexes(Compute):
        changed = stream.changed(index, lambda kernel: replace(kernel, block_dependency=7))
        found += stream.hazards(changed)
    assert found
    assert {hazard.kind for hazard in found} == {HazardKind.DEPENDENCY}


def softmax_of_many(target: str) -> bytes:
    """A SOFTMAX over many classes: its sums read their input depth by depth."""
    net = OperatorSketch("many classes", "int8", 0)
    made = net.one(
        "SOFTMAX", [net.x((1, 1001))], (1, 1001), Quantization((1 / 256,), (-128,)), "SoftmaxOptions", beta=1.0
    )
    return compile_model(write_tflite(net.graph([made])), load_target(target), 120).model


def resized_after_convolution(target: str) -> bytes:
    """A resize, which reads a few rows at a time of what was computed in few blocks."""
    net = OperatorSketch("resized", "int8", 0)
    x = net.filter("CONV_2D", net.image("x", (1, 6, 6, 192)), filters=96, kernel=(1, 1))
    x = net.plain(
        "RESIZE_NEAREST_NEIGHBOR", x, net.integers("size", 12, 12), shape=(1, 12, 12, 96),
        table="ResizeNearestNeighborOptions", name="resized", align_corners=False, half_pixel_centers=False,
    )  # fmt: skip
    return compile_model(write_tflite(net.graph([x])), load_target(target), 120).model


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-256", "ethos-u85-256"])
@pytest.mark.parametrize("model", [softmax_of_many, resized_after_convolution])
def test_what_reads_part_by_part_may_begin_early(model: Callable[[str], bytes], target: str) -> None:
    assert hazards_of(read_tflite(model(target))) == []


def test_a_dependency_that_only_one_count_forbids_cannot_be_ruled_out() -> None:
    """A 1x1 convolution with stride 2 reads rows 0 and 2, then 4 and 6; by Vela's count 0 to 2, then 3 to 5."""
    stream = setting("convolution_1x1", "int8", "ethos-u55-128")
    kernel = stream.operations[stream.indexes(Compute)[0]]
    assert isinstance(kernel, Compute)
    whole = FeatureMap(1, Tiles((0, 0, 0, 0), 9, 9, 9), 9, 9, 16, 144, 16, 1, 1, True, False, 0)
    plain = replace(kernel, padding=Padding(0, 0, 0, 0), upscale="none")
    before = replace(plain, ofm=whole, block=replace(kernel.block, height=3, width=9, depth=16))
    strided = replace(
        plain,
        ifm=whole,
        ofm=replace(moved(whole, 1 << 16), height=5, width=5),
        kernel=replace(kernel.kernel, size=(1, 1), stride=(2, 2), is_part_kernel_first=False),
        block=replace(kernel.block, height=2, width=5, depth=16),
    )
    found = [
        [each.is_certain for each in early_reads(replace(strided, block_dependency=n), before, stream.config, {})]
        for n in range(4)
    ]
    assert found == [[], [], [False], [True]]


def test_a_stream_finds_what_an_earlier_one_left_in_the_arena() -> None:
    """The sum reads what the first convolution wrote, around an operator of the host that does not."""
    net = OperatorSketch("kept", "int8", 0)
    first = net.filter("CONV_2D", net.image("x", (1, 6, 6, 8)), filters=8, name="first")
    second = net.filter("CONV_2D", first, filters=8, name="second")
    mean = net.plain(
        "MEAN", second, net.integers("axes", 3), shape=(1, 6, 6, 1), name="mean", table="ReducerOptions", keep_dims=True
    )
    options = {"fused_activation_function": "NONE", "pot_scale_int16": False}
    both = net.one("ADD", [first, mean], (1, 6, 6, 8), net.Q, "AddOptions", **options)
    content = write_tflite(net.graph([both]))
    model = read_tflite(compile_model(content, load_target("ethos-u55-128"), 120).model)
    assert [each.kind for each in model.main.operators] == ["CUSTOM", "MEAN", "CUSTOM"]
    assert hazards_of(model) == []
    # The same with an operator of the host that writes over all of the arena.
    addresses = addresses_of(model)[0]
    operator, stream = model.main.operators[2], streams_of(model)[0, 2]
    regions, initial, aliases = memory_of(model.main, operator, addresses)
    alone = find_hazards(stream.operations, stream.program.config, regions, initial, aliases)
    assert {hazard.kind for hazard in alone} == {HazardKind.UNWRITTEN}


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_more_memory_and_more_that_is_valid_never_add_a_hazard(data: st.DataObject) -> None:
    stream = setting("cascade", "int8", "ethos-u55-128")
    index = data.draw(st.sampled_from(stream.indexes(Compute)))
    by = data.draw(st.integers(-5000, 5000))
    what = data.draw(st.sampled_from(["ifm", "ofm"]))
    operations = stream.changed(index, lambda kernel: replace(kernel, **{what: moved(getattr(kernel, what), by)}))
    found = stream.hazards(operations)
    everything = [Range(region, 0, size) for region, size in stream.regions.items()]
    assert set(stream.hazards(operations, initial=everything)) <= set(found)
    larger = {region: size + 10000 for region, size in stream.regions.items()}
    in_larger = stream.hazards(operations, regions=larger)
    assert {h.kind for h in in_larger if h.kind == HazardKind.OUTSIDE and h.place.address >= 0} == set()


@st.composite
def feature_maps(draw_one: st.DrawFn) -> FeatureMap:
    height, width, depth = draw_one(st.integers(1, 6)), draw_one(st.integers(1, 6)), draw_one(st.integers(1, 40))
    size, is_brick = draw_one(st.sampled_from([1, 2, 4])), draw_one(st.booleans())
    stride_x = (16 if is_brick else depth) * size + size * draw_one(st.integers(0, 3))
    stride_y = stride_x * width + size * draw_one(st.integers(0, 3))
    stride_c = stride_y * height if is_brick else size
    bases = tuple(20000 + size * draw_one(st.integers(0, 500)) for _ in range(4))
    signs = draw_one(st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1])))
    tiles = Tiles(
        (bases[0], bases[1], bases[2], bases[3]),
        draw_one(st.integers(1, width)),
        draw_one(st.integers(1, height)),
        draw_one(st.integers(1, height)),
    )
    return FeatureMap(
        0, tiles, height, width, depth, signs[0] * stride_y, signs[1] * stride_x, stride_c, size, True, is_brick, 0
    )


@given(feature_maps())
@settings(deadline=None)
def test_the_bytes_of_a_feature_map_are_those_that_writing_it_changes(feature_map: FeatureMap) -> None:
    content = np.zeros(60000, np.uint8)
    shape = (feature_map.height, feature_map.width, feature_map.depth)
    write(Memory({0: content}), feature_map, np.full(shape, -1))
    found = box(feature_map, (0, shape[0]), (0, shape[1]), (0, shape[2]))
    expected = np.zeros(60000, np.uint8)
    for begin, end in found.tolist():
        expected[begin:end] = 255
    assert (content == expected).all()


@given(feature_maps(), st.data())
@settings(deadline=None)
def test_boxes_put_together_are_the_feature_map(feature_map: FeatureMap, data: st.DataObject) -> None:
    sizes = (feature_map.height, feature_map.width, feature_map.depth)
    cuts = [data.draw(st.integers(0, size)) for size in sizes]
    covered = set()
    for corner in np.ndindex(2, 2, 2):
        spans = [((0, cut), (cut, size))[side] for cut, size, side in zip(cuts, sizes, corner, strict=True)]
        covered |= {byte for begin, end in box(feature_map, *spans).tolist() for byte in range(begin, end)}
    everything = box(feature_map, *((0, size) for size in sizes)).tolist()
    assert covered == {byte for begin, end in everything for byte in range(begin, end)}

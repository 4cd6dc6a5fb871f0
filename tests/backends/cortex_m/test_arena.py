import ctypes
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE, wake_words
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.backends.cortex_m.arena import OFFLINE_PLAN, Arena, ArenaTensor, Buffer, place, plan_arena
from mlia.backends.cortex_m.arena_scratch import scratch_sizes
from mlia.backends.cortex_m.arena_tail import KERNELS, PYTHON_PACKAGE, Runtime, layout_bytes
from mlia.graph.graph import Graph, Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import Sketch, quantize_synthetically

Q = Quantization((0.1,), (0,))
AXES = np.array([1, 2], np.int32)
REAL_MODELS = [
    "mlperf_tiny/kws_ref_model.tflite",
    "mlperf_tiny/pretrainedResnet.tflite",
    "mlperf_tiny/pretrainedResnet_quant.tflite",
    "tflite_micro/micro_speech_quantized.tflite",
    "tflite_micro/trained_lstm_int8.tflite",
    "calibration/ad_medium_int8.tflite",
    "calibration/kws_micronet_m.tflite",
    "calibration/single_operators/conv3x3_12x3.tflite",
    "calibration/single_operators/dw3x3_12x3.tflite",
]


# Placing


def test_a_chain_alternates_between_two_ends() -> None:
    chain = [Buffer("a", 64, 0, 1), Buffer("b", 48, 1, 2), Buffer("c", 32, 2, 3), Buffer("d", 16, 3, 4)]
    assert place(chain) == [0, 64, 0, 32]


def test_the_largest_is_placed_first_and_the_lowest_gap_is_taken() -> None:
    buffers = [Buffer("a", 16, 0, 3), Buffer("b", 96, 0, 1), Buffer("c", 48, 2, 3), Buffer("d", 32, 1, 2)]
    # b at 0; c shares its place; d beside b; a fits behind c only where b and d are not: at the end.
    assert place(buffers) == [128, 0, 0, 96]


def test_a_gap_between_two_is_used_when_it_is_large_enough() -> None:
    buffers = [Buffer("low", 64, 1, 2), Buffer("under", 96, 0, 1), Buffer("high", 48, 0, 2), Buffer("late", 32, 2, 2)]
    assert place(buffers) == [96, 0, 160, 0]
    assert place([*buffers, Buffer("later", 48, 2, 2)]) == [96, 0, 160, 48, 0]


def test_among_equals_the_last_goes_first() -> None:
    assert place([Buffer("a", 32, 0, 1), Buffer("b", 32, 0, 1), Buffer("c", 32, 0, 1)]) == [64, 32, 0]


def test_a_fixed_offset_is_kept_and_planned_around() -> None:
    assert place([Buffer("a", 64, 0, 1), Buffer("b", 32, 0, 1, offset=16)]) == [48, 16]
    assert place([Buffer("a", 64, 0, 1), Buffer("b", 32, 0, 1, offset=64)]) == [0, 64]


def test_nothing_to_place() -> None:
    assert place([]) == []


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 12)), max_size=30))
def test_what_lives_together_never_overlaps(drawn: list[tuple[int, int, int]]) -> None:
    buffers = [
        Buffer(str(index), 16 * size, min(begin, end), max(begin, end))
        for index, (size, begin, end) in enumerate(drawn)
    ]
    placed = list(zip(buffers, place(buffers), strict=True))
    for (one, low), (other, high) in combinations(placed, 2):
        if one.first <= other.last and other.first <= one.last:
            assert low + one.size_bytes <= high or high + other.size_bytes <= low
    top = max((offset + buffer.size_bytes for buffer, offset in placed), default=0)
    alive = [sum(one.size_bytes for one in buffers if one.first <= step <= one.last) for step in range(13)]
    assert max(alive) <= top <= sum(buffer.size_bytes for buffer in buffers)
    assert all(offset % 16 == 0 for _, offset in placed)


# Lives


def by_name(arena: Arena) -> dict[str, ArenaTensor]:
    return {tensor.name: tensor for tensor in arena.tensors}


def test_inputs_live_from_the_start_and_outputs_to_the_end() -> None:
    net = Sketch("lives")
    x, late = net.input("x", (1, 8)), net.input("late", (1, 8))
    early = net.unary("TANH", x, "early")
    last = net.unary("TANH", net.unary("TANH", early, "second"), "third")
    total = net.operator("ADD", [last, late], (1, 8), "sum", options_table="AddOptions")
    arena = plan_arena(net.graph([early, total]))
    lives = {name: (tensor.first, tensor.last) for name, tensor in by_name(arena).items()}
    assert lives == {"x": (0, 0), "late": (0, 3), "early": (0, 3), "second": (1, 2), "third": (2, 3), "sum": (3, 3)}
    # early, late and, at any operator between, what it reads and what it writes.
    assert arena.nonpersistent_bytes == 4 * 32
    assert arena.peak_operator == 2


def test_a_reshape_copies() -> None:
    net = Sketch("reshape")
    x = net.unary("TANH", net.input("x", (1, 4, 8)), "tanh")
    arena = plan_arena(net.graph([net.reshape(x, (1, 32))]))
    assert arena.nonpersistent_bytes == 2 * 128


def test_odd_sizes_are_aligned() -> None:
    net = Sketch("odd")
    x = net.input("x", (1, 17), "int8", Q)
    arena = plan_arena(net.graph([net.unary("TANH", x, "y")]))
    assert [tensor.size_bytes for tensor in arena.tensors] == [32, 32]


def test_a_branch_is_kept_until_it_is_joined() -> None:
    net = Sketch("branch")
    x = net.input("x", (1, 64))
    side = net.unary("TANH", x, "side")
    main = net.unary("TANH", net.unary("TANH", x, "first"), "second")
    y = net.operator("ADD", [side, main], (1, 64), "sum", options_table="AddOptions")
    assert plan_arena(net.graph([y])).nonpersistent_bytes == 3 * 256


def test_a_subgraph_lives_while_its_operator_does() -> None:
    main = Sketch("main")
    x = main.input("x", (1, 64))
    options: dict[str, bool | int | float | str | tuple[int | float, ...] | None]
    options = {"cond_subgraph_index": 1, "body_subgraph_index": 2}
    looped = main.operator("WHILE", [x], (1, 64), "while", options_table="WhileOptions", options=options)
    graph = main.graph([main.unary("TANH", looped, "after")])
    condition, body = Sketch("condition"), Sketch("body")
    c, b = condition.input("c", (1, 64)), body.input("b", (1, 64))
    tested = condition.operator("LESS", [c, c], (), "less", dtype="bool")
    condition_graph = condition.graph([tested]).main
    body_graph = body.graph([body.unary("TANH", b, "next")]).main
    graph = replace(graph, subgraphs=(graph.main, replace(condition_graph, index=1), replace(body_graph, index=2)))
    arena = plan_arena(graph)
    tensors = by_name(arena)
    assert {(tensors[name].first, tensors[name].last) for name in ("c", "b", "next", "less")} == {(0, 0)}
    # What the operator reads and writes stays while the body has its two; the condition's are gone by then.
    assert arena.nonpersistent_bytes == 4 * 256
    assert arena.peak_operator == 0


def test_a_subgraph_that_calls_itself_ends() -> None:
    net = Sketch("endless")
    x = net.input("x", (1, 4))
    options: dict[str, bool | int | float | str | tuple[int | float, ...] | None]
    options = {"cond_subgraph_index": 0, "body_subgraph_index": 0}
    y = net.operator("WHILE", [x], (1, 4), "while", options_table="WhileOptions", options=options)
    assert plan_arena(net.graph([y])).nonpersistent_bytes == 2 * 16


def test_a_model_without_operators_has_no_peak() -> None:
    assert plan_arena(Sketch("empty").graph([])).peak_operator == -1


# Scratch


def int8_operator(kind: str, kernel: tuple[int, ...], shape: tuple[int, ...], **options: int | str) -> Graph:
    net = Sketch("one")
    x = net.input("x", shape, "int8", Q)
    chosen = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1} | options
    inputs = [x, net.constant("w", np.zeros(kernel, np.int8), Q)] if kernel else [x]
    return net.graph([net.operator(kind, inputs, shape, "y", options=chosen)])


def scratch(graph: Graph, extension: str) -> list[int]:
    return scratch_sizes(graph.main, graph.operators[0], True, extension)


@pytest.mark.parametrize(
    ("graph", "none", "dsp", "mve"),
    [
        # 2 columns of 16 bits, values rounded up to 4; on MVE 4 of bytes, rounded up to 8.
        (int8_operator("CONV_2D", (8, 3, 3, 3), (1, 8, 8, 3)), [112], [112], [128]),
        (int8_operator("CONV_2D", (8, 1, 1, 3), (1, 8, 8, 3)), [], [], []),
        (int8_operator("CONV_2D", (8, 1, 1, 3), (1, 8, 8, 3), dilation_h_factor=2), [16], [16], [32]),
        (int8_operator("CONV_2D", (8, 1, 5, 4), (1, 1, 8, 4)), [80], [80], []),
        (int8_operator("DEPTHWISE_CONV_2D", (1, 3, 3, 8), (1, 8, 8, 8)), [], [], [4 * 124 * 9]),
        (int8_operator("DEPTHWISE_CONV_2D", (1, 5, 5, 8), (1, 8, 8, 8)), [], [2 * 200], [4 * 124 * 25]),
        (int8_operator("DEPTHWISE_CONV_2D", (1, 3, 3, 16), (1, 8, 8, 8)), [], [], []),
        (int8_operator("AVERAGE_POOL_2D", (), (1, 8, 8, 8)), [], [32], []),
    ],
)
def test_scratch_of_cmsis_nn(graph: Graph, none: list[int], dsp: list[int], mve: list[int]) -> None:
    assert (scratch(graph, "none"), scratch(graph, "DSP"), scratch(graph, "MVE")) == (none, dsp, mve)
    assert scratch_sizes(graph.main, graph.operators[0], False, "MVE") == []


def test_scratch_of_16_bit_convolutions() -> None:
    """Columns of twice the width, for 1x1 too; not rounded up without MVE. None for depthwise ones."""
    net = Sketch("one")
    x = net.input("x", (1, 8, 8, 3), "int16", Q)
    weights = net.constant("w", np.zeros((8, 1, 1, 3), np.int8), Q)
    graph = net.graph([net.operator("CONV_2D", [x, weights], (1, 8, 8, 8), "y")])
    assert (scratch(graph, "DSP"), scratch(graph, "MVE")) == ([2 * 2 * 3], [4 * 2 * 8])
    depthwise = replace(graph.operators[0], kind="DEPTHWISE_CONV_2D")
    assert scratch_sizes(graph.main, depthwise, True, "MVE") == []


def test_scratch_of_a_transposed_convolution() -> None:
    net = Sketch("one")
    x = net.input("x", (1, 4, 4, 8), "int8", Q)
    sizes, weights = net.constant("s", np.array([1, 8, 8, 2], np.int32)), np.zeros((2, 3, 3, 8), np.int8)
    inputs = [sizes, net.constant("w", weights, Q), x]
    y = net.operator("TRANSPOSE_CONV", inputs, (1, 8, 8, 2), "y", dtype="int8", options={"stride_h": 2, "stride_w": 2})
    graph = net.graph([y])
    assert scratch(graph, "DSP") == [4 * (3 * 2 + 3) * 2 * 3]
    # With more than 16 channels it runs as a convolution: its columns, and its weights turned around.
    tensors = list(graph.main.tensors)
    tensors[0] = replace(tensors[0], shape=(1, 4, 4, 24))
    tensors[2] = replace(tensors[2], shape=(2, 3, 3, 24))
    wide = replace(graph.main, tensors=tuple(tensors))
    assert scratch_sizes(wide, graph.operators[0], True, "DSP") == [2 * 2 * 216, 2 * 216]
    assert scratch_sizes(graph.main, graph.operators[0], False, "none") == [4 * 128]


def test_scratch_makes_the_head_larger() -> None:
    graph = int8_operator("CONV_2D", (3, 3, 3, 3), (1, 8, 8, 3))
    plain, dsp = plan_arena(graph), plan_arena(graph, cmsis_nn=True, extension="DSP")
    assert (plain.scratch_bytes, dsp.scratch_bytes) == (0, 112)
    assert dsp.nonpersistent_bytes == plain.nonpersistent_bytes + 112


# The tail


@given(st.lists(st.sampled_from("pdihb"), min_size=1, max_size=12))
def test_structures_are_laid_out_as_a_compiler_does(fields: list[str]) -> None:
    kinds = {"p": ctypes.c_void_p, "d": ctypes.c_double, "i": ctypes.c_int32, "h": ctypes.c_int16, "b": ctypes.c_bool}
    compiled = type("Compiled", (ctypes.Structure,), {"_fields_": [(f"f{n}", kinds[f]) for n, f in enumerate(fields)]})
    pointer = ctypes.sizeof(ctypes.c_void_p)
    assert layout_bytes(" ".join(fields), pointer) == (ctypes.sizeof(compiled), ctypes.alignment(compiled))


def test_sizes_of_structures_on_both_targets() -> None:
    """TfLiteTensor, TfLiteEvalTensor, NodeAndRegistration and what a convolution keeps."""
    layouts = ["i 4p 4i b", "2p i", "6p i p", KERNELS["CONV_2D"].data]
    assert [layout_bytes(layout, 8)[0] for layout in layouts] == [64, 24, 64, 72]
    assert [layout_bytes(layout, 4)[0] for layout in layouts] == [40, 12, 32, 56]


def test_a_microcontroller_needs_a_smaller_tail() -> None:
    graph = read_tflite(SAMPLE.read_bytes())
    small, large = plan_arena(graph), plan_arena(graph, runtime=Runtime(8))
    assert small.nonpersistent_bytes == large.nonpersistent_bytes
    assert large.persistent_bytes / 2 < small.persistent_bytes < large.persistent_bytes
    assert large.persistent_bytes < plan_arena(graph, runtime=PYTHON_PACKAGE).persistent_bytes


def test_wake_words_fit_into_what_is_reserved_for_them_on_32_bits() -> None:
    """ESPHome reserves `tensor_arena_size` for them on ESP32, with some room and scratch buffers of other kernels."""
    for path in wake_words():
        reserved = json.loads(path.with_suffix(".json").read_text())["micro"]["tensor_arena_size"]
        assert reserved / 2 < plan_arena(read_tflite(path.read_bytes())).minimum_bytes <= reserved


# TFLM itself


@pytest.fixture
def tflm(capfd: pytest.CaptureFixture[str]) -> Callable[[bytes], tuple[int, int]]:
    """Head and tail that the interpreter reports."""
    runtime = pytest.importorskip("tflite_micro", reason="the tflite-micro package is not there").runtime

    def report(content: bytes) -> tuple[int, int]:
        capfd.readouterr()
        runtime.Interpreter.from_bytes(content, arena_size=1 << 24).print_allocations()
        text = capfd.readouterr().err
        head, tail = re.search(r"head (\d+)", text), re.search(r"tail (\d+)", text)
        assert head is not None
        assert tail is not None
        return int(head[1]), int(tail[1])

    return report


def assert_close(content: bytes, reported: tuple[int, int]) -> None:
    arena = plan_arena(read_tflite(content), runtime=PYTHON_PACKAGE)
    assert arena.nonpersistent_bytes == reported[0]
    assert reported[1] <= arena.persistent_bytes <= 1.05 * reported[1]


@pytest.mark.parametrize("path", [SAMPLE, *wake_words()], ids=lambda path: path.stem)
def test_models_need_what_tflm_reports(path: Path, tflm: Callable[[bytes], tuple[int, int]]) -> None:
    content = path.read_bytes()
    assert_close(content, tflm(content))


@pytest.mark.parametrize("name", REAL_MODELS)
def test_shared_models_need_what_tflm_reports(
    name: str, shared: Path, tflm: Callable[[bytes], tuple[int, int]]
) -> None:
    content = (shared / name).read_bytes()
    assert_close(content, tflm(content))


def pooled(net: Sketch, kind: str, x: int) -> int:
    options: dict[str, bool | int | float | str | tuple[int | float, ...] | None] = {"keep_dims": False}
    inputs = [x, net.constant(f"{kind}/axes", AXES)]
    return net.operator(kind, inputs, (1, net.shape(x)[3]), kind, options_table="ReducerOptions", options=options)


def varied() -> bytes:
    """Many kinds of operators in one model."""
    net = Sketch("varied")
    x = net.convolution(net.input("x", (1, 8, 8, 4)), filters=6, kernel=(3, 3))
    for kind in ("TANH", "LOGISTIC", "HARD_SWISH", "RELU"):
        x = net.operator("ADD", [x, net.unary(kind, x, kind)], net.shape(x), f"{kind}/sum", options_table="AddOptions")
    x = net.operator("MUL", [x, x], net.shape(x), "product", options_table="MulOptions")
    x = net.operator("PAD", [x, net.constant("p", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))],
                     (1, 10, 10, 6), "pad", options_table="PadOptions")  # fmt: skip
    x = net.operator("CONCATENATION", [x, x], (1, 10, 10, 12), "both", options_table="ConcatenationOptions",
                     options={"axis": 3, "fused_activation_function": "NONE"})  # fmt: skip
    x = pooled(net, "MEAN", net.average_pool(net.depthwise(x), kernel=(2, 2)))
    return write_tflite(net.graph([net.softmax(net.fully_connected(x, units=5))]))


def moved() -> bytes:
    """Operators that mostly move values, and products of two computed matrices."""
    net = Sketch("moved")
    x = net.input("x", (1, 8, 8, 4))
    x = net.operator("MIRROR_PAD", [x, net.constant("p", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))],
                     (1, 10, 10, 4), "pad", options_table="MirrorPadOptions", options={"mode": "REFLECT"})  # fmt: skip
    x = net.operator("RESIZE_BILINEAR", [x, net.constant("size", np.array([20, 20], np.int32))], (1, 20, 20, 4),
                     "large", options_table="ResizeBilinearOptions", options={"half_pixel_centers": True})  # fmt: skip
    slices = [net.constant(f"slice/{n}", np.array(n, np.int32)) for n in ((0, 0, 0, 0), (1, 10, 20, 4), (1, 1, 1, 1))]
    x = net.operator("STRIDED_SLICE", [x, *slices], (1, 10, 20, 4), "half", options_table="StridedSliceOptions",
                     options={"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0,
                              "shrink_axis_mask": 0})  # fmt: skip
    x = net.operator("TRANSPOSE", [x, net.constant("order", np.array([0, 2, 1, 3], np.int32))], (1, 20, 10, 4),
                     "turned", options_table="TransposeOptions")  # fmt: skip
    y = net.operator("BATCH_MATMUL", [x, net.unary("TANH", x, "tanh")], (1, 20, 10, 10), "product",
                     options_table="BatchMatMulOptions", options={"adj_y": True})  # fmt: skip
    return write_tflite(net.graph([net.unary("LOG_SOFTMAX", y, "log")]))


@pytest.mark.parametrize("quantized", [False, True])
def test_moved_values_need_what_tflm_reports(quantized: bool, tflm: Callable[[bytes], tuple[int, int]]) -> None:
    content = quantize_synthetically(moved()) if quantized else moved()
    assert_close(content, tflm(content))


@pytest.mark.parametrize("quantized", [False, True])
def test_varied_operators_need_what_tflm_reports(quantized: bool, tflm: Callable[[bytes], tuple[int, int]]) -> None:
    content = quantize_synthetically(varied()) if quantized else varied()
    assert_close(content, tflm(content))


def test_an_offline_plan_is_followed_as_tflm_does(tflm: Callable[[bytes], tuple[int, int]]) -> None:
    graph = read_tflite(SAMPLE.read_bytes())
    offsets = [-1] * len(graph.main.tensors)
    offsets[graph.main.outputs[0]] = 40_000
    plan = memoryview(struct.pack(f"<3i{len(offsets)}i", 1, 0, len(offsets), *offsets))
    content = write_tflite(replace(graph, metadata={OFFLINE_PLAN: plan}))
    assert tflm(content)[0] == 40_016
    assert_close(content, tflm(content))


def starts(path: Path, arena_bytes: int) -> bool:
    code = (
        "import sys; from pathlib import Path; from tflite_micro import runtime;"
        "runtime.Interpreter.from_bytes(Path(sys.argv[1]).read_bytes(), arena_size=int(sys.argv[2]))"
    )
    # In a process of its own, which may crash.
    return subprocess.run([sys.executable, "-c", code, path, str(arena_bytes)], capture_output=True).returncode == 0


def test_the_smallest_arena_that_a_model_starts_in() -> None:
    pytest.importorskip("tflite_micro", reason="the tflite-micro package is not there")
    path = wake_words()[-1]
    arena = plan_arena(read_tflite(path.read_bytes()), runtime=PYTHON_PACKAGE)
    assert arena.minimum_bytes > arena.size_bytes
    # The interpreter may lose up to 15 bytes to the alignment of the arena itself.
    assert starts(path, arena.minimum_bytes + 15)
    assert not starts(path, arena.minimum_bytes - 64)

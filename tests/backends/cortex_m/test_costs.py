"""What an operator costs: orderings that hold on every core, and growth with size."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.backends.cortex_m.costs import CpuCycles, cycles_of
from mlia.backends.cortex_m.coverage import ACTIVATION_INPUT, SUPPORTED, WEIGHT_TYPES
from mlia.backends.cortex_m.work import TERMS, count_work
from mlia.graph.builder import GraphBuilder
from mlia.graph.graph import Graph, OptionValue, Quantization, Tensor
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.targets.cores import Core, core_names, load_core
from mlia.testing import Sketch, quantize_synthetically

Q = Quantization((0.1,), (0,))
CORES = {name: load_core(name) for name in core_names()}
EACH_CORE = pytest.mark.parametrize("core", CORES.values(), ids=core_names())


def one(
    kind: str,
    out: tuple[int, ...],
    *inputs: tuple[tuple[int, ...], str],
    constants: int = 0,
    **options: OptionValue,
) -> Graph:
    """One operator; the last `constants` inputs are constants."""
    net = GraphBuilder("one")
    indexes = []
    for position, (shape, dtype) in enumerate(inputs):
        data = memoryview(b"\1") if position >= len(inputs) - constants else memoryview(b"")
        indexes.append(net.tensor(Tensor(f"t{position}", shape, dtype, Q, data)))
    return net.graph([net.operator(kind, indexes, out, "out", options=options)])


def convolution(pixels: int, depth: int, filters: int, side: int = 1, dtype: str = "int8", weight: str = "") -> Graph:
    ifm = ((1, pixels, 4, depth), dtype)
    weights = ((filters, side, side, depth), weight or ("float32" if dtype == "float32" else "int8"))
    return one("CONV_2D", (1, pixels, 4, filters), ifm, weights, constants=1)


def depthwise(pixels: int, channels: int, side: int = 3, dtype: str = "int8", **options: OptionValue) -> Graph:
    ifm, weight = ((1, pixels, 4, channels), dtype), "float32" if dtype == "float32" else "int8"
    weights = ((1, side, side, channels), weight)
    return one("DEPTHWISE_CONV_2D", (1, pixels, 4, channels), ifm, weights, constants=1, **options)


def dense(rows: int, depth: int, units: int, dtype: str = "int8") -> Graph:
    weight = "float32" if dtype == "float32" else "int8"
    return one("FULLY_CONNECTED", (rows, units), ((rows, depth), dtype), ((units, depth), weight), constants=1)


def cycles(graph: Graph, core: Core) -> int:
    """Cycles of a whole graph, which must be supported."""
    total = 0
    for operator in graph.operators:
        found = cycles_of(operator, graph.main, core)
        assert found is not None, operator.kind
        total += found.cycles
    return total


def elementwise(kind: str, dtype: str = "int8", size: int = 1000) -> Graph:
    return one(kind, (1, size), ((1, size), dtype))


def network(*activations: str, side: int = 16) -> bytes:
    """A small network as float; standalone activations by name."""
    net = Sketch("small")
    x = net.input("image", (1, side, side, 3))
    x = net.convolution(x, filters=8, kernel=(3, 3), stride=(2, 2), name="stem")
    x = net.depthwise(x, name="dw")
    x = net.convolution(x, filters=16, name="pw")
    for kind in activations:
        x = net.unary(kind, x, kind.lower())
    return write_tflite(net.graph([x]))


@EACH_CORE
def test_what_cannot_run_has_no_cycles(core: Core) -> None:
    graph = elementwise("GELU")
    assert cycles_of(graph.operators[0], graph.main, core) is None


@EACH_CORE
def test_every_core_knows_every_kind_of_work(core: Core) -> None:
    assert set(core.cycles) == set(TERMS)
    assert all(value > 0 for value in core.cycles.values())


@EACH_CORE
@pytest.mark.parametrize("make", [convolution, dense], ids=["convolution", "dense"])
def test_float_is_slower_than_int8_and_int16_lies_between(core: Core, make: object) -> None:
    assert callable(make)
    int8, int16, float32 = (cycles(make(16, 64, 32, dtype=dtype), core) for dtype in ("int8", "int16", "float32"))
    assert int8 < int16 < float32


@EACH_CORE
def test_a_float_network_is_slower_than_its_int8_form(core: Core) -> None:
    content = network()
    assert cycles(read_tflite(content), core) > 1.5 * cycles(read_tflite(quantize_synthetically(content)), core)


@EACH_CORE
def test_without_an_fpu_float_is_far_slower(core: Core) -> None:
    graph = convolution(16, 64, 32, dtype="float32")
    ratio = cycles(graph, core) / cycles(convolution(16, 64, 32), core)
    assert ratio > (15 if not core.has_fpu else 2)


def test_elu_in_the_network_is_slower_than_relu_that_is_fused() -> None:
    for name in core_names():
        assert cycles(read_tflite(network("ELU")), CORES[name]) > cycles(read_tflite(network()), CORES[name])


@EACH_CORE
def test_in_float_elu_is_slower_than_relu(core: Core) -> None:
    assert cycles(elementwise("ELU", "float32"), core) > 3 * cycles(elementwise("RELU", "float32"), core)


@EACH_CORE
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resizing_by_3_is_slower_than_by_2(core: Core, kind: str) -> None:
    by_2, by_3 = (one(kind, (1, 8 * n, 8 * n, 16), ((1, 8, 8, 16), "int8")) for n in (2, 3))
    assert cycles(by_3, core) > 1.5 * cycles(by_2, core)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
@pytest.mark.parametrize(
    "make", [lambda d: convolution(8, 16, 16, 3, d), lambda d: depthwise(8, 16, 3, d), lambda d: dense(1, 64, 32, d)]
)
def test_newer_cores_are_faster_at_an_equal_clock(make: object, dtype: str) -> None:
    assert callable(make)
    m85, m55, m33, m4, m0plus = (
        cycles(make(dtype), CORES[f"cortex-{name}"]) for name in ("m85", "m55", "m33", "m4", "m0plus")
    )
    assert m85 < m55 < m33 < m4 < m0plus


@EACH_CORE
@pytest.mark.parametrize("depth", [1, 3, 5, 17, 33])
def test_channels_that_fill_no_step_cost_more_per_mac(core: Core, depth: int) -> None:
    odd = cycles(convolution(32, depth, 32), core) / depth
    whole = cycles(convolution(32, 64, 32), core) / 64
    assert odd > whole


@EACH_CORE
def test_columns_make_a_kernel_dearer_than_one_pixel_of_as_many_macs(core: Core) -> None:
    assert cycles(convolution(32, 16, 16, side=3), core) > cycles(convolution(32, 144, 16), core)


@EACH_CORE
def test_a_general_depthwise_is_slower(core: Core) -> None:
    assert cycles(depthwise(16, 16, dilation_w_factor=2), core) > cycles(depthwise(16, 16), core)


@EACH_CORE
def test_int4_weights_are_slower_than_int8(core: Core) -> None:
    assert cycles(convolution(16, 64, 32, weight="int4"), core) > cycles(convolution(16, 64, 32), core)


@EACH_CORE
def test_a_reshape_copies(core: Core) -> None:
    small, large = (one("RESHAPE", (1, size), ((1, size), "int8")) for size in (10, 100_000))
    per_byte = (cycles(large, core) - cycles(small, core)) / 99_990
    assert per_byte == pytest.approx(core.cycles["copy_byte"], rel=0.01)


@EACH_CORE
def test_the_band_is_wide_where_nothing_was_measured(core: Core) -> None:
    def relative(graph: Graph) -> float:
        found = cycles_of(graph.operators[0], graph.main, core)
        assert isinstance(found, CpuCycles)
        assert found.low < found.cycles < found.high
        return found.high / found.low

    fitted = relative(convolution(16, 64, 32))
    assert fitted == pytest.approx(core.fitted_high / core.fitted_low, rel=0.01)
    for reasoned in (convolution(16, 64, 32, dtype="int16"), dense(1, 64, 32), elementwise("RELU")):
        assert relative(reasoned) > 2 * fitted


SIZES = st.integers(1, 40)
SHAPES = st.tuples(SIZES, SIZES, SIZES, st.integers(1, 5))


@given(SHAPES, SHAPES, st.sampled_from(["int8", "int16", "float32"]), st.sampled_from(core_names()))
def test_a_larger_convolution_never_costs_less(a: tuple[int, ...], b: tuple[int, ...], dtype: str, name: str) -> None:
    small, large = (tuple(pick(x, y) for x, y in zip(a, b, strict=True)) for pick in (min, max))
    core = CORES[name]
    assert 0 < cycles(convolution(*small, dtype=dtype), core) <= cycles(convolution(*large, dtype=dtype), core)


@given(SHAPES, SHAPES, st.sampled_from(["int8", "int16", "float32"]), st.sampled_from(core_names()))
def test_a_larger_depthwise_or_dense_never_costs_less(
    a: tuple[int, ...], b: tuple[int, ...], dtype: str, name: str
) -> None:
    (p, q, r, side), (p2, q2, r2, side2) = (tuple(map(pick, a, b)) for pick in (min, max))
    core = CORES[name]
    assert 0 < cycles(depthwise(p, q, side, dtype), core) <= cycles(depthwise(p2, q2, side2, dtype), core)
    assert 0 < cycles(dense(p, q, r, dtype), core) <= cycles(dense(p2, q2, r2, dtype), core)


@given(
    st.sampled_from(sorted(set(SUPPORTED) - set(WEIGHT_TYPES))), SIZES, SIZES, st.sampled_from(core_names()), st.data()
)
def test_every_operator_costs_something_and_grows(kind: str, a: int, b: int, name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(SUPPORTED[kind]))
    costs = []
    for size in (min(a, b), max(a, b)):
        shape = (1, size, size, 8)
        inputs = [(shape, dtype)] * (ACTIVATION_INPUT.get(kind, 0) + 1)
        graph = one(kind, shape, *inputs, axis=1, filter_width=2, filter_height=2)
        assert set(count_work(graph.operators[0], graph.main, CORES[name])) <= set(TERMS)
        costs.append(cycles(graph, CORES[name]))
    assert 0 < costs[0] <= costs[1]


ODD_SHAPES = st.lists(st.integers(0, 3), max_size=5).map(tuple)


@given(
    st.sampled_from(sorted(SUPPORTED)),
    st.lists(st.tuples(ODD_SHAPES, st.sampled_from(["int8", "float32", "int4"])), min_size=1, max_size=6),
    ODD_SHAPES,
    st.sampled_from(core_names()),
)
def test_shapes_that_make_no_sense_break_nothing(
    kind: str, inputs: list[tuple[tuple[int, ...], str]], out: tuple[int, ...], name: str
) -> None:
    graph = one(kind, out, *inputs, constants=1)
    for operator in (graph.operators[0], replace(graph.operators[0], outputs=())):
        found = cycles_of(operator, graph.main, CORES[name])
        assert found is None or found.cycles > 0


def test_recurrent_operators_cost_their_weights(shared: Path) -> None:
    graph = read_tflite((shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes())
    (lstm,) = [operator for operator in graph.operators if operator.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    found = cycles_of(lstm, graph.main, CORES["cortex-m4"])
    assert found is not None
    assert found.cycles > count_work(lstm, graph.main, CORES["cortex-m4"])["vector_mac"] > 0


@pytest.mark.parametrize("file", ["mlperf_tiny/kws_ref_model", "mlperf_tiny/pretrainedResnet_quant"])
def test_real_networks_run_on_every_core_and_fast_ones_first(shared: Path, file: str) -> None:
    graph = read_tflite((shared / f"{file}.tflite").read_bytes())
    order = ["cortex-m85", "cortex-m55", "cortex-m7", "cortex-m33", "cortex-m4", "cortex-m0plus"]
    found = [cycles(graph, CORES[name]) for name in order]
    assert found == sorted(found)

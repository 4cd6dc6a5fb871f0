"""Operators of any kind on tensors of any shape: each is refused in words, or costed, placed and followed.

Nothing is compiled here: this is the arithmetic that believes the file, of costs, of the Cortex-M backend, of the
rules and of the search for channels.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlia.backends.cortex_m.backend import CortexM
from mlia.errors import ModelError
from mlia.estimates import Origin, Source
from mlia.graph.cost import macs, weights_bytes
from mlia.graph.graph import Graph, Operator, Quantization, Subgraph, Tensor
from mlia.graph.sound import check_sound
from mlia.graph.tflite import WHOLE_BITS
from mlia.graph.tflite_schema import ENUMS
from mlia.pipeline.check.advise import Advising, advise
from mlia.results import Compatibility, Constraint, Performance, Placement, Result, Skipped, Unit
from mlia.targets.profiles import load_target
from mlia.targets.target import CpuTarget, Target
from mlia.transforms.channels.groups import channel_structure

CORES = ("cortex-m55", "cortex-m7", "cortex-m33")
NPUS = ("ethos-u55-128", "ethos-u65-512", "ethos-u85-256")
FREQUENT = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "MAX_POOL_2D", "AVERAGE_POOL_2D", "ADD", "MUL", "CONCATENATION", "MEAN", "SUM",
    "PAD", "TRANSPOSE", "RESHAPE", "STRIDED_SLICE", "SLICE", "SPLIT", "RESIZE_BILINEAR", "SOFTMAX", "GATHER",
)  # fmt: skip
KINDS = [*FREQUENT, *(kind for kind in ENUMS["BuiltinOperator"].values() if not kind.startswith("STABLEHLO"))]
COUNTS = (
    "stride_h", "stride_w", "filter_height", "filter_width", "dilation_h_factor", "dilation_w_factor",
    "depth_multiplier", "axis", "num_splits", "block_size", "rank", "batch_dims", "begin_mask", "end_mask",
    "shrink_axis_mask", "new_axis_mask", "ellipsis_mask", "seq_dim", "num", "values_count", "time_major", "adj_x",
    "adj_y", "keep_dims", "align_corners", "half_pixel_centers",
)  # fmt: skip
TYPES = ("int8", "int8", "int8", "int16", "int32", "float32", "int64", "bool", "uint8")
FILTERS = {"dilation_h_factor": 1, "dilation_w_factor": 1, "padding": "SAME", "depth_multiplier": 0}
NOT_TRIED = Advising((), (), "not tried", 1.0)

shapes = st.one_of(
    st.lists(st.sampled_from([0, 1, 1, 2, 3, 4, 8, 16]), max_size=5),
    st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 4),  # an image
).map(tuple)


@st.composite
def tensors(draw: Any, name: str) -> Tensor:
    shape, dtype = draw(shapes), draw(st.sampled_from(TYPES))
    elements = int(np.prod(shape, dtype=int))
    data = b""
    if draw(st.integers(0, 2)) == 0:
        small = draw(st.integers(-3, 4))
        data = small.to_bytes(WHOLE_BITS[dtype] // 8, "little", signed=True) * elements
    count = shape[-1] if shape and draw(st.booleans()) else 1
    quantization = Quantization((0.1,) * count, (0,) * count, max(len(shape) - 1, 0)) if draw(st.booleans()) else None
    return Tensor(name, shape, dtype, quantization, memoryview(data))


@st.composite
def operators(draw: Any, index: int, count: int) -> Operator:
    options = draw(st.dictionaries(st.sampled_from(COUNTS), st.sampled_from([-3, -1, 0, 1, 1, 2, 3, 255]), max_size=8))
    if draw(st.booleans()):
        options |= FILTERS | {"stride_h": 1, "stride_w": 1, "filter_width": 1, "filter_height": 1}
    options["fused_activation_function"] = draw(st.sampled_from(["NONE", "RELU"]))
    some = st.integers(-1 if draw(st.booleans()) else 0, count - 1)
    inputs = draw(st.lists(some, max_size=6))
    outputs = draw(st.lists(st.integers(0, count - 1), min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=2))
    return Operator(index, draw(st.sampled_from(KINDS)), tuple(inputs), tuple(outputs), options)


@st.composite
def graphs(draw: Any) -> Graph:
    count = draw(st.integers(3, 8))
    made = [draw(tensors(f"t{number}")) for number in range(count)]
    steps = [draw(operators(index, count)) for index in range(draw(st.integers(1, 3)))]
    return Graph((Subgraph(0, "main", tuple(made), tuple(steps), (0,), (count - 1,)),))


def all_on_the_cpu(graph: Graph) -> Result:
    """What is said of a model of which the compiler leaves everything to the CPU."""
    source = Source(Origin.ESTIMATED, "nobody", "0")
    placed = tuple(
        Placement(
            0, each.index, each.kind, graph.main.operator_name(each), Unit.CPU, None, 0, False, (Constraint("-"),)
        )
        for each in graph.operators
    )
    compatibility = Compatibility(source, placed, 0, len(placed), 0.0, None, 0)
    nothing = Skipped("time", "nobody asked")
    fields: dict[str, Any] = dict.fromkeys(Performance.__struct_fields__)
    fields |= {"source": source, "macs": 0, "clock_mhz": 500.0, "system": nothing}
    fields |= dict.fromkeys(("traffic", "operators", "cpu_costs", "further_subgraphs", "skipped"), ())
    return Result("vela", compatibility, Performance(**fields))


def refuse(*_: object) -> Result:
    raise AssertionError("nothing is tried")


@pytest.mark.long
@pytest.mark.filterwarnings("error")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(graph=graphs())
def test_every_operator_is_refused_or_understood(graph: Graph) -> None:
    try:
        check_sound(graph)
    except ModelError:
        return
    for operator in graph.operators:
        assert macs(operator, graph.main) >= 0
        assert weights_bytes(operator, graph.main) >= 0
    for name in CORES:
        core = load_target(name)
        assert isinstance(core, CpuTarget)
        advise(graph, core, CortexM().run(graph, core), (True, True), NOT_TRIED, refuse)
    for name in NPUS:
        npu = load_target(name)
        assert isinstance(npu, Target)
        advise(graph, npu, all_on_the_cpu(graph), (True, True), NOT_TRIED, refuse)
    channel_structure(graph.main)

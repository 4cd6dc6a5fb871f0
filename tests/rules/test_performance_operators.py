"""What the examples cannot say of performance rules: their words, real models, and damaged ones."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.backends.vela.backend import Vela
from mlia.estimates import Estimator
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.pipeline.check.check import checked
from mlia.results import Compatibility, Performance
from mlia.rules.performance import activations, bounds, host, layout, shape
from mlia.rules.phrases import counted, named, percent, quoted, sizes
from mlia.rules.rule import Case, Finding, NpuRule
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.testing import advise_one, case_of, fixed
from tests.rules.cases import performance_operators as models

RULES: list[type[NpuRule]] = [
    rule for family in (activations, bounds, layout, shape) for rule in family.RULES if issubclass(rule, NpuRule)
]


def one(rule: type[NpuRule], content: bytes, target: str = models.U55) -> Finding:
    (finding,) = advise_one(rule, content, target)
    return finding


def faster(content: bytes, change: Callable[[Graph], Graph], target: str) -> float:
    before, after = (case_of(each, target).performance.known_ms for each in (content, fixed(change, content)))
    assert before
    assert after
    return before / after


def test_names_and_shares_are_short() -> None:
    assert quoted("conv/Relu;conv/BiasAdd;conv") == "'conv/Relu'"
    assert quoted("functional_1/model/block_11/depthwise/Relu6") == "'…tional_1/model/block_11/depthwise/Relu6'"
    assert len(quoted("x" * 99)) == 42
    assert named(["a", "b", "c"], 2) == "'a', 'b' and 1 more"
    assert sizes((1, 32, 8)) == "1x32x8"
    assert percent(0.256) == "26 %"
    assert counted(1, "operator") == "1 operator"
    assert counted(3, "TRANSPOSE") == "3 TRANSPOSEs"


@pytest.mark.parametrize(
    ("count", "kept"), [(8, 8), (9, 8), (10, 8), (11, 11), (16, 16), (17, 16), (20, 16), (21, 21), (65, 64), (276, 276)]
)
def test_channels_are_past_a_block_when_most_of_it_is_empty(count: int, kept: int) -> None:
    assert shape.kept_channels(count) == kept


@pytest.mark.parametrize(
    ("rule", "content", "target", "factor"),
    [
        (shape.ChannelsPastBlock, models.chain(17), models.U55, 2.0),
        (shape.FewInputChannels, models.waveform(), models.U55, 4.0),
        (shape.FewInputChannels, models.first(1), models.U85, 1.2),
        (shape.SequenceAlongHeight, models.sequence(64, 1), models.U65, 1.03),
        (shape.MeanOverMap, models.average("MEAN"), models.U85, 1.05),
        (shape.SquareMaxPool, models.pooled(9), models.U85, 1.4),
        (layout.IdleOperators, models.with_product(127), models.U55, 1.05),
        (activations.GatedActivation, models.activated("SWISH"), models.U55, 1.8),
        (activations.SlowTable, models.activated("HARD_SWISH"), models.U55_256, 1.3),
        (activations.ResultRescaled, models.rescaled("QUANTIZE", True), models.U65, 1.04),
        (activations.CostlySoftmax, models.classified(1), models.U55, 1.09),
        (activations.SlopePerChannel, models.with_slopes(True), models.U55, 1.4),
    ],
)
def test_the_best_remedy_makes_it_faster(rule: type[NpuRule], content: bytes, target: str, factor: float) -> None:
    changes = [fix.change for fix in one(rule, content, target).fixes]
    assert max(faster(content, change, target) for change in changes if change) >= factor


def test_transposes_of_the_input_are_the_callers() -> None:
    content = models.channels_first(True)
    inside, ends = (fix.change for fix in one(layout.CostlyTransposes, content).fixes)
    assert inside
    assert ends
    assert faster(content, ends, models.U55) > 1.1 * faster(content, inside, models.U55)


def test_one_operator_is_named_with_what_it_waits_for() -> None:
    finding = one(bounds.DominatingOperator, models.dominated(96))
    assert "'large' (CONV_2D)" in finding.evidence
    assert "of the MACs in use" in finding.evidence
    assert finding.why_not_tried


def test_a_first_convolution_that_dominates_is_told_once() -> None:
    content = models.first(1)
    assert advise_one(bounds.DominatingOperator, content, models.U55) == []
    assert one(shape.FewInputChannels, content).evidence.startswith("'first' reads 1x49x40x1 in ")


def test_real_models_get_few_findings(shared: Path) -> None:
    resnet = (shared / "mlperf_tiny/pretrainedResnet_quant.tflite").read_bytes()
    told = [rule.code for rule in RULES if advise_one(rule, resnet, models.U55)]
    assert told == ["PER003"]  # tried, and dropped because it brings nothing
    speech = (shared / "tflite_micro/micro_speech_quantized.tflite").read_bytes()
    changes = [fix.change for fix in one(shape.FewInputChannels, speech).fixes]
    assert max(faster(speech, change, models.U55) for change in changes if change) > 1.3
    lstm = (shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes()
    assert "each of 28 time steps" in one(bounds.DominatingOperator, lstm).evidence


MODELS: dict[str, Callable[[], bytes]] = {
    "transposes": partial(models.channels_first, True),
    "one channel": partial(models.first, 1),
    "swish": partial(models.activated, "SWISH", 8),
    "mean": partial(models.average, "MEAN"),
    "product": partial(models.with_product, 127),
}


@cache
def whole(name: str) -> Case:
    return case_of(MODELS[name](), models.U55)


KINDS = ("CONV_2D", "MEAN", "TRANSPOSE", "MUL", "LOGISTIC", "SOFTMAX", "RELU", "QUANTIZE", "PRELU", "MAX_POOL_2D")


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(MODELS)), st.data())
def test_damaged_models_are_no_trouble(name: str, data: st.DataObject) -> None:
    case = whole(name)
    main = case.graph.main
    operators, tensors = list(main.operators), list(main.tensors)
    place = data.draw(st.integers(0, len(operators) - 1))
    operator = operators[place]
    kept = data.draw(st.integers(0, len(operator.inputs)))
    operators[place] = replace(
        operator,
        kind=data.draw(st.sampled_from((operator.kind, *KINDS))),
        inputs=data.draw(st.sampled_from((operator.inputs[:kept], tuple(-1 for _ in operator.inputs)))),
        outputs=data.draw(st.sampled_from((operator.outputs, ()))),
        options=data.draw(st.sampled_from((operator.options, {}, dict.fromkeys(operator.options, 0)))),
    )
    index = data.draw(st.integers(0, len(tensors) - 1))
    tensor = tensors[index]
    tensors[index] = replace(
        tensor,
        shape=data.draw(st.sampled_from((tensor.shape, (), (0,), tensor.shape[1:], (0,) * len(tensor.shape)))),
        dtype=data.draw(st.sampled_from((tensor.dtype, "int16", "int32", "float32", "string"))),
        quantization=data.draw(st.sampled_from((tensor.quantization, None))),
        data=tensor.data[: data.draw(st.integers(0, len(tensor.data)))],
    )
    graph = replace(case.graph, subgraphs=(replace(main, operators=tuple(operators), tensors=tuple(tensors)),))
    costs = tuple(
        replace(cost, kind=operators[cost.index].kind, bound_by=data.draw(st.sampled_from((cost.bound_by, None))))
        for cost in case.performance.operators
    )
    damaged = Case(graph, case.target, case.compatibility, replace(case.performance, operators=costs))
    for rule in RULES:
        for finding in () if rule().skip(damaged) else rule().check(damaged):
            assert finding.evidence


def test_a_host_that_is_faster_without_the_npu_is_told(shared: Path) -> None:
    lstm = (shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes()
    target = load_target(models.U85)
    graph = read_tflite(lstm)
    own = checked(graph, target, Vela(60, Estimator.VELA))
    assert isinstance(target, Target)
    assert isinstance(own.compatibility, Compatibility)
    assert isinstance(own.performance, Performance)
    (finding,) = host.SlowerThanHost().check(Case(graph, target, own.compatibility, own.performance))
    assert finding.evidence.endswith("on the Cortex-M85 alone")
    assert "`mlia check -t cortex-m85`" in finding.remedy
    assert advise_one(host.SlowerThanHost, lstm, models.U55) == []  # it may be so: the band reaches beyond 1
    assert len(advise_one(host.SlowerThanHost, lstm, models.U85)) == 1  # each of its launches waits for DRAM

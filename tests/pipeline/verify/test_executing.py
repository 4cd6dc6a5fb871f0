"""A model executed as the NPU would: outputs, comparison, and what is told of differences."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE, wake_words
from msgspec.structs import replace

import mlia
from mlia.backends.simulator import comparison
from mlia.backends.simulator.comparison import Difference
from mlia.backends.simulator.kernels import Kernels
from mlia.backends.simulator.session import READ_ONLY, Session, Watch, streams_of
from mlia.graph.graph import Graph
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.pipeline.verify.explain import INHERITED, UNSEEN, explain, explain_outputs
from mlia.pipeline.verify.verify import Prepared, operators_of, output_names, prepare
from mlia.render.verify.terminal import render_verification
from mlia.simulator.operation import Compute, Range, Transfer
from mlia.testing import IntegerSketch
from mlia.transforms.interpreter import ReferenceModel
from mlia.transforms.noise import Noise
from mlia.verification import Outcome, TensorCheck


def reference(content: bytes, samples: np.ndarray) -> np.ndarray:
    model = ReferenceModel(content)
    return np.stack([model.run([sample])[0] for sample in samples])


def noise(count: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (count, *shape)).astype(np.int8)


@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-512"])
def test_simulate_gives_what_the_reference_gives(target: str, tmp_path: Path) -> None:
    samples = noise(3, (1, 49, 10, 1))
    found = mlia.run(SAMPLE, target, {"mfcc": samples})
    assert list(found) == ["labels"]
    assert (found["labels"] == reference(SAMPLE.read_bytes(), samples)).all()
    np.savez(tmp_path / "in.npz", mfcc=samples)
    assert (mlia.run(SAMPLE, target, tmp_path / "in.npz")["labels"] == found["labels"]).all()


def test_real_numbers_are_quantized() -> None:
    main = read_tflite(SAMPLE.read_bytes()).main
    quantization = main.tensors[main.inputs[0]].quantization
    assert quantization is not None
    codes = noise(1, (1, 49, 10, 1))
    real = (codes.astype(np.float64) - quantization.zero_point[0]) * quantization.scale[0]
    found = [mlia.run(SAMPLE, "ethos-u55-128", {"mfcc": values})["labels"] for values in (codes, real)]
    assert (found[0] == found[1]).all()


def test_a_compiled_model_is_simulated_as_it_is(tmp_path: Path) -> None:
    compiled = tmp_path / "compiled.tflite"
    compiled.write_bytes(bytes(prepare(SAMPLE, "ethos-u55-64").compiled.content))
    samples = noise(2, (1, 49, 10, 1))
    assert (mlia.run(compiled, None, {"mfcc": samples})["labels"] == reference(SAMPLE.read_bytes(), samples)).all()


def test_host_and_npu_take_turns() -> None:
    net = IntegerSketch("turns")
    x = net.filter("CONV_2D", net.image("in", (1, 12, 12, 8)), filters=8, name="one")
    x = net.plain(
        "MEAN", x, net.integers("axes", 3), shape=(1, 12, 12, 1), name="mean", table="ReducerOptions", keep_dims=True
    )
    x = net.filter("CONV_2D", x, filters=4, name="two")
    content = write_tflite(net.graph([x]))
    found = mlia.verify(read_tflite(content), "ethos-u55-128")
    assert (found.npu_segments, found.host_operators) == (2, 1)
    assert not found.is_unexplained
    assert found.outputs[0].outcome == Outcome.EXACT
    samples = noise(2, (1, 12, 12, 8))
    assert (
        mlia.run(read_tflite(content), "ethos-u55-128", {"in": samples})["two"] == reference(content, samples)
    ).all()


def test_a_model_without_the_npu_is_executed_by_the_host() -> None:
    net = IntegerSketch("host")
    x = net.image("in", (1, 12, 12, 8))
    x = net.plain(
        "MEAN", x, net.integers("axes", 3), shape=(1, 12, 12, 1), name="mean", table="ReducerOptions", keep_dims=True
    )
    found = mlia.verify(read_tflite(write_tflite(net.graph([x]))), "ethos-u55-128")
    assert (found.npu_segments, found.host_operators) == (0, 1)
    assert found.outputs[0].outcome == Outcome.EXACT
    title = "nothing runs on the NPU, and the host computes the same, bit by bit"
    assert title in render_verification(found, 200, False, False).splitlines()[0]


def test_seeds_and_counts_of_samples() -> None:
    first = mlia.verify(SAMPLE, "ethos-u55-128", samples=1)
    assert first.outputs[0].elements == 12 * 5
    assert "1 random inputs" in first.samples
    assert mlia.verify(SAMPLE, "ethos-u55-128", samples=1) == first


def test_every_operation_has_its_operator() -> None:
    names = operators_of(prepare(SAMPLE, "ethos-u55-128"))
    assert "0, CONV_2D 'conv_1'" in names.values()
    assert "12, SOFTMAX 'labels'" in names.values()


@pytest.mark.parametrize(
    ("model", "target", "error", "message"),
    [
        (SAMPLE, None, mlia.TargetError, "name the target"),
        (SAMPLE, "cortex-m4", mlia.TargetError, "no NPU"),
        (SAMPLE, "ethos-u99-1", mlia.TargetError, "no target"),
    ],
)
def test_what_cannot_be_executed(model: Path, target: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mlia.verify(model, target)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(mlia.TransformError, match="no array for the input"):
        mlia.run(SAMPLE, "ethos-u55-128", {"a": noise(1, (1, 2)), "b": noise(1, (1, 2))})
    with pytest.raises(mlia.TransformError, match="samples of shape"):
        mlia.run(SAMPLE, "ethos-u55-128", {"mfcc": noise(1, (1, 2))})


def with_data(content: bytes, place: int, change: Callable[[bytearray], object]) -> bytes:
    """A compiled model whose read-only data is changed."""
    graph = read_tflite(content)
    main = graph.main
    index = next(each for each in main.operators if each.custom_code == "ethos-u").inputs[place]
    data = bytearray(main.tensors[index].data)
    change(data)
    tensors = list(main.tensors)
    tensors[index] = replace(tensors[index], data=memoryview(bytes(data)))
    return write_tflite(replace(graph, subgraphs=(replace(main, tensors=tuple(tensors)), *graph.subgraphs[1:])))


def constant_address(place: Range, copied: list[Transfer]) -> int:
    """Where in the read-only data a range is, or was copied from; the last copy first."""
    if place.region == READ_ONLY:
        return place.address
    origin = next(
        each
        for each in copied
        if each.destination_region == place.region
        and each.destination <= place.address < each.destination + each.length
    )
    return origin.source + place.address - origin.destination


def with_wrong_biases(content: bytes, which: int) -> bytes:
    """A compiled model in which the biases of one convolution are others; its weights decode as before."""
    (stream,) = streams_of(read_tflite(content)).values()
    found: list[list[tuple[int, int]]] = []  # of each, where in the read-only data its scales begin and end
    copied: list[Transfer] = []
    for each in stream.operations:
        if isinstance(each, Transfer):
            copied.insert(0, each)
        elif isinstance(each, Compute) and each.scales:
            starts = [constant_address(scales, copied) for scales in each.scales]
            found.append([(at, at + scales.length) for at, scales in zip(starts, each.scales, strict=True)])

    def change(data: bytearray) -> None:
        for first, end in found[which]:
            for at in range(first, end - 9, 10):  # a bias is the first 5 of 10 bytes
                data[at + 1] ^= 0x40

    return with_data(content, 1, change)


def judged(prepared: Prepared, compiled: bytes) -> tuple[tuple[TensorCheck, ...], tuple[TensorCheck, ...]]:
    """What is said of the outputs and of the operators of a compiled model, whatever it was compiled from."""
    graph = prepared.original
    assert graph is not None
    assert prepared.target is not None
    samples = list(Noise([graph.main.tensors[index] for index in graph.main.inputs], 0, 3))
    found = comparison.compare(bytes(graph.content), compiled, prepared.links, samples)
    family = prepared.target.npu.family
    operators = explain(graph, found.operators, family)
    return explain_outputs(graph, output_names(graph), found.outputs, operators), operators


@pytest.mark.parametrize("which", [0, 4, -1])
def test_wrong_biases_are_noticed(which: int) -> None:
    prepared = prepare(SAMPLE, "ethos-u55-128")
    compiled = bytes(prepared.compiled.content)
    _, exact = judged(prepared, compiled)
    assert not {check.outcome for check in exact} & {Outcome.DIFFERENT, Outcome.NOT_JUDGED}
    _, operators = judged(prepared, with_wrong_biases(compiled, which))
    wrong = [check.operator for check in operators if check.outcome == Outcome.DIFFERENT]
    # The one that is wrong, and none of those that read it.
    assert len(wrong) == 1


@pytest.mark.long
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_what_is_wrong_below_a_known_difference_is_noticed(which: int, target: str, shared: Path) -> None:
    prepared = prepare(shared / "tflite_micro/trained_lstm_int8.tflite", target)
    compiled = bytes(prepared.compiled.content)
    assert all(check.outcome != Outcome.DIFFERENT for checks in judged(prepared, compiled) for check in checks)
    outputs, operators = judged(prepared, with_wrong_biases(compiled, which))
    assert [check.outcome for check in outputs] == [Outcome.DIFFERENT]
    assert operators[2].outcome == Outcome.NOT_JUDGED  # its input is that of an LSTM, in parts
    assert operators[3].outcome in (Outcome.DOCUMENTED, Outcome.EXACT)  # SOFTMAX does what it should


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_what_is_wrong_below_a_dense_operator_is_noticed(target: str) -> None:
    """The first dense operator may differ by a code; the second, far off, may not hide behind it."""
    net = IntegerSketch("below")
    x = net.image("in", (1, 64))
    for name in ("first", "second"):
        x = net.dense(x, 64, name=name)
    graph = read_tflite(write_tflite(net.graph([net.plain("RELU", x, name="relu")])))
    prepared = prepare(graph, target)
    compiled = bytes(prepared.compiled.content)
    assert not any(check.outcome == Outcome.DIFFERENT for checks in judged(prepared, compiled) for check in checks)
    outputs, _ = judged(prepared, with_wrong_biases(compiled, -1))
    assert outputs[0].outcome == Outcome.DIFFERENT
    # Where the first is wrong, the second is judged by what it makes of that.
    _, operators = judged(prepared, with_wrong_biases(compiled, 0))
    assert operators[0].outcome == Outcome.DIFFERENT
    assert not any(check.outcome == Outcome.DIFFERENT for check in operators[1:])


def verdicts(different: dict[int, int | Difference], unseen: tuple[int, ...] = ()) -> list[tuple[Outcome, str]]:
    """Of three dense operators and a RELU, of which some differ by so many codes, or are not seen."""
    graph = dense_graph()
    found = {}
    for index in range(4):
        given = different.get(index, 0)
        found[index] = given if isinstance(given, Difference) else Difference(16, int(given > 0), given)
    for index in unseen:
        found[index] = Difference(is_placed=False)
    return [(check.outcome, check.reason) for check in explain(graph, found, "ethos-u55")]


def dense_graph() -> Graph:
    net = IntegerSketch("dense")
    x = net.image("in", (1, 16))
    for name in ("a", "b", "c"):
        x = net.dense(x, 16, name=name)
    return net.graph([net.plain("RELU", x, name="relu")])


def by_itself(different: int, codes: int) -> Difference:
    """Far off, of which so much is its own."""
    return Difference(16, 12, 90, own=Difference(16, different, codes))


def test_each_operator_is_judged_by_itself() -> None:
    assert [outcome for outcome, _ in verdicts({})] == [Outcome.EXACT] * 4
    first, second, third, last = verdicts({0: 1, 1: by_itself(0, 0), 2: by_itself(2, 1), 3: 4})
    assert first[0] == Outcome.DOCUMENTED
    assert second == (Outcome.DOCUMENTED, INHERITED)
    assert third == first
    assert last == (Outcome.DIFFERENT, "")
    assert verdicts({0: 1, 1: by_itself(2, 9)})[1] == (Outcome.DIFFERENT, "")


def test_more_than_is_known_is_a_difference() -> None:
    assert verdicts({0: 100})[0] == (Outcome.DIFFERENT, "")
    assert verdicts({0: Difference(160, 80, 1)})[0] == (Outcome.DIFFERENT, "")  # by little, but too often


def test_what_cannot_be_seen_leaves_its_readers_unjudged() -> None:
    checks = verdicts({1: 9, 2: by_itself(0, 0), 3: 4}, unseen=(0,))
    assert [outcome for outcome, _ in checks] == [
        Outcome.NOT_COMPARED, Outcome.NOT_JUDGED, Outcome.DOCUMENTED, Outcome.DIFFERENT,
    ]  # fmt: skip
    assert checks[1][1] == UNSEEN
    assert verdicts({3: 2}, unseen=(2,))[3][0] == Outcome.DOCUMENTED  # RELU passes on what a dense one may do


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (Difference(16), Outcome.EXACT),
        (Difference(16, 4, 16), Outcome.NOT_JUDGED),
        (Difference(16, 4, 17), Outcome.DIFFERENT),
        (Difference(16, 16, 4), Outcome.NOT_JUDGED),
        (Difference(16, 5, 5), Outcome.DIFFERENT),
        (Difference(16, 16, 0, False), Outcome.DIFFERENT),
    ],
)
def test_an_output_below_what_is_not_judged_may_differ_by_little(difference: Difference, outcome: Outcome) -> None:
    graph = dense_graph()
    found = {
        0: Difference(is_placed=False),
        1: Difference(16, 3, 9),
        2: by_itself(0, 0),
        3: replace(difference, own=Difference(16)) if difference.different_elements else difference,
    }
    operators = explain(graph, found, "ethos-u55")
    assert operators[1].outcome == Outcome.NOT_JUDGED
    (output,) = explain_outputs(graph, ["relu"], (difference,), operators)
    assert output.outcome == outcome


def test_an_output_is_not_excused_by_an_operator_it_does_not_read() -> None:
    net = IntegerSketch("two")
    x = net.image("in", (1, 16))
    other = net.plain("RELU", net.image("other", (1, 16)), name="relu")
    graph = net.graph([net.dense(x, 16, name="dense"), other])
    operators = explain(graph, {0: Difference(16, 3, 3), 1: Difference(16, 1, 1)}, "ethos-u55")
    assert {check.kind: check.outcome for check in operators}["RELU"] == Outcome.DIFFERENT
    outputs = explain_outputs(graph, ["a", "b"], (Difference(16), Difference(16, 3, 3)), operators)
    assert [check.outcome for check in outputs] == [Outcome.EXACT, Outcome.DIFFERENT]


def test_what_was_seen_of_a_difference_stays_seen() -> None:
    both = Difference(16, 2, 3).and_then(Difference(is_placed=False))
    assert (both.different_elements, both.is_placed) == (2, False)
    assert verdicts({3: both})[3] == (Outcome.DIFFERENT, "")
    own = Difference(16, 1, 1).and_then(by_itself(2, 2)).own
    assert own == Difference(32, 3, 2)


@pytest.mark.parametrize(("is_wrong", "made"), [(False, 1), (True, 8)])
def test_both_sides_begin_anew_only_after_a_difference(
    is_wrong: bool, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(wake_words()[0], "ethos-u55-128")
    compiled = bytes(prepared.compiled.content)
    sessions: list[Session] = []

    def session(content: bytes, watch: Watch, kernels: Kernels) -> Session:
        sessions.append(Session(content, watch, kernels))
        return sessions[-1]

    monkeypatch.setattr(comparison, "Session", session)
    _, operators = judged(prepared, with_wrong_biases(compiled, 0) if is_wrong else compiled)
    assert any(check.outcome == Outcome.DIFFERENT for check in operators) == is_wrong
    assert len(sessions) == made  # 3 samples of noise and 4 edges


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-512", "ethos-u85-256"])
def test_what_turns_a_tensor_is_placed_as_it_lies(target: str, order: tuple[int, ...]) -> None:
    shape = (1, 6, 10, 8)
    net = IntegerSketch("turned")
    x = net.filter("CONV_2D", net.image("in", shape), filters=8, name="first")
    turned = tuple(shape[axis] for axis in order)
    x = net.plain("TRANSPOSE", x, net.integers("order", *order), shape=turned, name="turned", table="TransposeOptions")
    x = net.filter("CONV_2D", x, filters=8, name="last")
    prepared = prepare(read_tflite(write_tflite(net.graph([x]))), target)
    compiled = bytes(prepared.compiled.content)
    outputs, operators = judged(prepared, compiled)
    assert outputs[0].outcome == operators[2].outcome == Outcome.EXACT
    # Ethos-U85 turns what the convolution writes; the others copy, and in parts where channels move.
    seen = target.startswith("ethos-u85") or order[3] == 3
    assert operators[1].outcome == (Outcome.EXACT if seen else Outcome.NOT_COMPARED)
    _, wrong = judged(prepared, with_wrong_biases(compiled, 0))
    assert Outcome.DIFFERENT in {check.outcome for check in wrong[:2]}
    assert wrong[2].outcome != Outcome.DIFFERENT or not seen


def test_the_title_says_what_is_not_judged() -> None:
    found = mlia.verify(SAMPLE, "ethos-u55-128", samples=1)
    assert "bit by bit" in render_verification(found, 80, False, False).splitlines()[0]
    unjudged = replace(found.operators[3], outcome=Outcome.NOT_JUDGED, reason=UNSEEN)
    partly = replace(found, operators=(*found.operators[:3], unjudged, *found.operators[4:]))
    title = " ".join(render_verification(partly, 80, False, False).split("\n  target")[0].split())
    assert title.endswith("the same as far as it can be seen; 1 operator cannot be judged")
    assert not partly.is_unexplained

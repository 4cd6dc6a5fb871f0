"""Remedies that turn float into integers, state into inputs, and odd quantization into usual: close, or refused."""

from functools import partial

import numpy
import pytest
from ai_edge_litert.interpreter import Interpreter

import mlia
from mlia.advice import Safety
from mlia.errors import TransformError
from mlia.graph.graph import Quantization
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite
from mlia.testing import fixed
from mlia.transforms.remedies.edges import integer_ends, signed_ends
from mlia.transforms.remedies.islands import islands_in_integers
from mlia.transforms.remedies.quantizing import (
    extremes_requantized,
    forms_of_8_bits,
    one_scale_per_tensor,
    scales_passed_on,
    wide_zero_points_dropped,
)
from mlia.transforms.remedies.sizes import batch_of_one
from mlia.transforms.remedies.state import state_outside
from mlia.transforms.remedies.weights import biases_as_stored, weights_of_8_bits, weights_with_coarser_scales
from tests.conftest import wake_words
from tests.rules.cases import compat_control, compat_types, performance_operators
from tests.rules.cases.compat_sketches import one


def codes(content: bytes, *samples: numpy.ndarray) -> list[numpy.ndarray]:
    """The outputs of one inference as they are stored."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), samples, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def noise(shape: tuple[int, ...] = (1, 8, 8, 8)) -> numpy.ndarray:
    return numpy.random.default_rng(0).integers(-128, 128, shape).astype(numpy.int8)


@pytest.mark.parametrize(
    "build",
    [
        partial(compat_types.island, "LOGISTIC"),
        partial(compat_types.island, "ELU"),
        partial(compat_types.island, "ABS"),
        partial(compat_types.island, "SQUARE", "SquareOptions"),
        partial(compat_types.island, "NEG", "NegOptions"),
        partial(compat_types.island, "MUL", "MulOptions", 0.5),
        partial(compat_types.island, "DIV", "DivOptions", 4.0),
        partial(compat_types.island, "ADD", "AddOptions", -1.0),
    ],
)
def test_islands_compute_almost_the_same_in_integers(build):
    content = build()
    changed = fixed(islands_in_integers, content)
    (before,), (after,) = codes(content, noise()), codes(changed, noise())
    assert numpy.linalg.norm(after.astype(float) - before) < 0.1 * numpy.linalg.norm(before.astype(float))
    assert {operator.kind for operator in read_tflite(changed).operators} & {"DEQUANTIZE"} == set()


def test_a_negative_between_equal_scales_is_the_same_and_promised():
    content = compat_types.island("NEG", "NegOptions")
    (before,), (after,) = codes(content, noise()), codes(fixed(islands_in_integers, content), noise())
    assert before.tobytes() == after.tobytes()
    for scale, promised in ((compat_types.Q, Safety.LOSSLESS), (Quantization((0.07,), (3,)), Safety.VALIDATE)):
        graph = read_tflite(compat_types.island("NEG", "NegOptions", fixed=scale))
        (advice,) = mlia.check(graph, "ethos-u55-128", scope=mlia.Scope(select=["CMP002"])).targets[0].advised.advice
        assert advice.safety == promised


def test_a_float_output_stays_float():
    content = compat_types.softmax_in_float()
    changed = fixed(islands_in_integers, content)
    assert [operator.kind for operator in read_tflite(changed).operators][-2:] == ["SOFTMAX", "DEQUANTIZE"]
    (before,), (after,) = codes(content, noise()), codes(changed, noise())
    assert numpy.abs(before - after).max() <= 1 / 256


@pytest.mark.parametrize("kind", ["SIN", "COS", "FLOOR"])
def test_what_has_no_integer_form_stays_float(kind):
    with pytest.raises(TransformError, match="integer form"):
        fixed(islands_in_integers, compat_types.island(kind))


def test_integer_ends_compute_the_same():
    content = compat_types.float_edges()
    changed = fixed(integer_ends, content)
    main = read_tflite(changed).main
    assert [main.tensors[index].name for index in (*main.inputs, *main.outputs)] == ["real_image", "real"]
    assert {operator.kind for operator in main.operators} == {"CONV_2D"}
    stored = noise()
    (real,) = codes(content, (stored * 0.05).astype(numpy.float32))
    (integers,) = codes(changed, stored)
    assert (numpy.abs(real - integers * 0.05) < 1e-6).all()


def test_signed_ends_compute_the_same_in_codes_that_are_128_apart():
    content = performance_operators.unsigned("uint8", 0)
    changed = fixed(signed_ends, content)
    main = read_tflite(changed).main
    assert [main.tensors[index].name for index in (*main.inputs, *main.outputs)] == ["image", "mask"]
    assert [operator.kind for operator in main.operators] == ["CONV_2D"]
    given = numpy.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(numpy.uint8)
    (before,), (after,) = codes(content, given), codes(changed, (given ^ 0x80).view(numpy.int8))
    # The output has the scale that the convolution writes in; QUANTIZE to uint8 brought that to another zero point.
    main_before = read_tflite(content).main
    (inner,) = main_before.operators[1].outputs
    assert main.tensors[main.outputs[0]].quantization == main_before.tensors[inner].quantization
    assert (before == numpy.clip(after.astype(int), 0, 255)).all()


def test_state_is_kept_by_the_caller():
    content = compat_control.streaming()
    changed = fixed(state_outside, content)
    assert len(read_tflite(changed).subgraphs) == 1
    kept = Interpreter(model_content=content)
    kept.allocate_tensors()
    state = numpy.zeros((1, 8, 8, 8), numpy.int8)
    for _ in range(3):
        kept.set_tensor(kept.get_input_details()[0]["index"], noise())
        kept.invoke()
        after, state = codes(changed, noise(), state)
        assert (kept.get_tensor(kept.get_output_details()[0]["index"]) == after).all()


def test_state_of_real_models_becomes_inputs():
    """Wake words of microWakeWord keep state in variables; their first subgraph only uses those it set up."""
    for path in wake_words():
        graph = read_tflite(path.read_bytes())
        count = sum(operator.kind == "VAR_HANDLE" for operator in graph.operators)
        changed = read_tflite(write_tflite(state_outside(graph)))
        assert count
        assert len(changed.main.inputs) == len(graph.main.inputs) + count
        assert len(changed.main.outputs) == len(graph.main.outputs) + count


def test_batch_of_one_gives_the_first_of_the_batch():
    content = compat_control.mean(4)
    batch = noise((4, 8, 8, 8))
    (before,), (after,) = codes(content, batch), codes(fixed(batch_of_one, content), batch[:1])
    assert (before[:1] == after).all()


def test_larger_scales_of_weights_keep_the_sum():
    content = compat_types.convolution(channels=40, fill=127)
    changed = fixed(partial(weights_with_coarser_scales, most=20000), content)
    main = read_tflite(changed).main
    weights = main.tensors[main.operators[0].inputs[1]]
    sums = numpy.abs(numpy.frombuffer(weights.data, numpy.int8).astype(int)).reshape(8, -1).sum(axis=1)
    assert sums.max() <= 20000
    (before,), (after,) = (codes(model, noise((1, 4, 4, 40))) for model in (content, changed))
    assert numpy.abs(before.astype(int) - after).max() <= 2


@pytest.mark.parametrize(
    "change",
    [
        islands_in_integers,
        integer_ends,
        signed_ends,
        state_outside,
        batch_of_one,
        extremes_requantized,
        forms_of_8_bits,
        one_scale_per_tensor,
        scales_passed_on,
        wide_zero_points_dropped,
        biases_as_stored,
        weights_of_8_bits,
        partial(weights_with_coarser_scales, most=1 << 23),
    ],
)
def test_nothing_to_change_is_told(change):
    with pytest.raises(TransformError):
        fixed(change, compat_types.int8_model())


def test_elu_in_8_bits_between_16():
    content = one("ELU", dtype="int16", alone=True)()
    changed = read_tflite(fixed(forms_of_8_bits, content))
    assert [operator.kind for operator in changed.operators] == ["QUANTIZE", "ELU", "QUANTIZE"]
    assert changed.main.tensors[changed.main.outputs[0]].dtype == "int16"

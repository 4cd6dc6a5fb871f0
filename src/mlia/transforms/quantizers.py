"""The quantizers that are there, tried one after the other. For child processes only: they can abort on some models."""

from collections.abc import Callable, Sequence

import numpy
from msgspec import Struct

from mlia.errors import TransformError
from mlia.results import TensorFidelity
from mlia.transforms.calibration import Array
from mlia.transforms.fidelity import Difference
from mlia.transforms.interpreter import Model, first_line, samples_of

# What quantizers append to the name of a tensor that they changed.
_SUFFIXES = ("_quantized", "_int8", "_int16", "_dequantize", "_requantized")


class Request(Struct, frozen=True):
    """What to make of a float model: "int8" or "int16" activations; the names of the signature and its inputs."""

    activations: str
    per_tensor_fc: bool
    signature: str
    inputs: tuple[str, ...]


class Answer(Struct, frozen=True):
    """The integer model, what both models computed for the held-out samples, and how close each tensor is.

    `content` is empty when no quantizer took the model; `failures` says why.
    """

    failures: tuple[str, ...]
    content: bytes = b""
    quantizer: str = ""
    names: tuple[str, ...] = ()
    expected: tuple[Array, ...] = ()
    found: tuple[Array, ...] = ()
    tensors: tuple[TensorFidelity, ...] = ()


def import_litert() -> None:
    """Import what takes long ahead of its use."""
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper, interpreter

    assert _pywrap_tensorflow_lite_calibration_wrapper
    assert interpreter


def quantize_content(
    content: bytes, calibrating: Sequence[Array], held_out: Sequence[Array], request: Request
) -> Answer:
    """Try one quantizer after the other, until the result is close to the float model."""
    quantizers: list[tuple[str, Callable[[bytes, Sequence[Array], Request], bytes]]]
    quantizers = [("LiteRT's quantizer", _quantize_with_litert), ("litert-quantizer", _quantize_with_package)]
    failures: list[str] = []
    for name, quantize in quantizers:
        try:
            quantized = quantize(content, calibrating, request)
            answer = _compare(content, quantized, held_out, name)
        except ModuleNotFoundError:
            failures.append(f"{name}: not installed (pip install 'mlia[quant]')")
            continue
        except (TransformError, RuntimeError, ValueError, KeyError, ImportError, NotImplementedError) as error:
            failures.append(f"{name}: {first_line(error)}")
            continue
        if _is_close(answer):
            return answer
        failures.append(f"{name}: its result has nothing in common with the float model")
    return Answer(tuple(failures))


def _quantize_with_litert(content: bytes, samples: Sequence[Array], request: Request) -> bytes:
    """TFLite's own quantizer, which LiteRT brings along: full integer, per channel, integer inputs and outputs."""
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as calibration

    wrapper = calibration.CalibrationWrapper(content, [], [])
    wrapper.Prepare([list(stack.shape[1:]) for stack in samples])
    for sample in samples_of(samples):
        wrapper.FeedTensor(list(sample))
    is_int16 = request.activations == "int16"
    activations = numpy.dtype(numpy.int16 if is_int16 else numpy.int8).num
    # With 16-bit activations the kernels take biases of 64 bits only.
    biases = numpy.dtype(numpy.int64 if is_int16 else numpy.int32).num
    # Types of inputs and outputs; no float left over; type of activations and biases; per tensor, at all and for
    # fully connected weights.
    return bytes(
        wrapper.QuantizeModel(activations, activations, False, activations, biases, False, request.per_tensor_fc)
    )


def _quantize_with_package(content: bytes, samples: Sequence[Array], request: Request) -> bytes:
    """The litert-quantizer package (extra `quant`), which knows some operators that the other does not."""
    from litert_quantizer import calibrator, quantizer, recipe
    from litert_quantizer.utils import qsv_utils

    recipes = {"int8": recipe.static_wi8_ai8, "int16": recipe.static_wi8_ai16}
    quantizer_ = quantizer.Quantizer(content, recipes[request.activations]())
    # Its default is a moving average of the extremes, which clips; the extremes themselves are what is wanted.
    observer = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    dataset = [dict(zip(request.inputs, sample, strict=True)) for sample in samples_of(samples)]  # it is read twice
    observer.calibrate({request.signature: dataset}, quantizer_._recipe_manager)
    result = quantizer_.quantize(observer.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _compare(original: bytes, quantized: bytes, samples: Sequence[Array], quantizer: str) -> Answer:
    """Both models on the same samples: their outputs, and every tensor that both have by name."""
    theirs, ours = Model(original), Model(quantized)
    names = theirs.output_names()
    pairs = _common_tensors(theirs, ours)
    tensors = {name: Difference() for name in pairs}
    expected: list[list[Array]] = [[] for _ in names]
    found: list[list[Array]] = [[] for _ in names]
    for sample in samples_of(samples):
        theirs.run(sample)
        ours.run(sample)
        for position in range(len(names)):
            expected[position].append(theirs.output(position))
            found[position].append(ours.output(position))
        for name, (left, right) in pairs.items():
            tensors[name].add(theirs.real(left), ours.real(right))
    return Answer(
        failures=(),
        content=quantized,
        quantizer=quantizer,
        names=tuple(names),
        expected=tuple(numpy.stack(arrays) for arrays in expected),
        found=tuple(numpy.stack(arrays) for arrays in found),
        tensors=tuple(difference.figures(name) for name, difference in tensors.items()),
    )


def _common_tensors(theirs: Model, ours: Model) -> dict[str, tuple[int, int]]:
    known = {plain_name(name): index for name, index in ours.computed().items()}
    return {name: (index, known[name]) for name, index in theirs.computed().items() if name in known}


def plain_name(name: str) -> str:
    """A tensor's name in the float model, from its name in the quantized one."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _is_close(answer: Answer) -> bool:
    """Whether the result deserves belief: its error must be smaller than what it is an error of."""
    for name, expected, found in zip(answer.names, answer.expected, answer.found, strict=True):
        difference = Difference()
        difference.add(expected, found)
        if difference.figures(name).relative_error >= 1:
            return False
    return True

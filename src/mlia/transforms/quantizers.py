"""The quantizers that are there, tried one after the other. For child processes only: they can abort on some models."""

from collections.abc import Callable, Iterator, Sequence

import numpy
from msgspec import Struct

from mlia.errors import TransformError
from mlia.fidelity import Fidelity
from mlia.transforms.calibration import Array, Calibration
from mlia.transforms.cells import with_narrow_cells
from mlia.transforms.fidelity import Closeness, Difference
from mlia.transforms.interpreter import Model, first_line, samples_of
from mlia.transforms.nominal import with_nominal_ranges

# What quantizers append to the name of a tensor that they changed.
_SUFFIXES = ("_quantized", "_int8", "_int16", "_dequantize", "_requantized")

# Scales of SOFTMAX, LOGISTIC and TANH (https://ai.google.dev/edge/litert/models/quantization_spec), int8 and int16.
_PRESCRIBED = (1 / 256, 1 / 128, 1 / 32768)

_REFUSALS = (TransformError, RuntimeError, ValueError, KeyError, ImportError, NotImplementedError)
FAINT = "{} activations are all but zero, as in a network that was never trained, and have no range to quantize by"


class Request(Struct, frozen=True):
    """What to make of a float model: "int8" or "int16" activations; the names of the signature and its inputs.

    With `is_nominal_enough`, activations that are all but zero may get nominal ranges: the result is not deployed.
    """

    activations: str
    per_tensor_fc: bool
    signature: str
    inputs: tuple[str, ...]
    is_nominal_enough: bool = False


class Answer(Struct, frozen=True):
    """The integer model, and how close it is to the float model on the held-out samples.

    `content` is empty, and `fidelity` None, when no quantizer took the model; `failures` says why. `nominal` is how
    many activations got a nominal range because what was measured of them is all but zero.
    """

    failures: tuple[str, ...]
    content: bytes = b""
    quantizer: str = ""
    fidelity: Fidelity | None = None
    nominal: int = 0


def import_litert() -> None:
    """Import what takes long ahead of its use."""
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper, interpreter

    assert _pywrap_tensorflow_lite_calibration_wrapper
    assert interpreter


def quantize_content(content: bytes, calibration: Calibration, request: Request) -> Answer:
    """Try one quantizer after the other, until the result is close to the float model."""
    quantizers: list[tuple[str, Callable[[bytes, Sequence[Array], Request], bytes]]]
    quantizers = [("LiteRT's quantizer", _quantize_with_litert), ("litert-quantizer", _quantize_with_package)]
    failures: list[str] = []
    for name, quantize in quantizers:
        try:
            quantized = with_narrow_cells(quantize(content, calibration.calibrating, request))
        except ModuleNotFoundError:
            failures.append(f"{name}: not installed (pip install litert-quantizer==0.11.0)")
            continue
        except _REFUSALS as error:
            failures.append(f"{name}: {first_line(error)}")
            continue
        try:
            closeness, is_close = _compare(content, quantized, calibration)
            if is_close:
                return Answer((), quantized, name, closeness)
            failure = f"{name}: its result has nothing in common with the float model"
        except _REFUSALS as error:
            failure = f"{name}: {first_line(error)}"
        widened, nominal = with_nominal_ranges(quantized)
        if nominal and not request.is_nominal_enough:
            return Answer((FAINT.format(nominal),))
        if nominal:
            return Answer((), widened, name, _compare(content, widened, calibration)[0], nominal)
        failures.append(failure)
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
    try:
        quantizer_ = quantizer.Quantizer(content, recipes[request.activations]())
        # Its default is a moving average of the extremes, which clips; the extremes themselves are what is wanted.
        observer = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        observer.calibrate({request.signature: _Dataset(request.inputs, samples)}, quantizer_._recipe_manager)
        result = quantizer_.quantize(observer.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False)
    except (AttributeError, TypeError, IndexError, AssertionError, ArithmeticError):
        # It takes for granted what a sound model may lack, such as names; what Python says of that helps nobody.
        raise TransformError("it fails on this model") from None
    return bytes(result.quantized_model)


class _Dataset:
    """Samples as dictionaries by the inputs' names. It may be read more than once, and holds none of them."""

    def __init__(self, names: Sequence[str], stacks: Sequence[Array]) -> None:
        self._names, self._stacks = names, stacks

    def __iter__(self) -> Iterator[dict[str, Array]]:
        for sample in samples_of(self._stacks):
            yield dict(zip(self._names, sample, strict=True))


def _compare(original: bytes, quantized: bytes, calibration: Calibration) -> tuple[Fidelity, bool]:
    """Both models on the same held-out samples: their outputs, and every tensor that both have by name.

    And whether they have anything in common. Where TFLite prescribes the scale of an output, as that of a sigmoid,
    what is smaller than a step of it becomes 0: probabilities near 0 are no sign of another model then.
    """
    theirs, ours = Model(original), Model(quantized)
    names = theirs.output_names()
    pairs = _common_tensors(theirs, ours)
    tensors = {name: Difference() for name in pairs}
    outputs = Closeness(names, calibration.labels)
    for sample in samples_of(calibration.held_out):
        theirs.run(sample)
        ours.run(sample)
        expected, found = ([model.output(position) for position in range(len(names))] for model in (theirs, ours))
        outputs.add(expected, found)
        for name, (left, right) in pairs.items():
            tensors[name].add(theirs.real(left), ours.real(right))
    figures = tuple(difference.figures(name) for name, difference in tensors.items())
    steps = [step if step in _PRESCRIBED else None for step in ours.output_steps()]
    return outputs.fidelity(calibration.is_synthetic, figures), outputs.is_close(steps)


def _common_tensors(theirs: Model, ours: Model) -> dict[str, tuple[int, int]]:
    known = {plain_name(name): index for name, index in ours.computed().items()}
    return {name: (index, known[name]) for name, index in theirs.computed().items() if name in known}


def plain_name(name: str) -> str:
    """A tensor's name in the float model, from its name in the quantized one."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name

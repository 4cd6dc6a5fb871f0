"""The child process that runs LiteRT's quantizer and interpreter, which can abort on some models.

Started as `python -m mlia.transforms.litert_child`; stdin names a folder that has request.json and model.tflite.
The child leaves answer.json there. To quantize, it has calibrating.npz and held_out.npz as well, and gets
quantized.tflite. With `input_shapes` in the request, the answer is the shape of every tensor for these.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

_INPUT, _OUTPUT = "inputs", "outputs"
# What quantizers append to the name of a tensor that they changed.
_SUFFIXES = ("_quantized", "_int8", "_int16", "_dequantize", "_requantized")


def main() -> int:
    """Answer the request in a folder."""
    # Before the request comes, so that it does not wait for this.
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper, interpreter

    assert _pywrap_tensorflow_lite_calibration_wrapper
    assert interpreter
    folder = Path(os.fsdecode(sys.stdin.buffer.read()))
    request = json.loads((folder / "request.json").read_text())
    content = (folder / "model.tflite").read_bytes()
    if "input_shapes" in request:
        answer = _infer_shapes(content, request["input_shapes"])
    else:
        answer = _quantize(content, request, folder)
    (folder / "answer.json").write_text(json.dumps(answer))
    return 0


def _infer_shapes(content: bytes, input_shapes: list[list[int]]) -> dict[str, Any]:
    interpreter = _interpreter(content)
    try:
        for detail, shape in zip(interpreter.get_input_details(), input_shapes, strict=True):
            interpreter.resize_tensor_input(detail["index"], shape, strict=True)
        interpreter.allocate_tensors()
        interpreter.invoke()  # some shapes are only known then
    except (RuntimeError, ValueError) as error:
        return {"failures": [_first_line(error)]}
    shapes = {str(detail["index"]): detail["shape"].tolist() for detail in interpreter.get_tensor_details()}
    return {"failures": [], "shapes": shapes}


def _quantize(content: bytes, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Try one quantizer after the other, until the result is close to the float model."""
    calibrating, held_out = (_stacked(folder / f"{name}.npz") for name in ("calibrating", "held_out"))
    answer: dict[str, Any] = {}
    quantizers: list[tuple[str, Callable[..., bytes]]]
    quantizers = [("LiteRT's quantizer", _quantize_with_litert), ("litert-quantizer", _quantize_with_package)]
    failures = []
    for name, quantize in quantizers:
        try:
            quantized = quantize(content, calibrating, request)
            answer = _compare(content, quantized, held_out) | {"quantizer": name}
        except ModuleNotFoundError:
            failures.append(f"{name}: not installed (pip install 'mlia[quant]')")
            continue
        except (RuntimeError, ValueError, KeyError, ImportError, NotImplementedError) as error:
            failures.append(f"{name}: {_first_line(error)}")
            continue
        if _is_close(answer):
            (folder / "quantized.tflite").write_bytes(quantized)
            break
        failures.append(f"{name}: its result has nothing in common with the float model")
    return answer | {"failures": failures}


def _stacked(path: Path) -> list[Any]:
    with numpy.load(path, allow_pickle=False) as archive:
        return [archive[str(index)] for index in range(len(archive.files))]


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _quantize_with_litert(content: bytes, samples: list[Any], request: dict[str, Any]) -> bytes:
    """TFLite's own quantizer, which LiteRT brings along: full integer, per channel, integer inputs and outputs."""
    from ai_edge_litert import _pywrap_tensorflow_lite_calibration_wrapper as calibration

    wrapper = calibration.CalibrationWrapper(content, [], [])
    wrapper.Prepare([list(stack.shape[1:]) for stack in samples])
    for sample in zip(*samples, strict=True):
        wrapper.FeedTensor(list(sample))
    is_int16 = request["activations"] == "int16"
    activations = numpy.dtype(numpy.int16 if is_int16 else numpy.int8).num
    # With 16-bit activations the kernels take biases of 64 bits only.
    biases = numpy.dtype(numpy.int64 if is_int16 else numpy.int32).num
    # Types of inputs and outputs; no float left over; type of activations and biases; per tensor, at all and for
    # fully connected weights.
    return bytes(
        wrapper.QuantizeModel(
            activations, activations, False, activations, biases, False, bool(request["per_tensor_fc"])
        )
    )


def _quantize_with_package(content: bytes, samples: list[Any], request: dict[str, Any]) -> bytes:
    """The litert-quantizer package (extra `quant`), which knows some operators that the other does not."""
    from litert_quantizer import calibrator, quantizer, recipe
    from litert_quantizer.utils import qsv_utils

    recipes = {"int8": recipe.static_wi8_ai8, "int16": recipe.static_wi8_ai16}
    quantizer_ = quantizer.Quantizer(content, recipes[request["activations"]]())
    # Its default is a moving average of the extremes, which clips; the extremes themselves are what is wanted.
    observer = calibrator.Calibrator(content, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    signature, names = request["signature"], request["inputs"]
    dataset = [dict(zip(names, sample, strict=True)) for sample in zip(*samples, strict=True)]  # it is read twice
    observer.calibrate({signature: dataset}, quantizer_._recipe_manager)
    result = quantizer_.quantize(observer.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _compare(original: bytes, quantized: bytes, samples: list[Any]) -> dict[str, Any]:
    """Both models on the same samples: their outputs, and every tensor that both have by name."""
    theirs, ours = _Model(original), _Model(quantized)
    outputs: dict[str, _Difference] = {name: _Difference() for name in theirs.names(_OUTPUT)}
    tensors: dict[str, _Difference] = {}
    pairs = _common_tensors(theirs, ours)
    predictions: list[list[list[int]]] = [[], []]
    for sample in zip(*samples, strict=True):
        theirs.run(sample)
        ours.run(sample)
        for position, difference in enumerate(outputs.values()):
            expected, found = theirs.output(position), ours.output(position)
            difference.add(expected, found)
            if position == 0:
                for kept, values in zip(predictions, (expected, found), strict=True):
                    kept.append([int(numpy.argmax(values))])
        for name, (left, right) in pairs.items():
            tensors.setdefault(name, _Difference()).add(theirs.real(left), ours.real(right))
    return {
        "samples": len(samples[0]),
        "outputs": {name: difference.figures() for name, difference in outputs.items()},
        "tensors": {name: difference.figures() for name, difference in tensors.items()},
        "predictions": [[index for (index,) in kept] for kept in predictions],
    }


def _common_tensors(theirs: "_Model", ours: "_Model") -> dict[str, tuple[int, int]]:
    known = {_plain_name(name): index for name, index in ours.computed().items()}
    return {name: (index, known[name]) for name, index in theirs.computed().items() if name in known}


def _plain_name(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _is_close(answer: dict[str, Any]) -> bool:
    """Whether the result deserves belief: its error must be smaller than what it is an error of."""
    return all(figures["relative_error"] < 1 for figures in answer["outputs"].values())


def _interpreter(content: bytes) -> Any:
    """An interpreter that computes each operator by TFLite's own kernels, and keeps what it computed."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    return Interpreter(
        model_content=content,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


class _Difference:
    """Sums over samples of two tensors that should be equal."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0
        self.agreed = self.compared = 0

    def add(self, expected: Any, found: Any) -> None:
        expected, found = expected.astype(numpy.float64), found.astype(numpy.float64)
        if expected.shape != found.shape:
            raise ValueError(f"a tensor of shape {list(expected.shape)} has become {list(found.shape)}")
        self.signal += float((expected**2).sum())
        self.noise += float(((expected - found) ** 2).sum())
        self.compared += 1
        self.agreed += int(expected.size > 1 and numpy.argmax(expected) == numpy.argmax(found))
        self.size = expected.size

    def figures(self) -> dict[str, float | None]:
        relative = (self.noise / self.signal) ** 0.5 if self.signal else (0.0 if not self.noise else 1.0)
        if not numpy.isfinite(relative):
            relative = 1e9
        sqnr = 10 * float(numpy.log10(self.signal / self.noise)) if self.noise and self.signal else None
        top1 = self.agreed / self.compared if self.size > 1 else None
        return {"relative_error": relative, "sqnr_db": sqnr, "top1_agreement": top1}


class _Model:
    """A TFLite model in the interpreter, fed and read in real numbers."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = _interpreter(content)
        self._interpreter.allocate_tensors()
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    def names(self, side: str) -> list[str]:
        details = self._inputs if side == _INPUT else self._outputs
        return [str(detail["name"]) for detail in details]

    def computed(self) -> dict[str, int]:
        """The outputs of operators by name."""
        found = {}
        for operator in self._interpreter._get_ops_details():
            for index in operator["outputs"]:
                if index in self._details:
                    found[str(self._details[int(index)]["name"])] = int(index)
        return found

    def run(self, sample: tuple[Any, ...]) -> None:
        for detail, values in zip(self._inputs, sample, strict=True):
            self._interpreter.set_tensor(detail["index"], _store(values, detail))
        self._interpreter.invoke()

    def output(self, position: int) -> Any:
        return self.real(self._outputs[position]["index"])

    def real(self, index: int) -> Any:
        values = self._interpreter.get_tensor(index)
        scales = self._details[index]["quantization_parameters"]["scales"]
        if values.dtype.kind != "i" or len(scales) != 1:
            return numpy.asarray(values)
        zero_point = self._details[index]["quantization_parameters"]["zero_points"][0]
        return (values.astype(numpy.float64) - zero_point) * scales[0]


def _store(values: Any, detail: dict[str, Any]) -> Any:
    """Real numbers as the model stores them."""
    dtype = numpy.dtype(detail["dtype"])
    scales = detail["quantization_parameters"]["scales"]
    if dtype.kind != "i" or values.dtype.kind != "f" or len(scales) != 1:
        return values.astype(dtype)
    zero_point = detail["quantization_parameters"]["zero_points"][0]
    limits = numpy.iinfo(dtype)
    return numpy.clip(numpy.round(values / scales[0]) + zero_point, limits.min, limits.max).astype(dtype)


if __name__ == "__main__":
    sys.exit(main())

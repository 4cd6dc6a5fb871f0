"""A TFLite model run by LiteRT, in real numbers. For child processes only: LiteRT can abort on some models."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from mlia.errors import TransformError
from mlia.graph.tflite import read_tflite
from mlia.transforms.calibration import Array


@contextmanager
def telling_refusals(what: str = "LiteRT cannot run the model") -> Iterator[None]:
    """Whatever LiteRT raises, as our own error; every call of its interpreter stands in one of these.

    Raises:
        TransformError: `what`, and the first line of LiteRT's reason.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise TransformError(f"{what}: {first_line(error)}") from None


class Model:
    """A TFLite model in the interpreter, fed and read in real numbers, whatever it stores.

    Raises:
        TransformError: LiteRT refuses the model, or a sample, when it is made, run or read.
    """

    @telling_refusals()
    def __init__(self, content: bytes) -> None:
        self._interpreter = _interpreter(content)
        self._interpreter.allocate_tensors()
        self._details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    def output_names(self) -> list[str]:
        """The outputs' names, in their order."""
        return [str(detail["name"]) for detail in self._outputs]

    def computed(self) -> dict[str, int]:
        """The outputs of operators by name."""
        found = {}
        for operator in self._interpreter._get_ops_details():
            for index in operator["outputs"]:
                if index in self._details:
                    found[str(self._details[int(index)]["name"])] = int(index)
        return found

    def output_steps(self) -> list[float | None]:
        """The scale of each output; None where it has none, or one per channel."""
        scales = [detail["quantization_parameters"]["scales"] for detail in self._outputs]
        return [float(each[0]) if len(each) == 1 else None for each in scales]

    @telling_refusals()
    def run(self, sample: Sequence[Array]) -> None:
        """Run one sample: an array per input, of that input's shape."""
        for detail, values in zip(self._inputs, sample, strict=True):
            self._interpreter.set_tensor(detail["index"], _store(values, detail))
        self._interpreter.invoke()

    def output(self, position: int) -> Array:
        """What the last run computed for one output."""
        return self.real(self._outputs[position]["index"])

    @telling_refusals()
    def real(self, index: int) -> Array:
        """What the last run computed for any tensor, by its index."""
        values = self._interpreter.get_tensor(index)
        scales = self._details[index]["quantization_parameters"]["scales"]
        if values.dtype.kind not in "iu" or len(scales) != 1:
            return numpy.asarray(values)
        zero_point = self._details[index]["quantization_parameters"]["zero_points"][0]
        return (values.astype(numpy.float64) - zero_point) * scales[0]


class ReferenceModel:
    """A TFLite model computed by LiteRT's reference kernels, fed and read in the codes that it stores.

    One exception: what the reference kernel of SUM gives for int8 and int16 is not the sum, with equal scales neither
    (seen with LiteRT 2.3). A model with a quantized SUM is computed by LiteRT's default kernels instead, all of it.

    Variables keep what they hold from one run to the next. With `keeps_all`, every tensor can be read afterwards. With
    `is_optimized`, LiteRT's default kernels compute it.

    Raises:
        TransformError: LiteRT refuses the model, or a sample, when it is made, run or read.
    """

    @telling_refusals()
    def __init__(self, content: bytes, keeps_all: bool = False, is_optimized: bool = False) -> None:
        is_reference = not (is_optimized or _sums_codes(content))
        self._interpreter = _interpreter(content, keeps_all, is_reference)
        self._interpreter.allocate_tensors()
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def reset(self) -> None:
        """Variables, other than resources, hold again what they held at first."""
        self._interpreter.reset_all_variables()

    @telling_refusals()
    def run(self, sample: Sequence[Array]) -> list[Array]:
        """The outputs for one sample: an array per input, of the input's shape and type."""
        for detail, values in zip(self.inputs, sample, strict=True):
            self._interpreter.set_tensor(detail["index"], values)
        self._interpreter.invoke()
        return [self.tensor(detail["index"]) for detail in self.outputs]

    @telling_refusals()
    def tensor(self, index: int) -> Array:
        """What the last run computed for a tensor."""
        return numpy.array(self._interpreter.get_tensor(index))


def _sums_codes(content: bytes) -> bool:
    """Whether there is a quantized SUM in any subgraph."""
    return any(
        operator.kind == "SUM" and operator.inputs and subgraph.tensors[operator.inputs[0]].quantization is not None
        for subgraph in read_tflite(content).subgraphs
        for operator in subgraph.operators
    )


def samples_of(stacks: Sequence[Array]) -> Iterable[tuple[Array, ...]]:
    """One sample after the other, an array per input, from arrays stacked over samples."""
    return zip(*stacks, strict=True)


def outputs(content: bytes, stacks: Sequence[Array]) -> tuple[Array, ...]:
    """What a model computes for each sample: an array per output, (samples, *shape), in real numbers.

    Raises:
        TransformError: LiteRT cannot run the model.
    """
    model = Model(content)
    positions = range(len(model.output_names()))
    found: list[list[Array]] = [[] for _ in positions]
    for sample in samples_of(stacks):
        model.run(sample)
        for position in positions:
            found[position].append(model.output(position))
    return tuple(numpy.stack(arrays) for arrays in found)


def infer_shapes(content: bytes, input_shapes: Sequence[Sequence[int]]) -> dict[int, tuple[int, ...]]:
    """The shape of every tensor for these shapes of the inputs.

    Raises:
        TransformError: LiteRT refuses the model, or it does not work with them.
    """
    with telling_refusals():
        interpreter = _interpreter(content)
    sizes = ", ".join("x".join(map(str, shape)) or "scalar" for shape in input_shapes)
    what = f"the model does not work with inputs of {sizes} (--input-shape sets those that it leaves open)"
    with telling_refusals(what):
        for detail, shape in zip(interpreter.get_input_details(), input_shapes, strict=True):
            interpreter.resize_tensor_input(detail["index"], shape, strict=True)
        interpreter.allocate_tensors()
        interpreter.invoke()  # some shapes are only known then
    return {detail["index"]: tuple(detail["shape"].tolist()) for detail in interpreter.get_tensor_details()}


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop, or its kind."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _interpreter(content: bytes, keeps_all: bool = True, is_reference: bool = False) -> Any:
    """An interpreter that computes each operator by TFLite's own kernels, and keeps what it computed."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    default, reference = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN_REF
    return Interpreter(
        model_content=content,
        num_threads=1,
        experimental_preserve_all_tensors=keeps_all,
        experimental_op_resolver_type=reference if is_reference else default,
    )


def _store(values: Array, detail: dict[str, Any]) -> Array:
    """Real numbers as the model stores them."""
    dtype = numpy.dtype(detail["dtype"])
    scales = detail["quantization_parameters"]["scales"]
    if dtype.kind not in "iu" or values.dtype.kind != "f" or len(scales) != 1:
        return values.astype(dtype)
    zero_point = detail["quantization_parameters"]["zero_points"][0]
    limits = numpy.iinfo(dtype)
    return numpy.clip(numpy.round(values / scales[0]) + zero_point, limits.min, limits.max).astype(dtype)

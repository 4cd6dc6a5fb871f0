"""Calibration data: the user's samples, or seeded synthetic ones that are marked as such."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct

from mlia.errors import TransformError
from mlia.graph.graph import Graph, Tensor
from mlia.transforms.sample_files import MAXIMUM_BYTES, Arrays, read_arrays

Array: TypeAlias = Any  # numpy.ndarray, without importing numpy where nothing is computed
# What arrays_of() takes.
SampleSource: TypeAlias = (
    str | os.PathLike[str] | Mapping[str, Array] | Sequence[Array] | Iterable[Any] | Callable[[], Iterable[Any]]
)
SAMPLES_ARE = "the path of a file or folder, arrays, or a function that yields samples"
_LEAST_BYTES = 1024  # that a sample counts as, so that a generator without an end has one
SYNTHETIC_SAMPLES = 64
SEED = 0
HELD_OUT_SHARE = 0.2
_LARGEST_LABEL = 2**31 - 1
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
LABELS = ("labels", "label", "y")
_PIECE = 1 << 24  # numbers that are looked at together


class Calibration(Struct, frozen=True):
    """Samples for the inputs of one model, some to calibrate with and others held out to judge by.

    Samples are stacked, (samples, *shape of the input), one stack per input in the model's order: an array, or Drawn
    (synthetic.py). `labels` are the classes of the held-out samples, or None.
    """

    description: str
    is_synthetic: bool
    calibrating: tuple[Array, ...]
    held_out: tuple[Array, ...]
    labels: Array | None = None

    @property
    def samples(self) -> int:
        return len(self.calibrating[0])


def synthetic_calibration(graph: Graph, samples: int = SYNTHETIC_SAMPLES, seed: int = SEED) -> Calibration:
    """Seeded standard normal noise for float inputs, and small integers for integer ones.

    A quantized input gets noise in real numbers that fills the range which its makers measured. Samples are drawn
    when they are read, and there are fewer of them where one is huge.

    Raises:
        TransformError: an input is no number, or so large that not one sample is computed.
    """
    from mlia.transforms.synthetic import draw, how_many

    inputs = _inputs(graph)
    count, why = how_many(inputs, samples)
    calibrating, held_out = draw(inputs, count, seed)
    return Calibration(f"synthetic ({count} seeded samples{why})", True, calibrating, held_out)


def load_calibration(source: SampleSource, graph: Graph) -> Calibration:
    """The user's samples: an .npz with one array per input, a folder with one .npy per sample, or what arrays_of takes.

    The arrays of an .npz go by the names of the model's inputs; a model with one input takes the only array
    whatever its name. The first axis counts samples. An array named labels (or y) holds a class for each sample: the
    place of the largest of the first output's values.

    The numbers are real ones, also for inputs that are quantized. Which samples are held out is drawn with a fixed
    seed, because data are often sorted by class.

    Raises:
        TransformError: unreadable data, or data that does not fit the model's inputs.
    """
    import numpy

    inputs, path = _inputs(graph), label_of(source)
    arrays = arrays_of(source, inputs)
    taken = {*unique_names(inputs, "input")}
    labels = None
    if name := next((name for name in LABELS if name in {*arrays} - taken and len(arrays) > 1), ""):
        labels = _classes(numpy.asarray(arrays[name]), graph, path)
        arrays = (
            arrays.without(name) if isinstance(arrays, Arrays) else {key: arrays[key] for key in arrays if key != name}
        )
    stacked = [
        _real(tensor, _shaped(tensor, array, path), path)
        for tensor, array in zip(inputs, _arrays_for(graph, arrays, path), strict=True)
    ]
    counts = {len(array) for array in stacked} | ({len(labels)} if labels is not None else set())
    if len(counts) != 1 or min(counts) < 2:
        found = ", ".join(map(str, sorted(counts)))
        raise TransformError(f"{path}: all arrays need the same number of samples, at least 2; they have {found}")
    (count,) = counts
    kept = count - max(1, round(count * HELD_OUT_SHARE))
    order = numpy.random.default_rng(SEED).permutation(count)
    return Calibration(
        description=f"{path.name} ({kept} samples, {count - kept} more held out)",
        is_synthetic=False,
        calibrating=tuple(array[order[:kept]] for array in stacked),
        held_out=tuple(array[order[kept:]] for array in stacked),
        labels=None if labels is None else labels[order[kept:]],
    )


def load_samples(source: SampleSource, graph: Graph) -> list[list[Array]]:
    """The user's samples as the model stores them: for each an array per input, of the input's shape.

    They are given as in load_calibration, without labels. Integers for a quantized input are taken as its codes, other
    numbers as real ones.

    Raises:
        TransformError: unreadable data, or data that does not fit the model's inputs.
    """
    return fit_samples(arrays_of(source, _inputs(graph)), graph, label_of(source))


def fit_samples(arrays: Mapping[str, Array], graph: Graph, path: Path) -> list[list[Array]]:
    """Arrays by the names of the inputs as load_samples gives them; `path` is named in what goes wrong.

    Inputs of equal names go by unique_names().

    Raises:
        TransformError: data that does not fit the model's inputs: their shapes, or codes that their type does not have.
    """
    stacked = [
        _stored(tensor, _shaped(tensor, array, path), path)
        for tensor, array in zip(_inputs(graph), _arrays_for(graph, arrays, path), strict=True)
    ]
    counts = {len(array) for array in stacked}
    if len(counts) != 1 or not min(counts):
        raise TransformError(f"{path}: all arrays need the same number of samples, at least 1; they have {counts}")
    return [[array[number] for array in stacked] for number in range(counts.pop())]


def label_of(source: SampleSource) -> Path:
    """What to call samples in a report and in what goes wrong: their file, or that they came as arrays."""
    return Path(source) if isinstance(source, str | os.PathLike) else Path("arrays")


def arrays_of(source: SampleSource, inputs: Sequence[Tensor]) -> Mapping[str, Array]:
    """Samples as arrays (samples, *shape) by the names of the inputs.

    Args:
        source: path of an .npz, an .npy or a folder of .npy; a mapping from names of inputs to arrays; an array, for
            the only input; a list of arrays, one for each input in the model's order; or a generator, or a function
            that returns one, of samples: each an array, or a list or mapping of arrays for the inputs, without the
            first axis or with 1 there.
        inputs: those of the model.

    Raises:
        TransformError: none of these, or more than MAXIMUM_BYTES.
    """
    import numpy

    names = unique_names(inputs, "input")
    if isinstance(source, str | os.PathLike):
        return read_arrays(Path(source))
    if isinstance(source, Mapping):
        return {str(name): _array(values) for name, values in source.items()}
    if isinstance(source, list | tuple):
        return dict(zip(names, map(_array, _for_each(source, names)), strict=True))
    if hasattr(source, "__array__"):
        return dict(zip(names, map(_array, _for_each([source], names)), strict=True))
    samples = source() if callable(source) else source
    if not isinstance(samples, Iterable) or isinstance(samples, bytes | bytearray):
        kind = "None" if samples is None else f"a value of type {type(samples).__name__}"
        raise TransformError(f"samples are {SAMPLES_ARE}, and not {kind}")
    stacks: dict[str, list[Array]] = {}
    size_bytes = 0
    for sample in samples:
        if isinstance(sample, Mapping):
            row = {str(name): _array(values) for name, values in sample.items()}
        else:
            given = sample if isinstance(sample, list | tuple) else [sample]
            row = dict(zip(names, map(_array, _for_each(given, names)), strict=True))
        if stacks and [*row] != [*stacks]:
            raise TransformError(f"arrays: a sample is for {', '.join(row)}, and those before for {', '.join(stacks)}")
        for name, values in row.items():
            stack = stacks.setdefault(name, [])
            if stack and values.shape != stack[0].shape:
                shapes = f"{list(values.shape)}, and those before {list(stack[0].shape)}"
                raise TransformError(f"arrays: a sample for '{name}' has shape {shapes}")
            stack.append(values)
            size_bytes += max(values.nbytes, _LEAST_BYTES)
        if size_bytes > MAXIMUM_BYTES:
            raise TransformError(f"arrays: there are more than {MAXIMUM_BYTES:,} bytes of samples; give fewer")
    if not stacks:
        raise TransformError("arrays: the generator yields no samples")
    return {name: numpy.stack(stack) for name, stack in stacks.items()}


def _for_each(arrays: Sequence[Any], names: Sequence[str]) -> Sequence[Any]:
    """The arrays, if there is one for each input."""
    if len(arrays) != len(names):
        raise TransformError(
            f"arrays: there are {len(arrays)} arrays, and the model has {len(names)} inputs ({', '.join(names)});"
            " give one array with all samples for each, or samples one by one from a function"
        )
    return arrays


def _array(values: Any) -> Array:
    """Whatever numpy makes an array of.

    Raises:
        TransformError: it makes none.
    """
    import numpy

    try:
        return numpy.asarray(values)
    except (ValueError, TypeError) as error:
        raise TransformError(f"arrays: numpy makes no array of them: {' '.join(str(error).split())}") from None


def affordable(stacks: Sequence[Array], bytes_of_one: int, most_bytes: int) -> tuple[Array, ...]:
    """The first samples, as many as go with what is kept in memory for each of them; at least one."""
    count = max(1, most_bytes // max(1, bytes_of_one))
    return tuple(stacks) if not stacks or len(stacks[0]) <= count else tuple(stack[:count] for stack in stacks)


def _inputs(graph: Graph) -> list[Tensor]:
    return [graph.main.tensors[index] for index in graph.main.inputs]


def unique_names(tensors: Sequence[Tensor], what: str) -> list[str]:
    """A name for each: its own, or of what it is (`what`), with its number where another has that name already."""
    names: list[str] = []
    for number, tensor in enumerate(tensors):
        own = name = tensor.name or f"{what}_{number}"
        while name in names:
            name, number = f"{own}_{number}", number + 1
        names.append(name)
    return names


def _arrays_for(graph: Graph, arrays: Mapping[str, Array], path: Path) -> Iterator[Array]:
    """An array for each input, by its name; the only one for the only input. One after the other, for memory."""
    import numpy

    names = unique_names(_inputs(graph), "input")
    if len(names) == 1 and len(arrays) == 1:
        names = [*arrays]
    for name in names:
        if name not in arrays:
            raise TransformError(f"{path} has no array for the input '{name}'; it has {', '.join(arrays)}")
    for name in names:
        yield numpy.asarray(arrays[name])


def _shaped(tensor: Tensor, array: Array, path: Path) -> Array:
    """The array as (samples, *shape of the input); channels-first samples of a channels-last input are turned."""
    if not array.ndim:
        raise TransformError(f"{path}: the data for '{tensor.name}' are a single number, not samples")
    if array.dtype.kind not in "fiub":
        raise TransformError(f"{path}: the data for '{tensor.name}' are {array.dtype}, not numbers")
    if not _is_finite(array):
        raise TransformError(f"{path}: the data for '{tensor.name}' hold values that are not finite")
    without_batch = tensor.shape[1:]
    sizes = [size for size in array.shape[1:] if size != 1]
    if len(without_batch) == 3 and sizes != [size for size in without_batch if size != 1]:
        height, width, channels = without_batch
        if array.shape[1:] == (channels, height, width):
            array = array.transpose(0, 2, 3, 1)
            sizes = [size for size in array.shape[1:] if size != 1]
    if sizes != [size for size in tensor.shape if size != 1]:
        raise TransformError(
            f"{path}: the data for '{tensor.name}' have samples of shape {list(array.shape[1:])},"
            f" and the model takes {list(tensor.shape)}"
        )
    return array.reshape(len(array), *tensor.shape)


def _is_finite(array: Array) -> bool:
    """Whether all numbers are; looked at in pieces, because each look makes a truth value for every number."""
    import numpy

    rows = max(1, _PIECE // max(1, array[:1].size))
    return all(numpy.isfinite(array[start : start + rows]).all() for start in range(0, len(array), rows))


def _real(tensor: Tensor, array: Array, path: Path) -> Array:
    """The array in real numbers, as models are calibrated with: float32 for quantized inputs, else the input's type.

    Raises:
        TransformError: what the type does not hold.
    """
    import numpy

    dtype = "float32" if tensor.quantization else tensor.dtype
    whose = f"for '{tensor.name}', which is {dtype}"
    if dtype in INTEGERS:
        low, high = int(numpy.iinfo(dtype).min), int(numpy.iinfo(dtype).max)
        if array.size and not low <= array.min() <= array.max() <= high:
            raise TransformError(f"{path}: numbers from {array.min():g} to {array.max():g} {whose}")
    elif dtype != "bool" and not dtype.startswith("float"):
        raise TransformError(f"{path}: there are data {whose}, and only numbers can be given")
    with numpy.errstate(over="ignore"):
        values = array.astype(dtype, copy=False)
    if array.dtype.kind == "f" and not _is_finite(values):
        raise TransformError(f"{path}: numbers {whose}, too large for it")
    return values


def _stored(tensor: Tensor, array: Array, path: Path) -> Array:
    """The array as the model stores it: integers are codes, and real numbers are quantized.

    Raises:
        TransformError: what the type does not hold.
    """
    import numpy

    whose = f"for '{tensor.name}', which is {tensor.dtype}"
    if tensor.dtype.startswith("float"):
        with numpy.errstate(over="ignore"):
            values = array.astype(tensor.dtype)
        if not numpy.isfinite(values).all():
            raise TransformError(f"{path}: numbers {whose}, too large for it")
        return values
    if tensor.dtype == "bool":
        low, high = 0, 1
    elif tensor.dtype in INTEGERS:
        low, high = int(numpy.iinfo(tensor.dtype).min), int(numpy.iinfo(tensor.dtype).max)
    else:
        raise TransformError(f"{path}: there are data {whose}, and only numbers can be given")
    wanted = f"give codes from {low} to {high}" + (", or real numbers" if tensor.quantization else "")
    if array.dtype.kind == "f":
        if tensor.quantization is None:
            raise TransformError(f"{path}: real numbers {whose} without a scale: {wanted}")
        zero_point, scale = (*tensor.quantization.zero_point, 0)[0], tensor.quantization.scale[0]
        with numpy.errstate(over="ignore"):  # what is beyond all numbers is beyond the codes as well
            return numpy.clip(numpy.round(array / numpy.float64(scale)) + zero_point, low, high).astype(tensor.dtype)
    if array.dtype.kind == "b" and tensor.dtype != "bool":
        raise TransformError(f"{path}: truth values {whose}: {wanted}")
    if array.size and not low <= int(array.min()) <= int(array.max()) <= high:
        raise TransformError(f"{path}: codes from {array.min()} to {array.max()} {whose}: {wanted}")
    return array.astype(tensor.dtype)


def _classes(labels: Array, graph: Graph, path: Path) -> Array:
    """Labels as integers, one per sample, each of which the first output has a value for."""
    import numpy

    if labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        what = f"an array of shape {list(labels.shape)}"
    elif labels.dtype.kind not in "iubf":
        what = f"{labels.dtype}, not numbers"
    elif not (numpy.isfinite(labels) & (labels == numpy.floor(labels))).all():
        what = "not whole numbers"
    elif labels.size and not 0 <= labels.min() <= labels.max() <= _LARGEST_LABEL:
        what = f"from {labels.min():g} to {labels.max():g}"
    else:
        return _in_range(labels.reshape(-1), graph, path)
    raise TransformError(f"{path}: the labels are {what}; give one class per sample, counted from 0")


def _in_range(labels: Array, graph: Graph, path: Path) -> Array:
    """The labels, if the first output has a value for each class, as far as its shape is known."""
    output = graph.main.tensors[graph.main.outputs[0]]
    *outer, classes = output.shape_signature or output.shape or (-1,)
    if classes in (0, 1) or any(size > 1 for size in outer):
        raise TransformError(
            f"{path}: there are labels, but the first output '{output.name}' of shape {list(output.shape)} does not"
            " have a value per class; leave them out"
        )
    if classes > 0 and labels.size and labels.max() >= classes:
        raise TransformError(
            f"{path}: the labels go up to {labels.max():g}, but the first output '{output.name}' has {classes} classes,"
            " counted from 0"
        )
    return labels.astype("int64")

"""ONNX -> Graph: by our own reader, or by onnx2tf in an environment of its own where ours does not know an operator."""

from pathlib import Path

from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats.environments import DEFAULT_TIMEOUT_S, convert
from mlia.graph.formats.onnx_model import End, OnnxGraph, read_model
from mlia.graph.formats.onnx_network import converted
from mlia.graph.formats.onnx_proof import prove, sample_of
from mlia.graph.formats.onnx_qlinear import without_qlinear
from mlia.graph.formats.onnx_reference import trace
from mlia.graph.graph import Graph, InputShapes
from mlia.graph.tflite import read_tflite
from mlia.graph.tflite_writer import write_tflite

_SCRIPT = Path(__file__).with_name("convert_onnx.py")
_SAMPLES = 2


def read_onnx(path: Path, input_shapes: InputShapes | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Graph:
    """Read an ONNX model as float32 TFLite with batch 1 and images channels last.

    What is made of it has been run beside it, on seeded samples, before it is returned.

    Args:
        path: the .onnx file; weights in files beside it are found there.
        input_shapes: sizes of inputs that the model leaves open, in the model's own layout (NCHW).
        timeout_s: seconds that the converter may take.

    Raises:
        ModelError: the model is damaged, has what neither our reader nor the converter knows, or was not converted
            to what computes the same.
    """
    shapes = dict(input_shapes or {})
    try:
        source = read_model(path.read_bytes(), path.parent)
    except OSError as error:
        raise ModelError(f"it cannot be read: {error.strerror or error}") from None
    sizes, notes = fixed_shapes(source, shapes)
    try:
        return _read(without_qlinear(source), sizes, notes)
    except ModelError as refusal:
        if "damaged" in str(refusal):
            raise
        return _after_refusal(path, refusal, shapes, timeout_s)


def _read(source: OnnxGraph, sizes: dict[str, tuple[int, ...]], notes: list[str]) -> Graph:
    samples = [sample_of(source.inputs, sizes, seed) for seed in range(_SAMPLES)]
    traced = trace(source, samples[0])
    model = converted(traced, list(sizes), [end.name for end in source.outputs], notes)
    graph = read_tflite(write_tflite(model.graph))
    prove(source, traced, model, samples)
    return _with_provenance(graph, model.graph)


def _with_provenance(graph: Graph, made: Graph) -> Graph:
    from msgspec.structs import replace

    return replace(graph, provenance=made.provenance)


def _after_refusal(path: Path, refusal: ModelError, shapes: InputShapes, timeout_s: float) -> Graph:
    """Let onnx2tf try what our reader refused."""
    request = {"model": str(path.absolute()), "input_shapes": {name: list(shape) for name, shape in shapes.items()}}
    try:
        return convert("onnx", _SCRIPT, request, "ONNX", timeout_s)
    except BackendUnavailable:
        raise ModelError(f"{refusal}; onnx2tf may convert it: `mlia backend install onnx`") from None
    except ModelError as error:
        raise ModelError(f"{refusal}; and onnx2tf: {error}") from None


def fixed_shapes(source: OnnxGraph, wanted: InputShapes) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The shape of every input with no size open, an open batch being 1; and what was open.

    Raises:
        ModelError: a size is open that is not given, or what is given does not fit.
    """
    if "" in wanted:
        if len(source.inputs) != 1:
            raise ModelError(f"it has {len(source.inputs)} inputs: name the one that --input-shape is for")
        wanted = {source.inputs[0].name: wanted[""]}
    names = [end.name for end in source.inputs]
    for name in sorted(set(wanted) - set(names)):
        raise ModelError(f"it has no input '{name}'; its inputs are {', '.join(names)}")
    if not names:
        raise ModelError("it has no inputs")
    shapes, notes = {}, []
    for end in source.inputs:
        shapes[end.name] = _fixed(end, wanted)
        if shapes[end.name] != end.shape:
            notes.append(f"input {end.name}: {_show(end.shape or ())} -> {_show(shapes[end.name])}")
    return shapes, notes


def _fixed(end: End, wanted: InputShapes) -> tuple[int, ...]:
    if end.dtype in ("unknown", "string"):
        raise ModelError(f"its input '{end.name}' is no tensor of numbers")
    if end.shape is None:
        raise ModelError(f"input '{end.name}' has no shape; export it with one")
    own = end.shape
    shape = tuple(wanted.get(end.name, [1 if i == 0 and size < 0 else size for i, size in enumerate(own)]))
    if -1 in shape:
        raise ModelError(f"input '{end.name}' leaves sizes open ({_show(own)}): give them with --input-shape")
    fits = len(shape) == len(own) and all(size in (-1, new) for size, new in zip(own, shape, strict=True))
    elements = 1
    for size in shape:
        elements *= size
    if not fits or min(shape, default=1) < 1 or elements >= 1 << 31:
        raise ModelError(f"input '{end.name}' is {_show(own)} and cannot be {_show(shape)}")
    return shape


def _show(shape: tuple[int, ...]) -> str:
    return "x".join("?" if size < 0 else str(size) for size in shape)

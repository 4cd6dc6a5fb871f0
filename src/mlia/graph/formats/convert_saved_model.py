"""SavedModel or Keras file -> float32 TFLite, by TensorFlow; run in the `savedmodel` environment, without mlia."""

import os
import sys
from typing import Any

# This folder is on the path for this import only: its modules are named like packages that converters look for.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from converter_child import Refusal, first_line, serve, show, write_samples

sys.path.pop()

# Operations of TensorFlow that become the kinds of TFLite a conversion also adds by itself.
KINDS = {
    "Transpose": "TRANSPOSE", "Pad": "PAD", "PadV2": "PAD", "MirrorPad": "PAD", "Reshape": "RESHAPE",
    "Squeeze": "RESHAPE", "ExpandDims": "RESHAPE", "Cast": "CAST", "Slice": "SLICE", "StridedSlice": "STRIDED_SLICE",
    "ConcatV2": "CONCATENATION", "Shape": "SHAPE", "GatherV2": "GATHER",
}  # fmt: skip
# What reaches outside of the model. TFLite has none of them, but they would run while constants are folded.
UNSAFE = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "PyFuncStateless", "LoadLibrary"}


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Convert the folder or Keras file request["model"] to request["output"]."""
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever its user works with otherwise
    import tensorflow as tf

    source = request["model"]
    if not os.path.isdir(source):
        source = exported(source, os.path.dirname(request["output"]))
    refuse_unsafe(source)
    forget_optimizers(tf)
    try:
        model = tf.saved_model.load(source)
        function = model.signatures.get("serving_default") or next(iter(model.signatures.values()), None)
    except Exception as error:  # TensorFlow has no error of its own for this
        raise Refusal(f"TensorFlow {tf.__version__} cannot load it: {first_line(error)}") from None
    if function is None:
        raise Refusal("it has no signature; save it with one")
    specs, notes = fixed_specs(tf, function, request["input_shapes"])
    names = sorted(specs)

    def call(*arguments: Any) -> Any:
        return function(**dict(zip(names, arguments, strict=True)))

    concrete = tf.function(call, input_signature=[specs[name] for name in names]).get_concrete_function()
    try:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
        content = converter.convert()
    except Exception as error:
        raise Refusal(f"TensorFlow cannot convert it: {reason(error)}") from None
    with open(request["output"], "wb") as file:
        file.write(content)
    run_source(concrete, specs, os.path.dirname(request["output"]))
    kinds = [KINDS[each.type] for each in operations(concrete.graph) if each.type in KINDS]
    return {
        "converter": f"TensorFlow {tf.__version__}",
        "source": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "notes": notes,
    }


def exported(file: str, folder: str) -> str:
    """A Keras file as a SavedModel. Its caller has made sure that it names Keras' own classes only."""
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        """Keras 2 wrote an option that Keras 3 does not take."""

        def __init__(self, *arguments: Any, groups: Any = None, **options: Any) -> None:
            super().__init__(*arguments, **options)

    target = os.path.join(folder, "exported")
    try:
        shim = {"DepthwiseConv2D": DepthwiseConv2D}
        model = keras.models.load_model(file, compile=False, safe_mode=True, custom_objects=shim)
        model.export(target)
    except Exception as error:  # Keras has no error of its own for this
        raise Refusal(f"Keras {keras.__version__} cannot load it: {first_line(error)}") from None
    return target


def refuse_unsafe(folder: str) -> None:
    """Refuse operations that read or write files or call Python, before anything is loaded."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    try:
        with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
            model.ParseFromString(file.read())
    except Exception as error:
        raise Refusal(f"its saved_model.pb is damaged: {first_line(error)}") from None
    for each in model.meta_graphs:
        nodes = [*each.graph_def.node, *(node for part in each.graph_def.library.function for node in part.node_def)]
        for node in nodes:
            if node.op in UNSAFE:
                raise Refusal(f"its operation {node.name} ({node.op}) reaches outside of the model")


def forget_optimizers(tf: Any) -> None:
    """Let models load that were saved with the optimizer of an older Keras: its state is read and not used."""
    from tensorflow.python.saved_model import revived_types

    class Optimizer(tf.__internal__.tracking.AutoTrackable):  # type: ignore[misc]
        def add_slot(self, var: Any, slot_name: str, **_: Any) -> Any:
            return tf.Variable(tf.zeros_like(var), trainable=False, name=slot_name)

    registration = revived_types.VersionedTypeRegistration(
        object_factory=lambda proto: Optimizer(), version=2, min_producer_version=1, min_consumer_version=1
    )
    revived_types.register_revived_type("optimizer", lambda each: isinstance(each, Optimizer), versions=[registration])


def run_source(concrete: Any, specs: dict[str, Any], folder: str) -> None:
    """Leave what TensorFlow computes with the signature."""
    import tensorflow as tf

    inputs = {name: (tuple(spec.shape), spec.dtype.as_numpy_dtype) for name, spec in specs.items()}

    def compute(sample: dict[str, Any]) -> dict[str, Any]:
        found = concrete(*(tf.constant(sample[name]) for name in sorted(specs)))
        return {name: each.numpy() for name, each in found.items()}

    try:
        write_samples(folder, inputs, compute)
    except Exception as error:  # whatever TensorFlow raises while it runs
        raise Refusal(f"TensorFlow cannot run it, so nothing converted can be believed: {first_line(error)}") from None


def operations(graph: Any) -> Any:
    """The operations of a graph and of the functions that it calls."""
    yield from graph.get_operations()
    for function in graph._functions.values():
        if getattr(function, "graph", None) is not None:
            yield from function.graph.get_operations()


def fixed_specs(tf: Any, function: Any, wanted: dict[str, list[int]]) -> tuple[dict[str, Any], list[str]]:
    """The inputs by name with every size given, and what was open. An open batch becomes 1."""
    inputs = function.structured_input_signature[1]
    if "" in wanted:
        if len(inputs) != 1:
            raise Refusal(f"it has {len(inputs)} inputs: name the one that --input-shape is for")
        wanted = {next(iter(inputs)): wanted[""]}
    for name in sorted(set(wanted) - set(inputs)):
        raise Refusal(f"it has no input '{name}'; its inputs are {', '.join(inputs)}")
    specs, notes = {}, []
    for name, spec in inputs.items():
        if spec.shape.rank is None and name not in wanted:
            raise Refusal(f"input '{name}' has no shape: give it with --input-shape")
        own = [-1 if size is None else size for size in spec.shape] if spec.shape.rank is not None else []
        shape = wanted.get(name, [1 if i == 0 and size < 0 else size for i, size in enumerate(own)])
        if -1 in shape:
            raise Refusal(f"input '{name}' leaves sizes open ({show(own)}): give them with --input-shape")
        if not spec.shape.is_compatible_with(shape):
            raise Refusal(f"input '{name}' is {show(own)} and cannot be {show(shape)}")
        if shape != own:
            notes.append(f"input {name}: {show(own)} -> {show(shape)}")
        specs[name] = tf.TensorSpec(shape, spec.dtype, name=name)
    return specs, notes


def reason(error: BaseException) -> str:
    """What the converter says; the operations that TFLite lacks are far down in it."""
    for line in str(error).splitlines():
        if line.strip().startswith(("TF Select ops:", "Custom ops:", "Flex ops:")):
            return f"TFLite has no operators for {line.split(':', 1)[1].strip()}"
    return str(first_line(error))


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    serve(convert)

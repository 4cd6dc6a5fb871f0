"""ONNX -> float32 TFLite with onnx2tf: run by the `onnx` environment's python, and importing nothing of mlia."""

import json
import os
import sys
from typing import Any

# This folder is on the path for this import only: its modules are named like packages that converters look for.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from converter_child import Refusal, first_line, serve, show, write_samples

sys.path.pop()

# ONNX operators that become the kinds of TFLite a conversion also adds by itself.
KINDS = {
    "Transpose": "TRANSPOSE", "Pad": "PAD", "Reshape": "RESHAPE", "Flatten": "RESHAPE", "Squeeze": "RESHAPE",
    "Unsqueeze": "RESHAPE", "Cast": "CAST", "Slice": "STRIDED_SLICE", "Concat": "CONCATENATION",
    "Shape": "SHAPE", "Gather": "GATHER",
}  # fmt: skip


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Convert the model at request["model"] to request["output"]; input shapes are the model's own (NCHW)."""
    import onnx

    try:
        model = onnx.load(request["model"])
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, onnx and the file system each have their own
        raise Refusal(f"it is no valid ONNX model: {first_line(error)}") from None
    fixed = fix_shapes(model, {name: tuple(shape) for name, shape in request["input_shapes"].items()})
    source = [KINDS[node.op_type] for node in model.graph.node if node.op_type in KINDS]
    run_source(model, os.path.dirname(request["output"]))
    version, names = run_onnx2tf(model, request["output"])
    refuse_foreign(request["output"])
    return {
        "converter": f"onnx2tf {version}",
        "source": {kind: source.count(kind) for kind in sorted(set(source))},
        "notes": fixed,
        "names": names,
    }


def run_source(model: Any, folder: str) -> None:
    """Leave what ONNX's own reference evaluator computes."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(model)
        names = [each.name for each in model.graph.output]
        inputs = {
            each.name: (sizes(each), onnx.helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type))
            for each in inputs_of(model)
        }
        write_samples(folder, inputs, lambda sample: dict(zip(names, evaluator.run(None, sample), strict=True)))
    except Exception as error:  # whatever the evaluator does not know
        raise Refusal(
            f"ONNX's reference evaluator cannot run it, so nothing converted can be believed: {first_line(error)}"
        ) from None


def inputs_of(model: Any) -> list[Any]:
    """The inputs that are not weights: old files list those as inputs too."""
    weights = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in weights]


def sizes(value: Any) -> list[int]:
    """The sizes of an input; -1 where one is open."""
    return [
        each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else -1
        for each in value.type.tensor_type.shape.dim
    ]


def fix_shapes(model: Any, wanted: dict[str, tuple[int, ...]]) -> list[str]:
    """Give every input the wanted shape, and an open batch the size 1; says what was open."""
    inputs = inputs_of(model)
    if "" in wanted:
        if len(inputs) != 1:
            raise Refusal(f"it has {len(inputs)} inputs: name the one that --input-shape is for")
        wanted = {inputs[0].name: wanted[""]}
    for name in sorted(set(wanted) - {each.name for each in inputs}):
        raise Refusal(f"it has no input '{name}'; its inputs are {', '.join(each.name for each in inputs)}")
    notes = []
    for each in inputs:
        own = sizes(each)
        if not each.type.HasField("tensor_type") or not each.type.tensor_type.HasField("shape"):
            raise Refusal(f"input '{each.name}' has no shape; export it with one")
        shape = list(wanted.get(each.name, [1 if i == 0 and size < 0 else size for i, size in enumerate(own)]))
        if -1 in shape:
            raise Refusal(f"input '{each.name}' leaves sizes open ({show(own)}): give them with --input-shape")
        if len(shape) != len(own) or any(0 < size != new for size, new in zip(own, shape, strict=True)):
            raise Refusal(f"input '{each.name}' is {show(own)} and cannot be {show(shape)}")
        if shape != own:
            notes.append(f"input {each.name}: {show(own)} -> {show(shape)}")
        for dimension, size in zip(each.type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
    if notes:  # what the file says of shapes further on may name the open sizes
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
    return notes


def run_onnx2tf(model: Any, output: str) -> tuple[str, dict[str, str]]:
    """Write the TFLite file; returns the version of onnx2tf, and the nodes that computed tensors come from."""
    from importlib.metadata import version
    from pathlib import Path

    import onnx
    import onnx2tf

    folder = Path(output).parent / "onnx2tf"
    folder.mkdir()
    try:
        model = onnx.shape_inference.infer_shapes(model)
        file = folder / "model.onnx"
        onnx.save(model, str(file))
        onnx2tf.convert(
            input_onnx_file_path=str(file),
            output_folder_path=str(folder),
            tflite_backend="flatbuffer_direct",
            copy_onnx_input_output_names_to_tflite=True,
            non_verbose=True,
        )
        (folder / "model_float32.tflite").replace(output)
        names = node_names(json.loads((folder / "model_tensor_correspondence_report.json").read_text()))
    except (Exception, SystemExit) as error:
        raise Refusal(f"onnx2tf cannot convert it: {first_line(error)}") from None
    return version("onnx2tf"), names


def node_names(report: dict[str, Any]) -> dict[str, str]:
    """Tensor -> the first ONNX node that it stands for. What leaves the model keeps its name."""
    names: dict[str, str] = {}
    for record in report["records"]:
        node = record["onnx_op_name"]
        if record["is_graph_output"] or not node:
            continue
        # What onnx2tf calls a convolution whose activation it did not fuse, maybe with a transpose behind it.
        names.setdefault(f"{node}_output_nhwc", node)
        if record["producer_op_type"] != "TRANSPOSE" or record["onnx_op_type"] == "Transpose":
            names.setdefault(record["resolved_tflite_tensor_name"], node)
    return names


def refuse_foreign(output: str) -> None:
    """Refuse a file with operators that TFLite does not have."""
    from ai_edge_litert import schema_py_generated as schema

    with open(output, "rb") as file:
        model = schema.Model.GetRootAs(file.read(), 0)
    for i in range(model.OperatorCodesLength()):
        custom = (model.OperatorCodes(i).CustomCode() or b"").decode(errors="replace")
        if custom.startswith("ONNX_"):
            raise Refusal(f"TFLite has no operator for {custom.removeprefix('ONNX_')}")


if __name__ == "__main__":
    serve(convert)

"""PyTorch -> float32 TFLite with litert-torch: run by the `torch` environment's python, importing nothing of mlia."""

import os
import sys
from typing import Any

# This folder is on the path for this import only: its modules are named like packages that converters look for.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from converter_child import Refusal, first_line, serve, show, write_samples

sys.path.pop()

# Operators of PyTorch that become the kinds of TFLite a conversion also adds by itself.
KINDS = {
    "permute": "TRANSPOSE", "transpose": "TRANSPOSE", "t": "TRANSPOSE", "pad": "PAD", "constant_pad_nd": "PAD",
    "view": "RESHAPE", "reshape": "RESHAPE", "flatten": "RESHAPE", "squeeze": "RESHAPE", "unsqueeze": "RESHAPE",
    "cat": "CONCATENATION", "slice": "STRIDED_SLICE", "_to_copy": "CAST", "to": "CAST", "gather": "GATHER",
}  # fmt: skip


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Convert the archive at request["model"] to request["output"]; input shapes are the model's own (NCHW)."""
    program = load(request["model"])
    names, arguments, notes = examples(program, request["input_shapes"])
    images = [i for i, each in enumerate(arguments) if each.dim() == 4]
    targets = [str(node.target).split(".")[1] for node in program.graph.nodes if str(node.target).startswith("aten.")]
    source = [KINDS[each] for each in targets if each in KINDS]
    run_source(program, arguments, os.path.dirname(request["output"]))
    run_litert_torch(program, arguments, images, request["output"])
    from importlib.metadata import version

    return {
        "converter": f"litert-torch {version('litert-torch')}",
        "source": {kind: source.count(kind) for kind in sorted(set(source))},
        "notes": notes + [f"input {names[i]}: NCHW -> NHWC" for i in images],
        "names": {f"serving_default_args_{i}": name for i, name in enumerate(names)}
        | module_names(program, request["output"]),
    }


def load(path: str) -> Any:
    """The exported program. Pickled tensors are loaded as tensors only, whatever the archive asks for."""
    import torch

    trusting = torch.load

    def load_tensors_only(*arguments: Any, **options: Any) -> Any:
        return trusting(*arguments, **(options | {"weights_only": True}))

    torch.load = load_tensors_only
    try:
        return torch.export.load(path)
    except Exception as error:  # torch has no error of its own for this
        if isinstance(error, UnicodeDecodeError):
            raise Refusal(f"torch {torch.__version__} cannot load it: a name or a text in it is not UTF-8") from None
        if "weights_only" in str(error):  # and what it says then is to trust the file
            raise Refusal("it holds pickled objects that are no tensors, and could run any code") from None
        raise Refusal(f"torch {torch.__version__} cannot load it: {first_line(error)}") from None


def examples(program: Any, wanted: dict[str, list[int]]) -> tuple[list[str], list[Any], list[str]]:
    """The inputs' names, zeros of their shapes, and what had to be fixed. An open batch becomes 1."""
    import torch

    user = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in user]
    names = [node.name for node in nodes]
    if "" in wanted:
        if len(names) != 1:
            raise Refusal(f"it has {len(names)} inputs: name the one that --input-shape is for")
        wanted = {names[0]: wanted[""]}
    for name in sorted(set(wanted) - set(names)):
        raise Refusal(f"it has no input '{name}'; its inputs are {', '.join(names)}")
    arguments, notes = [], []
    for node in nodes:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise Refusal(f"input '{node.name}' is no tensor; export the model with tensors only")
        own = [size if isinstance(size, int) else -1 for size in value.shape]
        shape = wanted.get(node.name, [1 if i == 0 and size < 0 else size for i, size in enumerate(own)])
        if -1 in shape:
            raise Refusal(f"input '{node.name}' leaves sizes open ({show(own)}): give them with --input-shape")
        if len(shape) != len(own) or any(0 < size != new for size, new in zip(own, shape, strict=True)):
            raise Refusal(f"input '{node.name}' is {show(own)} and cannot be {show(shape)}")
        if shape != own:
            notes.append(f"input {node.name}: {show(own)} -> {show(shape)}")
        arguments.append(torch.zeros(shape, dtype=value.dtype))
    if program.call_spec.in_spec is not None and program.call_spec.in_spec.num_leaves != len(names):
        raise Refusal("some of its inputs are constants; export the model with tensors only")
    return names, arguments, notes


def run_source(program: Any, arguments: list[Any], folder: str) -> None:
    """Leave what the exported program computes, under the names that litert-torch's signature has."""
    import torch

    module = program.module(check_guards=False)
    names = [f"args_{place}" for place in range(len(arguments))]
    inputs = {
        name: (tuple(each.shape), str(each.dtype).removeprefix("torch."))
        for name, each in zip(names, arguments, strict=True)
    }

    def compute(sample: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(sample[name]) for name in names))
        if isinstance(found, dict) and all(isinstance(each, torch.Tensor) for each in found.values()):
            return {name: each.numpy() for name, each in found.items()}
        flat = torch.utils._pytree.tree_leaves(found)
        return {f"output_{place}": each.numpy() for place, each in enumerate(flat)}

    try:
        write_samples(folder, inputs, compute)
    except Exception as error:  # whatever torch raises while it runs
        raise Refusal(f"torch cannot run it, so nothing converted can be believed: {first_line(error)}") from None


def run_litert_torch(program: Any, arguments: list[Any], images: list[int], output: str) -> None:
    """Write the TFLite file."""
    import litert_torch

    module = program.module(check_guards=False)
    for i in images:
        arguments[i] = arguments[i].permute(0, 2, 3, 1).contiguous()
    if images:
        module = litert_torch.to_channel_last_io(module, args=images)
    try:
        litert_torch.convert(module, tuple(arguments), strict_export=False).export(output)
    except (Exception, SystemExit) as error:
        raise Refusal(f"litert-torch cannot convert it: {first_line(error)}") from None


def module_names(program: Any, output: str) -> dict[str, str]:
    """Tensor -> the module that computes it, for operators with weights; a kind and a number for the others.

    litert-torch keeps no names. Both sides list the operators with weights in the order they run in, and the sizes
    of their weights must agree one by one; where they do not, none is named after a module.
    """
    from ai_edge_litert import schema_py_generated as schema

    kinds = {number: kind for kind, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    with open(output, "rb") as file:
        model = schema.Model.GetRootAs(file.read(), 0)
    graph = model.Subgraphs(0)
    plain: dict[str, str] = {}
    tensors = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        kind = kinds[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
        name = graph.Tensors(operator.Outputs(0)).Name().decode(errors="replace")
        if "ChannelLastIOWrapper" in name:
            plain[name] = f"{kind.lower()}_{i}"
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            sizes = [int(size) for size in graph.Tensors(operator.Inputs(1)).ShapeAsNumpy()]
            tensors.append((name, sorted(size for size in sizes if size != 1)))
    modules = weighted_modules(program)
    if [sizes for _, sizes in modules] != [sizes for _, sizes in tensors]:
        return plain
    return plain | {tensor: name for (tensor, _), (name, _) in zip(tensors, modules, strict=True) if name}


def weighted_modules(program: Any) -> list[tuple[str, list[int]]]:
    """The paths of modules with weights in the order they run in, with the sizes of the weights but 1."""
    modules = []
    for node in program.graph.nodes:
        if str(node.target).split(".")[:2] in (["aten", "conv2d"], ["aten", "convolution"], ["aten", "linear"]):
            stack = list((node.meta.get("nn_module_stack") or {}).values())
            weights = getattr(node.args[1], "meta", {}).get("val")
            sizes = [int(size) for size in weights.shape if size != 1] if weights is not None else []
            modules.append((stack[-1][0] if stack else "", sorted(sizes)))
    return modules


if __name__ == "__main__":
    serve(convert)

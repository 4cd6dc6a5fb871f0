"""PyTorch -> float32 TFLite with litert-torch: run by the `torch` environment's python, importing nothing of mlia."""

import json
import os
import sys
from typing import Any

# Operators of PyTorch that become the kinds of TFLite a conversion also adds by itself.
KINDS = {
    "permute": "TRANSPOSE", "transpose": "TRANSPOSE", "t": "TRANSPOSE", "pad": "PAD", "constant_pad_nd": "PAD",
    "view": "RESHAPE", "reshape": "RESHAPE", "flatten": "RESHAPE", "squeeze": "RESHAPE", "unsqueeze": "RESHAPE",
    "cat": "CONCATENATION", "slice": "STRIDED_SLICE", "_to_copy": "CAST", "to": "CAST", "gather": "GATHER",
}  # fmt: skip


class Refusal(Exception):
    """What the user is told in one line."""


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Convert the archive at request["model"] to request["output"]; input shapes are the model's own (NCHW)."""
    program = load(request["model"])
    names, arguments, notes = examples(program, request["input_shapes"])
    images = [i for i, each in enumerate(arguments) if each.dim() == 4]
    targets = [str(node.target).split(".")[1] for node in program.graph.nodes if str(node.target).startswith("aten.")]
    source = [KINDS[each] for each in targets if each in KINDS]
    renamed = run_litert_torch(program, arguments, images, request["output"])
    from importlib.metadata import version

    return {
        "converter": f"litert-torch {version('litert-torch')}",
        "source": {kind: source.count(kind) for kind in sorted(set(source))},
        "notes": notes + [f"input {names[i]}: NCHW -> NHWC" for i in images],
        "names": dict(zip(renamed, names, strict=False)),
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


def run_litert_torch(program: Any, arguments: list[Any], images: list[int], output: str) -> list[str]:
    """Write the TFLite file; returns its names for the inputs, in the order of the arguments."""
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
    return [f"serving_default_args_{i}" for i in range(len(arguments))]


def show(shape: Any) -> str:
    """A shape as text, with ? where a size is open."""
    return "x".join("?" if size < 0 else str(size) for size in shape)


def first_line(error: BaseException) -> str:
    """What an error says in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def main() -> None:
    """One request, one answer; what the converter prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            answer = convert(json.loads(sys.argv[1]))
        except Refusal as refusal:
            answer = {"error": str(refusal)}
        except MemoryError:
            answer = {"error": "converting it takes more memory than a converter may use"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

"""PyTorch -> Graph: a .pt2 archive, checked here, is converted by litert-torch in an environment of its own.

torch.export.load trusts what it reads: it runs pickles, calls any function of torch by name, and evaluates
text as expressions. So the archive is copied entry by entry first, and only what is a plain network passes.
"""

import json
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlia.archives import Archive
from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats.environments import DEFAULT_TIMEOUT_S, convert, locate
from mlia.graph.graph import Graph, InputShapes

_SCRIPT = Path(__file__).with_name("convert_torch.py")
_SIZE_LIMIT_BYTES = 4 << 30
_JSON_LIMIT_BYTES = 256 << 20
_AGAIN = "export it again with torch.export.save of torch 2.9 or newer"
_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+(\.\w+)?|torch\.sym_(int|float|max|min|not)")
_ARITHMETIC = re.compile(
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)|math\.(ceil|floor|trunc)"
)
_EXPRESSION = re.compile(r"[\w\s+\-*/(),<>=&|~]*")
_SYMBOL = re.compile(r"Symbol\('[a-z]\w*'(, \w+=(True|False))*\)")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*|")
# The functions that torch writes into expressions of sizes.
_FUNCTIONS = {
    "Max", "Min", "Mod", "FloorDiv", "CleanDiv", "CeilDiv", "PythonMod", "ModularIndexing", "TruncToInt", "IntTrueDiv",
    "FloorToInt", "CeilToInt", "PowByNatural", "ToFloat", "Where", "Eq", "Ne", "Integer", "Add", "Mul",
}  # fmt: skip


def read_pt2(path: Path, input_shapes: InputShapes | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Graph:
    """Read an archive of torch.export as float32 TFLite with batch 1 and channels-last 4-D inputs.

    Args:
        path: the .pt2 file.
        input_shapes: sizes of inputs that the model leaves open, in the model's own layout (NCHW).
        timeout_s: seconds that the converter may take.

    Raises:
        BackendUnavailable: the converter is not installed.
        ModelError: the archive is damaged, is a pickle, holds code, or has what litert-torch cannot convert.
    """
    with tempfile.TemporaryDirectory(prefix="mlia-") as work:
        checked = Path(work) / "model.pt2"
        _copy_checked(path, checked)
        shapes = {name: list(shape) for name, shape in (input_shapes or {}).items()}
        return convert("torch", _SCRIPT, {"model": str(checked), "input_shapes": shapes}, "PyTorch", timeout_s)


def read_module(module: Any, example_inputs: tuple[Any, ...], timeout_s: float = DEFAULT_TIMEOUT_S) -> Graph:
    """Read a torch.nn.Module of this process, exported as it computes in evaluation mode. It is not changed.

    Args:
        module: the module.
        example_inputs: a tuple of tensors, as its forward() takes them; their shapes are the model's.
        timeout_s: how long the converter may take, in seconds.

    Raises:
        BackendUnavailable: torch is not installed here, or the converter is not.
        ModelError: the module cannot be exported or converted.
    """
    locate("torch")  # before the work, not after it
    try:
        import torch
    except ImportError:
        raise BackendUnavailable("reading a torch.nn.Module needs PyTorch here: pip install torch") from None
    from copy import deepcopy

    with tempfile.TemporaryDirectory(prefix="mlia-") as work:
        path = Path(work) / "module.pt2"
        try:
            quiet = deepcopy(module).eval() if module.training else module
            torch.export.save(torch.export.export(quiet, tuple(example_inputs)), path)
        except Exception as error:  # whatever the user's own code raises while it is traced
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelError(f"torch.export cannot export the module {type(module).__name__}: {reason}") from None
        return read_pt2(path, {}, timeout_s)


def _copy_checked(source: Path, copy: Path) -> None:
    """Copy what passes into a new archive, so that no reader can see another than what was checked."""
    with Archive(source, ModelError) as archive, zipfile.ZipFile(copy, "w") as checked:
        _check_members(archive.sizes)
        for name in archive.sizes:
            content = archive.read(name, _JSON_LIMIT_BYTES if name.endswith(".json") else _SIZE_LIMIT_BYTES)
            if "/models/" in name:
                try:
                    content = _checked_program(content, name)
                except RecursionError:
                    raise ModelError(f"it is a damaged .pt2 archive: {name} is nested too deeply") from None
            checked.writestr(name, content)


def _check_members(sizes: Mapping[str, int]) -> None:
    names = [*sizes]
    if sum(sizes.values()) > _SIZE_LIMIT_BYTES:
        raise ModelError(f"its contents are larger than {_SIZE_LIMIT_BYTES >> 30} GiB")
    if any("/data/aotinductor/" in name for name in names):
        raise ModelError("it holds compiled code (AOTInductor), which mlia does not run; save the exported program")
    if any("custom_obj" in name for name in names):
        raise ModelError("it holds script objects, which mlia does not load; export the model without them")
    programs = [name for name in names if "/models/" in name and name.endswith(".json")]
    if not programs:
        if any(name.endswith("data.pkl") for name in names):
            raise ModelError("it holds a Python pickle, which could run any code; save it with torch.export.save")
        raise ModelError(f"it has no models/model.json; {_AGAIN}")
    if len(programs) > 1:
        raise ModelError(f"it holds {len(programs)} programs; save one")


def _checked_program(content: bytes, name: str) -> bytes:
    """The program without its guards; refuses one that names anything but operators, or has text for sizes."""
    try:
        program = json.loads(content)
    except UnicodeDecodeError:
        raise ModelError(f"it is a damaged .pt2 archive: {name} is not text") from None
    except ValueError:
        raise ModelError(f"it is a damaged .pt2 archive: {name} is no JSON") from None
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        raise ModelError(f"it is a damaged .pt2 archive: {name} is no program")
    program["guards_code"] = []  # text that torch would run
    for key, value in _fields(program):
        if key == "expr_str" and not _is_expression(value):
            raise ModelError(f"it is refused: '{_short(value)}' is no expression of sizes")
        if key == "target" and value is not None and not _is_target(value):
            raise ModelError(f"it is refused: '{_short(value)}' is no operator that mlia converts; {_AGAIN}")
    for key, value in _fields(program["graph_module"].get("graph", {})):
        if key == "as_name" and not (isinstance(value, str) and _IDENTIFIER.fullmatch(value)):
            raise ModelError(f"it is refused: '{_short(value)}' is no name")
    return json.dumps(program).encode()


def _fields(tree: Any) -> Iterator[tuple[str, Any]]:
    """All fields of all objects of a JSON value, without recursion."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _is_target(value: Any) -> bool:
    return isinstance(value, str) and bool(_OPERATOR.fullmatch(value) or _ARITHMETIC.fullmatch(value))


def _is_expression(value: Any) -> bool:
    if not isinstance(value, str) or "__" in value:
        return False
    bare = _SYMBOL.sub("s", value)
    return bool(_EXPRESSION.fullmatch(bare)) and set(re.findall(r"([A-Za-z_]\w*)\s*\(", bare)) <= _FUNCTIONS


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:80]

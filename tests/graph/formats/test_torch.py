import copy
import json
import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest

from mlia.errors import BackendUnavailable, ModelError
from mlia.graph.formats.environments import locate
from mlia.graph.formats.torch import read_module, read_pt2
from mlia.graph.load import load_model
from tests.e2e.judging import JARGON

try:
    PYTHON = locate("torch")
    MISSING = ""
except BackendUnavailable as error:
    MISSING = str(error)

needs_converter = pytest.mark.skipif(bool(MISSING), reason=MISSING)
PROGRAM: dict[str, Any] = {
    "graph_module": {
        "graph": {
            "inputs": [{"as_tensor": {"name": "x"}}],
            "nodes": [{"target": "torch.ops.aten.relu.default", "name": "relu", "inputs": [], "metadata": {}}],
            "sym_int_values": {"s0": {"as_expr": {"expr_str": "Max(1, s0 + 2)"}}},
        }
    },
    "guards_code": ["L['x'].size()[0] == 1"],
}
EXPORT = """
import sys, numpy, torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8),
                    nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
x = torch.randn(2, 3, 16, 16)
numpy.savez(sys.argv[1] + "/io.npz", x=x.numpy(), y=net(x).detach().numpy())
torch.export.save(torch.export.export(net, (x[:1],)), sys.argv[1] + "/net.pt2")
batch = torch.export.Dim("batch")
torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)), sys.argv[1] + "/dynamic.pt2")
"""


def archive(path: Path, program: Any = PROGRAM, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/models/model.json", program if isinstance(program, bytes) else json.dumps(program))
        for name, content in entries.items():
            file.writestr(name.replace("__", "/"), content)
    return path


def changed(**fields: Any) -> dict[str, Any]:
    program = copy.deepcopy(PROGRAM)
    program["graph_module"]["graph"]["nodes"][0].update(fields)
    return program


def sized(expression: str) -> dict[str, Any]:
    program = copy.deepcopy(PROGRAM)
    program["graph_module"]["graph"]["sym_int_values"]["s0"]["as_expr"]["expr_str"] = expression
    return program


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_pt2(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_passes_needs_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIA_HOME", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="run `mlia backend install torch`"):
        read_pt2(archive(tmp_path / "net.pt2"))
    with pytest.raises(BackendUnavailable, match="run `mlia backend install torch`"):
        read_module(object(), ())


@pytest.mark.parametrize(
    "target",
    ["torch.hub.load", "torch.ops.load_library", "torch.load", "_operator.methodcaller", "os.system", "#ext", "", 7],
)
def test_only_operators_are_called(tmp_path: Path, target: Any) -> None:
    assert "is no operator that mlia converts" in refusal(archive(tmp_path / "net.pt2", changed(target=target)))


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('true')", "exec(s0)", "s0.__class__", "open(s0)", "s0[0]", "lambda: s0", "'a'", 3],
)
def test_sizes_are_expressions_only(tmp_path: Path, expression: Any) -> None:
    assert "is no expression of sizes" in refusal(archive(tmp_path / "net.pt2", sized(expression)))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"net__data__aotinductor__model__model.so": b"\x7fELF"}, "compiled code"),
        ({"net__data__constants__custom_obj_0": b""}, "script objects"),
        ({"net__models__other.json": b"{}"}, "holds 2 programs"),
    ],
)
def test_what_is_more_than_a_program(tmp_path: Path, entries: dict[str, bytes], told: str) -> None:
    assert told in refusal(archive(tmp_path / "net.pt2", **entries))


def test_a_pickle_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", pickle.dumps({}))
    assert "it holds a Python pickle" in refusal(path)
    with pytest.raises(ModelError, match="it holds a Python pickle"):
        load_model(path)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(ModelError, match="it is a Python pickle"):
        load_model(path)


def test_damaged(tmp_path: Path) -> None:
    whole = archive(tmp_path / "net.pt2").read_bytes()
    path = tmp_path / "damaged.pt2"
    for end in (10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:end])
        assert "damaged" in refusal(path)
    path.write_bytes(whole.replace(b"aten", b"axen", 1))
    assert "damaged zip archive: Bad CRC-32" in refusal(path)
    for program in (b"{", b"[]", b"\xff", b"\0\0\0{\0", b"[" * 200_000, b"{}", b'{"graph_module": []}'):
        said = refusal(archive(path, program))
        assert "damaged" in said
        assert not JARGON.search(said)
    assert "No such file" in refusal(tmp_path / "none.pt2")


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.pt2", net__é=b"")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    assert refusal(path).endswith("damaged zip archive: a name in it is not text")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("net/models/model.json", "w", force_zip64=True) as entry:
            for _ in range(300):
                entry.write(bytes(1 << 20))
    assert "would unpack from" in refusal(path)


@needs_converter
@pytest.mark.parametrize("name", ["net", "dynamic"])
def test_outputs_and_what_was_added(tmp_path: Path, name: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    subprocess.run([PYTHON, "-I", "-c", EXPORT, tmp_path], check=True, capture_output=True)
    graph = load_model(tmp_path / f"{name}.pt2")
    assert graph.provenance.format == "PyTorch"
    assert graph.provenance.added[-1].endswith(": NCHW -> NHWC")
    assert "CONV_2D" in {each.kind for each in graph.operators}
    assert "TRANSPOSE" not in {each.kind for each in graph.operators}
    names = [graph.main.operator_name(each) for each in graph.operators if each.kind.endswith("CONV_2D")]
    assert names == ["0", "3"]  # the modules of a Sequential are numbered
    arrays = numpy.load(tmp_path / "io.npz")
    interpreter = Interpreter(model_content=bytes(graph.content))
    interpreter.allocate_tensors()
    image = numpy.ascontiguousarray(arrays["x"][:1].transpose(0, 2, 3, 1))
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert numpy.abs(output - arrays["y"][:1]).max() < 1e-4


@needs_converter
def test_what_torch_cannot_load_is_one_line(tmp_path: Path) -> None:
    assert "cannot load it" in refusal(archive(tmp_path / "net.pt2"))


class Hostile:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.proof),)


@needs_converter
def test_pickled_weights_run_no_code(tmp_path: Path) -> None:
    subprocess.run([PYTHON, "-I", "-c", EXPORT, tmp_path], check=True, capture_output=True)
    with zipfile.ZipFile(tmp_path / "net.pt2") as whole, zipfile.ZipFile(tmp_path / "hostile.pt2", "w") as hostile:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("model_weights_config.json"):
                weights = json.loads(content)
                next(iter(weights["config"].values()))["use_pickle"] = True
                content = json.dumps(weights).encode()
            if name.endswith("weights/weight_0"):
                content = pickle.dumps(Hostile(tmp_path / "proof"))
            hostile.writestr(name, content)
    assert "it holds pickled objects that are no tensors" in refusal(tmp_path / "hostile.pt2")
    assert not (tmp_path / "proof").exists()


@needs_converter
def test_a_module_of_this_process() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout())
    graph = read_module(net, (torch.zeros(1, 3, 8, 8),))
    assert "CONV_2D" in {each.kind for each in graph.operators}
    assert net.training
    with pytest.raises(ModelError, match=r"torch\.export cannot export the module Sequential"):
        read_module(net, (torch.zeros(1, 5, 8, 8),))

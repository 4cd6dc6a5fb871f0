from pathlib import Path

import pytest
from conftest import SAMPLE
from models import as_file, sandwich
from msgspec.structs import replace

from mlia.backends.vela.backend import Vela
from mlia.backends.vela.stream import compiled_for
from mlia.errors import ModelError
from mlia.graph.graph import Graph, Operator, Tensor
from mlia.graph.tflite import read_tflite
from mlia.results import Skipped
from mlia.targets.cores import core_names
from mlia.targets.profiles import load_target, target_names


def compile_with_vela(folder: Path, name: str) -> bytes:
    import subprocess
    import sys

    target = load_target(name)
    settings = ["--system-config", target.system_config.name, "--memory-mode", target.memory_mode.name]
    command = [
        sys.executable,
        "-m",
        "ethosu.vela",
        str(SAMPLE),
        "--output-dir",
        str(folder),
        "--config",
        "Arm/vela.ini",
    ]
    subprocess.run([*command, "--accelerator-config", name, *settings], check=True, capture_output=True)
    (compiled,) = folder.glob("*_vela.tflite")
    return compiled.read_bytes()


@pytest.mark.parametrize("name", [name for name in target_names() if name not in core_names()])
def test_the_header_tells_what_a_model_was_compiled_for(name: str, tmp_path: Path) -> None:
    (compiled,) = compiled_for(read_tflite(compile_with_vela(tmp_path, name)))
    assert f"{compiled.npu}-{compiled.macs_per_cycle}" == name


def test_a_model_of_an_old_vela(shared: Path) -> None:
    graph = read_tflite((shared / "tflite_micro/person_detect_vela.tflite").read_bytes())
    result = Vela().run(graph, load_target("ethos-u55-128"))
    (compiled,) = result.compiled
    assert (compiled.npu, compiled.macs_per_cycle, compiled.shram_kib) == ("ethos-u55", 256, 48)
    assert (compiled.compiler, compiled.architecture) == ("Vela 3.11.0", "1.0.6")
    assert isinstance(result.performance, Skipped)
    assert "compiled from" in result.performance.reason


def with_stream(stream: bytes) -> Graph:
    graph = sandwich("ABS")
    tensor = Tensor("stream", (len(stream),), "uint8", None, memoryview(stream))
    operator = Operator(0, "CUSTOM", (0,), (0,), custom_code="ethos-u")
    return replace(graph, subgraphs=(replace(graph.main, tensors=(tensor,), operators=(operator,)),))


@pytest.mark.parametrize("stream", [b"", b"COP", b"COP1", b"COP1\x01\0\0\0", b"ABCD" + bytes(40), b"COP1" + bytes(41)])
def test_a_damaged_header_is_refused(stream: bytes) -> None:
    with pytest.raises(ModelError, match="command stream"):
        compiled_for(with_stream(stream))


def test_a_source_model_is_not_compiled() -> None:
    assert compiled_for(read_tflite(as_file(sandwich("ABS")))) == ()

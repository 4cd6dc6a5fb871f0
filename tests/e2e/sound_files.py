"""One folder with sound files of every format that the command line takes, for the fuzz to damage.

All of them are made of what the project holds, and the same each time.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mlia.backends.vela import process as vela_process
from mlia.graph.load import load_model
from mlia.graph.tflite_writer import write_tflite
from mlia.targets.profiles import BUILT_IN, load_target
from mlia.targets.target import installed_path
from mlia.targets.writing import write_profile
from mlia.testing import Sketch
from tests.damage.containers import zipped_arrays
from tests.simulator.single_operators import KINDS, draw

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
FIXTURES = ROOT / "tests/graph/formats/fixtures"
MLIA = Path(sys.executable).with_name("mlia")
_COMPILED = (
    ("convolution", "int8", "ethos-u55-128"),
    ("depthwise", "int8", "ethos-u65-512"),
    ("softmax", "int16", "ethos-u55-64"),
    ("dense", "int8", "ethos-u85-256"),
    ("average_pool", "int8", "ethos-u85-128"),
)
_INT8, _OFF = "examples/ds_cnn_small_int8.tflite", "examples/off_the_npu.tflite"
_REPORTS = {
    "check": f"check {_OFF} -t ethos-u55-128 --try-budget 1000",
    "check_two": f"check {_INT8} -t ethos-u55-256 -t ethos-u85-256",
    "check_core": f"check {_OFF} -t cortex-m55 --no-try",
    "compare": f"compare {_OFF} {_INT8} -t ethos-u55-128",
    "verify": f"verify {_OFF} -t ethos-u55-128 --samples 1",
    "accuracy": "accuracy",
    "calibrate": "calibrate --measured examples/imaginary_board.csv -t ethos-u55-256 --dry-run",
}
_WRITTEN_OUT = """name = "board"
description = "a board"
strategy = "performance"
[npu]
family = "ethos-u65"
macs_per_cycle = 256
clock_mhz = 1000
[host]
core = "cortex-m55"
clock_mhz = 400
[memory.sram]
bandwidth_gb_s = 8
read_latency_cycles = 32
write_latency_cycles = 32
burst_bytes = 64
max_reads = 8
[memory.dram]
clock_scale = 0.25
read_latency_cycles = 250
ports = 1
[placement]
constants = "dram"
arena = "dram"
cache = "sram"
cache_limit_bytes = 393216
"""
_STEPS = """compensate = true
[quantize]
activations = "int8"
[pruning]
target = 0.5
[clustering]
target = 16
"""
_LAYERS = """[channels]
keep = 0.75
multiple = 8
[[layers]]
match = "dense"
pruning = 0.3
clustering = false
"""
_KIT_LOG = """INFO - Running inference
INFO - Profile for Inference:
INFO - NPU AXI0_RD_DATA_BEAT_RECEIVED beats: 217,393
INFO - NPU ACTIVE cycles: 112600
INFO - NPU IDLE cycles: 612
INFO - NPU TOTAL cycles: 113212
"""
_COUNTERS_LOG = """PMU Events: [ETHOSU_PMU_SRAM_RD, ETHOSU_PMU_NPU_IDLE]
ethosu_pmu_cycle_cntr : 1126000 (112600.0 per inference)
ethosu_pmu_cntr0 : 21000 (2100.0 per inference)
ethosu_pmu_cntr1 : 6120 (612.0 per inference)
"""
_TEXTS = {
    "profile/board.toml": _WRITTEN_OUT,
    "budget/all.toml": "max_latency_ms = 10.0\nmax_sram_kib = 256\nmin_npu_percent = 90\n",
    "budget/one.toml": 'max_flash_kib = 512\n[targets."ethos-u55-128"]\nmax_latency_ms = 5\nmax_sram_kib = 100\n',
    "recipe/steps.toml": _STEPS,
    "recipe/layers.toml": _LAYERS,
    "csv/cycles.csv": "model,cycles\nds_cnn_small_int8.tflite,112600\noff_the_npu.tflite,81300\n",
    "csv/times.csv": "model,ms,board\nds_cnn_small_int8.tflite,0.12,a board\n",
    "csv/logs.csv": "model,log\nds_cnn_small_int8.tflite,kit.log\n",
    "log/kit.log": _KIT_LOG,
    "log/total.log": "NPU IDLE: 612 cycles\nNPU TOTAL: 113212 cycles\n",
    "log/counters.log": _COUNTERS_LOG,
}


def make_sound_files(folder: Path, models: Path | None = None) -> Path:
    """Write them all, in folders by format; `models` is a folder of further .tflite files."""
    for name, text in _TEXTS.items():
        _write(folder / name, text.encode())
    for name in ("ethos-u55-128", "ethos-u85-256", "cortex-m55"):
        _write(folder / f"profile/{name}.toml", (Path(BUILT_IN) / f"{name}.toml").read_bytes())
    _write(folder / "profile/fitted.toml", write_profile(load_target("ethos-u55-256")).encode())
    _write(folder / "ini/vela.ini", Path(installed_path()).read_bytes())
    _tflite(folder, models)
    _frameworks(folder)
    _write(folder / "tosa/tiny.tosa", (FIXTURES / "tiny.tosa").read_bytes())
    _onnx(folder)
    for name, command in _REPORTS.items():
        text = subprocess.run(
            [MLIA, *command.split(), "--format", "json"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        _write(folder / f"report/{name}.json", text)
    command = f"optimize {_INT8} -t ethos-u55-256 --pruning --format json -o".split()
    done = subprocess.run([MLIA, *command, folder / "optimized.tflite"], cwd=ROOT, check=True, capture_output=True)
    _write(folder / "report/optimize.json", done.stdout.replace(os.fsencode(folder), b"."))
    for each in ("optimized.tflite", "optimized.recipe.toml"):
        (folder / each).unlink(missing_ok=True)
    return folder


def samples_of(model: Path, count: int = 3) -> dict[str, Any]:
    """Samples for a sound model's inputs, by name, as `mlia run` takes them."""
    graph = load_model(model)
    random = np.random.default_rng(0)
    arrays = {}
    for tensor in (graph.main.tensors[index] for index in graph.main.inputs):
        shape = (count, *(max(size, 1) for size in tensor.shape))
        if tensor.dtype.startswith("float"):
            arrays[tensor.name] = random.normal(size=shape).astype(np.float32)
        else:
            arrays[tensor.name] = random.integers(0, 2, shape).astype(tensor.dtype)
    return arrays


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _tflite(folder: Path, models: Path | None) -> None:
    for path in [*sorted(EXAMPLES.glob("*.tflite")), *sorted(models.rglob("*.tflite") if models else ())]:
        _write(folder / "tflite" / path.name, path.read_bytes())
    for number, (name, kind) in enumerate(KINDS.items()):
        dtype = kind.dtypes[number % len(kind.dtypes)]
        _write(folder / f"tflite/{name}.tflite", draw(name, dtype, 0).content)
    _write(folder / "tflite/float_net.tflite", _float_net())
    for kind, dtype, target in _COMPILED:
        made = vela_process.compile_model(draw(kind, dtype, 0).content, _npu(target), 120)
        _write(folder / f"compiled/{kind}.tflite", made.model)
    _write(folder / "samples/ds_cnn_small_int8.npz", zipped_arrays(samples_of(EXAMPLES / "ds_cnn_small_int8.tflite")))


def _npu(name: str) -> Any:
    return load_target(name)


def _float_net() -> bytes:
    net = Sketch("float_net")
    x = net.input("image", (1, 12, 12, 3))
    x = net.convolution(x, filters=8, kernel=(3, 3), stride=(2, 2))
    x = net.average_pool(net.depthwise(x), kernel=(6, 6))
    return write_tflite(net.graph([net.softmax(net.fully_connected(net.reshape(x, (1, 8)), units=4))]))


def _frameworks(folder: Path) -> None:
    """What PyTorch and Keras 2 and 3 wrote, and two of these networks as float TFLite."""
    for path in FIXTURES.glob("*.keras"):
        if path.name != "parts_3.keras":  # it has a layer that is not read
            _write(folder / "keras" / path.name, path.read_bytes())
    for path in FIXTURES.glob("*.zip"):
        kind = path.stem.rpartition("_")[2]
        place = kind if kind in ("h5", "pt2") else f"saved_model/{path.stem}"
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / place)
    for name in ("image_3", "sequence_3"):
        graph = load_model(folder / f"keras/{name}.keras")
        _write(folder / f"tflite/{name}_float.tflite", bytes(graph.content))


def _onnx(folder: Path) -> None:
    """A small network, and single operators of every kind."""
    from tests.graph.formats.test_onnx import network
    from tests.graph.formats.test_onnx_layout import CASES, file_of

    _write(folder / "onnx/network.onnx", network())
    for number, case in enumerate(CASES):
        _write(folder / f"onnx/{case.replace(' ', '_')}.onnx", file_of(case, behind_conv=bool(number % 2))[0])

"""The programs that were measured: measured_programs.json, which tools/fit_ethos_u.py fits to.

    python tools/measured_programs.py MODELS --vela PYTHON

MODELS is a folder with the models of measurements.csv: four .tflite, and single_operators/. PYTHON is an interpreter
of an environment in which Vela 5.0.0 is installed: what it compiles is what ran. Each model is compiled by that and by
the installed Vela, and the features of the steps are stored, so that a fit needs neither models nor compilers.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

import mlia
from mlia.backends.ethos_u.coverage import kinds_of
from mlia.backends.ethos_u.features import StepFeatures, features_of
from mlia.backends.ethos_u.measurements import Measurement, compiled_for, measurements
from mlia.backends.vela import process as vela_process
from mlia.backends.vela.process import Compilation, compile_model
from mlia.graph.tflite import read_tflite
from mlia.targets.target import installed_version

STORED = Path(__file__).with_suffix(".json")
MEASURED = "5.0.0"  # the Vela that made what was measured


class Program(Struct, frozen=True):
    """A compiled model: its steps by their places in `Programs.steps`, Vela's cycles, and what it has in it."""

    steps: tuple[int, ...]
    vela_cycles: int
    kinds: tuple[str, ...]


class Programs(Struct, frozen=True):
    """All of them, by `key_of` their measurement: of the Vela that made what was measured, and of that of today."""

    today: str
    steps: tuple[StepFeatures, ...]
    of_measured: dict[str, Program]
    of_today: dict[str, Program]


def read_programs(path: Path = STORED) -> Programs:
    """What is stored."""
    return msgspec.json.decode(path.read_bytes(), type=Programs)


def key_of(measurement: Measurement) -> str:
    """The program of a measurement; the same one ran on several memories."""
    names = (measurement.family, str(measurement.macs), measurement.system_config, measurement.memory_mode)
    return " ".join((*names, measurement.model))


def make_programs(models: Path, python: str) -> Programs:
    """Compile everything twice."""
    places: dict[StepFeatures, int] = {}
    found: tuple[dict[str, Program], dict[str, Program]] = ({}, {})
    for each in measurements():
        key, target = key_of(each), compiled_for(each)
        if key in found[0]:
            continue
        is_operator = each.kind == "operator"
        content = (models / ("single_operators" if is_operator else "") / f"{each.model}.tflite").read_bytes()
        for programs, whole in zip(
            found, (_compiled_by(python, content, target), compile_model(content, target, 600)), strict=True
        ):
            features = features_of(whole, target)
            kinds = kinds_of(read_tflite(content), features)
            if is_operator:
                features = without_copy(features)
            numbers = tuple(places.setdefault(step, len(places)) for step in features)
            programs[key] = Program(numbers, whole.report["total_cycles"], kinds)
    return Programs(installed_version(), tuple(places), *found)


def without_copy(features: tuple[StepFeatures, ...]) -> tuple[StepFeatures, ...]:
    """The measured program of a single operator: it reads its input from DRAM, which Vela 5.2 first copies to SRAM."""
    copies = [step for step in features if step.kind == "copy"]
    if not copies:
        return features
    ((source, linear),) = (
        (each.input_bytes, each.linear_input_bytes) for each in copies[0].transfers if each.memory == "dram"
    )
    changed = []
    for step in features:
        moved = []
        for each in step.transfers:
            if each.memory == "sram":
                each = replace(each, input_bytes=0, linear_input_bytes=0, feature_map_read=0)
            elif each.memory == "dram":
                each = replace(each, input_bytes=source, linear_input_bytes=linear, feature_map_read=source * 64)
            moved.append(each)
        if step.kind != "copy":
            changed.append(replace(step, transfers=tuple(moved)))
    return tuple(changed)


def _compiled_by(python: str, content: bytes, target: object) -> Compilation:
    """What the Vela of another environment makes of a model, by the worker that mlia itself uses."""
    source = str(Path(mlia.__file__).parents[1])
    done = subprocess.run(
        [python, "-P", vela_process.CHILD],
        input=vela_process._settings(target) + b"%d\n" % len(content) + content,
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        check=True,
    )
    answer, _, model = done.stdout.partition(b"\n")
    return Compilation(json.loads(answer), model, "")


def written(programs: Programs) -> bytes:
    """As JSON, a line for each step and program."""
    steps = ",\n".join(msgspec.json.encode(step).decode() for step in programs.steps)
    tables = [
        ",\n".join(f"{json.dumps(key)}:{msgspec.json.encode(each).decode()}" for key, each in table.items())
        for table in (programs.of_measured, programs.of_today)
    ]
    text = (
        f'{{"today":"{programs.today}","steps":[\n{steps}\n],\n'
        f'"of_measured":{{\n{tables[0]}\n}},\n"of_today":{{\n{tables[1]}\n}}}}\n'
    )
    return text.encode()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--vela", required=True, metavar="PYTHON")
    parser.add_argument("--output", type=Path, default=STORED)
    options = parser.parse_args(arguments)
    options.output.write_bytes(written(make_programs(options.models, options.vela)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs the Vela worker on one model: bytes in, the compiler's tables and its log out."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlia.errors import BackendError
from mlia.targets.target import Target
from mlia.targets.vela_ini import installed_path

WORKER = Path(__file__).with_name("vela_worker.py")
DEFAULT_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Compilation:
    """What the compiler answered. `report` holds its sums, `tables` its database, row by row."""

    report: dict[str, Any]
    tables: dict[str, list[dict[str, str]]]
    log: str

    def rows(self, table: str) -> list[dict[str, str]]:
        return self.tables.get(table, [])


def installed_version() -> str:
    """The version of the installed compiler, from the name of its metadata folder (importlib.metadata is slow).

    Raises:
        BackendUnavailable: Vela is not installed.
    """
    packages = installed_path().parents[3]
    versions = [path.name.split("-")[1].removesuffix(".dist") for path in packages.glob("ethos_u_vela-*.dist-info")]
    if len(versions) == 1:
        return versions[0]
    from importlib.metadata import version

    return version("ethos-u-vela")


def compile_model(content: bytes, target: Target, timeout_s: float) -> Compilation:
    """Compile a TFLite file for a target in a child process.

    Raises:
        BackendError: the compiler refused the model, crashed, or took too long.
    """
    # The child sees the parent's modules but skips its start-up hooks, which cost time and may fail.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(
        [sys.executable, "-S", "-P", str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        output, errors = child.communicate(_settings(target) + content, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise BackendError(f"Vela did not finish within {timeout_s:g} s; allow more with --timeout") from None
    finally:
        child.kill()
        child.wait()
    log = errors.decode(errors="replace")
    if child.returncode != 0 or not output:
        raise BackendError(f"Vela {_death(child.returncode)} on this model; the file may be damaged", log)
    answer = json.loads(output)
    if "error" in answer:
        raise BackendError(f"Vela refused the model: {_one_line(answer['error'])}", log)
    tables = {
        name: [dict(zip(header, row, strict=True)) for row in rows]
        for name, (header, *rows) in answer["tables"].items()
    }
    return Compilation(answer["report"], tables, log)


def _settings(target: Target) -> bytes:
    """One line of JSON: what the `vela` command would pass to the core for this target."""
    npu = target.npu
    # A U65-512 is two cores of 256 MACs; every other Ethos-U is one core.
    cores = 2 if (npu.family, npu.macs_per_cycle) == ("ethos-u65", 512) else 1
    system_config = (
        f"[architecture]\nmacs={npu.macs_per_cycle // cores}\ncores={cores}\n"
        f"[vela]\nsystem_config_name={target.system_config.name}\nmemory_mode_name={target.memory_mode.name}\n"
        f"{target.vela_config}"
    )
    options = (
        "[compiler]\nenable_db=true\noutput_format=TFLite\ncop_format=COP1\n"
        f"[scheduler]\noptimize=Performance\narena_size_limit={target.arena_limit_bytes}\n"
        "cpu_tensor_alignment=16\ntensor_allocator=HillClimb\n"
        "[graph]\nsoftmax_int16_neg_exp_range=10.0\n"
    )
    architecture = "EthosU" + npu.family.removeprefix("ethos-u")
    settings = {"architecture": architecture, "system_config": system_config, "options": options}
    return json.dumps(settings).encode() + b"\n"


def _death(returncode: int) -> str:
    if returncode < 0:
        return f"crashed ({signal.Signals(-returncode).name})"
    return f"failed (exit code {returncode})"


def _one_line(text: str) -> str:
    return " ".join(text.split())

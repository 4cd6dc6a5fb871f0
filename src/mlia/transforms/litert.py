"""LiteRT in a child process: a model and a request in, an answer and perhaps a new model out."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlia.errors import TransformError

TIMEOUT_S = 600.0


_waiting: list["subprocess.Popen[bytes]"] = []


def warm_up() -> None:
    """Start the child ahead of its use, so that it imports what it needs while its user loads the model."""
    if not _waiting:
        _waiting.append(_start())


def abandon() -> None:
    """End the child that nobody will ask."""
    while _waiting:
        child = _waiting.pop()
        child.kill()
        child.communicate()


def ask_litert(
    content: bytes, request: Mapping[str, Any], samples: Mapping[str, Sequence[Any]] | None = None
) -> tuple[dict[str, Any], bytes | None]:
    """Run litert_child on a TFLite file; `samples` are lists of numpy arrays by the name of their file.

    Raises:
        TransformError: the child crashed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="mlia-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request))
        (folder / "model.tflite").write_bytes(content)
        for stem, stacks in (samples or {}).items():
            import numpy

            numpy.savez(folder / f"{stem}.npz", **{str(index): stack for index, stack in enumerate(stacks)})
        child = _waiting.pop() if _waiting else _start()
        try:
            _, errors = child.communicate(os.fsencode(folder), timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise TransformError(f"LiteRT did not finish within {TIMEOUT_S:g} s") from None
        finally:
            if child.poll() is None:
                child.kill()
                child.communicate()
        if child.returncode:
            death = _death(child.returncode, errors)
            raise TransformError(f"LiteRT {death}; --no-quantize analyzes the model as it is")
        made = folder / "quantized.tflite"
        return json.loads((folder / "answer.json").read_text()), made.read_bytes() if made.exists() else None


def _start() -> "subprocess.Popen[bytes]":
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", "mlia.transforms.litert_child"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, env=environment)


def _death(returncode: int, errors: bytes) -> str:
    if returncode < 0:
        return f"crashed ({signal.Signals(-returncode).name}) on this model"
    lines = errors.decode(errors="replace").strip().splitlines()
    return f"failed: {lines[-1] if lines else f'exit code {returncode}'}"

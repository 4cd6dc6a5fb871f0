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
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-P", "-m", "mlia.transforms.litert_child", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, env=environment, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise TransformError(f"LiteRT did not finish within {TIMEOUT_S:g} s") from None
        if done.returncode:
            raise TransformError(f"LiteRT {_death(done)}; --no-quantize analyzes the model as it is")
        made = folder / "quantized.tflite"
        return json.loads((folder / "answer.json").read_text()), made.read_bytes() if made.exists() else None


def _death(done: "subprocess.CompletedProcess[bytes]") -> str:
    if done.returncode < 0:
        return f"crashed ({signal.Signals(-done.returncode).name}) on this model"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"failed: {lines[-1] if lines else f'exit code {done.returncode}'}"

"""What LiteRT computes with a converted model, to be held beside its source."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from mlia.errors import ModelError
from mlia.graph.formats.environments import DEFAULT_TIMEOUT_S, ask

Array = Any
_SCRIPT = Path(__file__).with_name("run_tflite.py")


def outputs_beside(content: bytes, samples: Mapping[str, Array], work: Path, every: bool = False) -> dict[str, Array]:
    """The outputs by "sample:position", or every tensor's values, of a TFLite file run in a child process.

    `samples` are the inputs by "sample:position". Files go into the folder `work`.

    Raises:
        ModelError: LiteRT cannot run it.
    """
    model, given, found = work / "beside.tflite", work / "beside.npz", work / "found.npz"
    model.write_bytes(content)
    numpy.savez(given, **samples)
    request = {"model": str(model), "samples": str(given), "output": str(found), "all": every}
    answer = ask([sys.executable, "-P", str(_SCRIPT), json.dumps(request)], work, DEFAULT_TIMEOUT_S)
    if answer.error:
        raise ModelError(f"what was converted does not run: {answer.error}")
    return arrays_of(found)


def arrays_of(path: Path) -> dict[str, Array]:
    """All arrays of an .npz that a child of ours wrote."""
    with numpy.load(path) as found:
        return {name: found[name] for name in found.files}

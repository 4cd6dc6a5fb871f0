"""Arm's mlia 0.9.2, the last one that optimizes, in an environment of its own; see `bench/optimize.py`.

Seen with it: it needs Vela besides, and its own `python` first on the path. It takes .h5 of Keras 2 alone: of a
SavedModel it says "is not a Keras model and could not be converted", with exit code 0. It takes no data: it prunes
in one training step on noise, clusters once, and calibrates with noise between 0 and 1. Without a Corstone simulator
it reports memory and no cycles; and because it calls both models converted_model.tflite and reads a report that is
there already, it reports no change in memory.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

from peers import BENCH, Run, environment, run

NAME = "mlia-0.9.2"
# Its `mlia optimize` refuses TensorFlow's folders, but its own Keras reads those that Keras wrote.
AS_H5 = "import sys, tensorflow as tf; tf.keras.models.load_model(sys.argv[1], compile=False).save(sys.argv[2])"


class Optimized(NamedTuple):
    """What it took, the rows of its own table, and the model that it left."""

    timed: Run
    weighed: Run
    reported: list[str]
    file: Path


def optimize(model: Path, options: list[str]) -> Optimized | str:
    """Run it once for its time and once for its memory; a SavedModel is converted before. A text says why not."""
    try:
        programs = environment(NAME)
    except FileNotFoundError as missing:
        return f"skipped: {missing}"
    if not model.is_dir() and model.suffix != ".h5":
        return "skipped: it optimizes .h5 files of Keras 2"
    folder = BENCH / "peer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = model
    if model.is_dir():
        path = folder / f"{model.name}.h5"
        run([programs / "python", "-c", AS_H5, model, path], folder, weigh=False)
    command = [programs / "mlia", "optimize", path, *options]
    timed = run(command, folder, weigh=False)
    weighed = run(command, folder, weigh=True, log=folder / "said.txt")
    rows = [row for row in (folder / "said.txt").read_text().splitlines() if row.startswith("│") and "used" in row]
    file = folder / "mlia-output/converted_model.tflite"
    return Optimized(timed, weighed, [" ".join(row.replace("│", " ").split()) for row in rows], file)

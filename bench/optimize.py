"""What `mlia optimize` takes, gains and costs, beside its goals and Arm's mlia: `python bench/optimize.py MODEL…`.

MODEL is a float model, or `digits`, which is trained here and has labels. Calibration data are chosen by the
shape of its input: photos for ResNet-8, synthetic speech for the keyword spotter, the tool's own noise for others.
Besides what the tool says on the samples that it holds out, we judge its models on a test set that it never sees.
Each run is a process of its own: once to weigh it, then in rounds, of which the median counts (one round for the
slow ones: fine-tuned and automatic).

--peer runs Arm's mlia 0.9.2 as well, which needs python3.10; arm_optimize.py says how. It reports no cycles, so
`mlia check` judges the model that it leaves.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import arm_optimize
import models
import numpy as np
from peers import BENCH, Run, run
from quantize import outputs

import mlia

U55, U85 = "ethos-u55-256", str(Path(__file__).with_name("ethos-u85-256-flash.toml"))
PRUNED_AND_CLUSTERED = ["--pruning", "--pruning-target", "0.6", "--clustering", "--clustering-target", "16"]
TWO_OF_FOUR = ["--pruning", "--pruning-target", "0.5", "--pruning-pattern", "2:4"]
AUTOMATIC = ["--auto", "--max-loss", "1%"]
RESNET, KEYWORDS, DIGITS = "ResNet-8", "keyword spotter", "digits"
KINDS = {(32, 32, 3): RESNET, (49, 10, 1): KEYWORDS, (8, 8, 1): DIGITS}
LEAST_GAIN = {(RESNET, U55): 1.25, (RESNET, U85): 1.4}
LOSS = 0.01 + 1e-9  # one point, and what rounding adds
WORK = BENCH / "optimize"


class Subject(NamedTuple):
    """A model, what it is, its float TFLite form, and samples where there are some."""

    path: Path
    kind: str
    floating: bytes
    samples: models.Samples | None

    @property
    def data(self) -> list[str | Path]:
        """The option that gives the tool its data."""
        return ["--calibration", self.samples.calibration] if self.samples else []


class Outcome(NamedTuple):
    """What one way to optimize took and gave."""

    seconds: float
    cpu_seconds: float
    weighed: Run
    report: SimpleNamespace
    file: Path


class Judgement(NamedTuple):
    """Relative error against the float model, and the share of right answers: the labels, or the float model's."""

    relative_error: float
    right: float

    @property
    def text(self) -> str:
        return f"{self.right:.1%} right, relative error {self.relative_error:.3f}"


class Scores:
    """Prints a line for each figure, with its goal where it has one, and counts the goals that were missed."""

    def __init__(self) -> None:
        self.missed = 0

    def line(self, name: str, text: str, goal: str = "", met: bool = True) -> None:
        self.missed += not met
        print(f"  {name:19} {text}" + (f"   [goal: {goal}: {'met' if met else 'MISSED'}]" if goal else ""), flush=True)


def subject(name: str) -> Subject:
    path, samples = models.digits() if name == DIGITS else (Path(name).resolve(), None)
    graph = mlia.convert(path, quantize=False).graph
    kind = KINDS.get(tuple(graph.main.tensors[graph.main.inputs[0]].shape[1:]), "model")
    if not samples and kind in (RESNET, KEYWORDS):
        samples = models.photo_crops() if kind == RESNET else models.synthetic_speech()
    return Subject(path, kind, bytes(graph.content), samples)


def ask(answer: Path, *arguments: str | Path, weigh: bool = False) -> tuple[Run, SimpleNamespace]:
    """Run a verb of ours that answers in JSON."""
    command = [sys.executable, "-m", "mlia", *arguments, "--format", "json"]
    result = run(command, BENCH, weigh, answer)
    return result, json.loads(answer.read_text(), object_hook=lambda fields: SimpleNamespace(**fields))


def optimize(model: Subject, target: str, options: list[str], rounds: int) -> Outcome:
    file = WORK / "optimized.tflite"
    command = ["optimize", model.path, "--target-profile", target, *options, *model.data, "-o", file]
    weighed, report = ask(WORK / "optimize.json", *command, weigh=True)
    timed = [ask(WORK / "optimize.json", *command)[0] for _ in range(rounds)]
    seconds = statistics.median(result.seconds for result in timed)
    cpu_seconds = statistics.median(result.cpu_seconds for result in timed)
    return Outcome(seconds, cpu_seconds, weighed, report, file)


def check(path: Path, target: str, *data: str | Path) -> SimpleNamespace:
    """What `mlia check` says of the performance of a file."""
    _, report = ask(WORK / "check.json", "check", path, "--target-profile", target, *data)
    return report.targets[0].results[0].performance


def show(model: Subject, target: str, options: list[str], outcome: Outcome, plain: Path, scores: Scores) -> None:
    """The lines of one way to optimize a model for one target."""
    automatic = options == AUTOMATIC
    (comparison,) = outcome.report.comparisons
    before, after = comparison.before, comparison.after
    print(f"{model.kind} ({model.path.name}), {comparison.target.name}: {' '.join(options)}")
    show_time(model, options, outcome, scores)
    gain, least = before.total_cycles / after.total_cycles, LEAST_GAIN.get((model.kind, target))
    goal = "" if automatic or not least else f"at least {least}"
    text = f"{before.total_cycles:,} -> {after.total_cycles:,}, gain {gain:.3f} (reported {comparison.gain:.3f})"
    scores.line("cycles", text, goal, not goal or gain >= least)
    checked = check(model.path, target, *model.data), check(outcome.file, target)
    cycles = [performance.total_cycles for performance in checked]
    agree = cycles == [before.total_cycles, after.total_cycles]
    scores.line("mlia check", f"{cycles[0]:,} -> {cycles[1]:,}", "the same", agree)
    share = after.compressed_weights_bytes / before.compressed_weights_bytes
    text = f"{before.compressed_weights_bytes:,} -> {after.compressed_weights_bytes:,} bytes ({share:.2f})"
    halved = model.kind == KEYWORDS and options[:6] == PRUNED_AND_CLUSTERED
    scores.line("compressed weights", text, "about half" if halved else "", not halved or share <= 0.55)
    scores.line("flash", f"{before.flash_bytes:,} -> {after.flash_bytes:,} bytes")
    show_closeness(model, outcome, scores)
    if automatic:
        better = after.total_cycles < before.total_cycles or after.flash_bytes <= 0.7 * before.flash_bytes
        scores.line("automatic", "", "fewer cycles, or at least 30 % less flash", better)
    if model.samples:
        one, other = (judge(model, file.read_bytes()) for file in (plain, outcome.file))
        goal = "at most 1 point lost" if automatic else ""
        met = not automatic or one.right - other.right <= LOSS
        scores.line("on the test set", f"{one.text} -> {other.text}", goal, met)


def show_time(model: Subject, options: list[str], outcome: Outcome, scores: Scores) -> None:
    limit = 40 if "--finetune" in options else 3
    if options == AUTOMATIC or model.kind not in (RESNET, KEYWORDS):
        limit = 0
    largest, tree = outcome.weighed.largest_process_kib / 1024, outcome.weighed.tree_kib / 1024
    memory = f"largest process {largest:.0f} MiB, all together {tree:.0f} MiB"
    text = f"{outcome.seconds:.2f} (CPU {outcome.cpu_seconds:.2f}), {memory}"
    scores.line("seconds", text, f"at most {limit}" if limit else "", not limit or outcome.seconds <= limit)


def show_closeness(model: Subject, outcome: Outcome, scores: Scores) -> None:
    """How close both models are to the float one, on the samples that the tool held out."""
    before, after = outcome.report.fidelity_before, outcome.report.fidelity_after
    pairs = list(zip(before.outputs, after.outputs, strict=True))
    data = "noise" if after.is_synthetic else "our data"
    for one, other in pairs:
        errors = f"{one.relative_error:.3f} -> {other.relative_error:.3f}"
        scores.line("relative error", f"{errors} of {one.name} ({after.samples} held-out samples, {data})")
        if one.top1_agreement is not None:
            scores.line("top-1 agreement", f"{one.top1_agreement:.1%} -> {other.top1_agreement:.1%}")
    if after.float_accuracy is not None:
        text = f"{before.quantized_accuracy:.1%} -> {after.quantized_accuracy:.1%}"
        scores.line("accuracy", f"{before.float_accuracy:.1%} in float, {text}")


def show_plain(model: Subject, scores: Scores) -> Path:
    """The lines of plain int8, where optimizing starts; returns its file."""
    plain = WORK / "plain.tflite"
    run([sys.executable, "-m", "mlia", "convert", model.path, *model.data, "-o", plain], BENCH, weigh=False)
    print(f"{model.kind} ({model.path.name}), float to int8")
    floating, size, is_labelled = len(model.floating), plain.stat().st_size, model.kind == DIGITS
    text = f"{floating:,} -> {size:,} bytes, {floating / size:.2f} times smaller"
    scores.line("file", text, "about 4" if is_labelled else "", not is_labelled or floating / size >= 3.5)
    if model.samples:
        before, after = judge(model, model.floating), judge(model, plain.read_bytes())
        goal = "as often right" if is_labelled else ""
        scores.line("on the test set", f"{before.text} -> {after.text}", goal, not goal or before.right == after.right)
    return plain


def judge(model: Subject, content: bytes) -> Judgement:
    """How a model does on data that neither training, calibration nor the choice of a result has seen."""
    test = np.load(model.samples.test)
    expected, actual = outputs(model.floating, test["input"]), outputs(content, test["input"])
    labels = test["labels"] if "labels" in test else expected.argmax(axis=1)
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    return Judgement(float(error), float((actual.argmax(axis=1) == labels).mean()))


def show_peer(model: Subject, ours: Outcome) -> None:
    """What Arm's mlia takes for the same, and what its model is worth."""
    theirs = arm_optimize.optimize(model.path, ["--target-profile", U55, *PRUNED_AND_CLUSTERED])
    name = "Arm's mlia 0.9.2"
    if isinstance(theirs, str):
        print(f"  {name:19} {theirs}")
        return
    largest, ratio = theirs.weighed.largest_process_kib / 1024, ours.seconds / theirs.timed.seconds
    print(f"  {name:19} {theirs.timed.seconds:.1f} s, {largest:.0f} MiB; ours takes {ratio:.2f} of its time")
    print(f"  {'  reports':19} {'; '.join(theirs.reported)} %")
    performance, before = check(theirs.file, U55), ours.report.comparisons[0].before
    gain, weights = before.total_cycles / performance.total_cycles, performance.memory.compressed_weights_bytes
    print(f"  {'  its model':19} {performance.total_cycles:,} cycles, gain {gain:.3f}; {weights:,} bytes compressed")
    if model.samples:
        print(f"  {'  on the test set':19} {judge(model, theirs.file.read_bytes()).text}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", metavar="MODEL", nargs="+")
    parser.add_argument("--peer", action="store_true", help="beside Arm's mlia 0.9.2")
    parser.add_argument("--finetune", metavar="STEPS", help="the same, fine-tuned")
    parser.add_argument("--auto", action="store_true", help="what the tool chooses by itself, too")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    scores = Scores()
    finetune = ["--finetune", arguments.finetune] if arguments.finetune else []
    for name in arguments.models:
        model = subject(name)
        plain = show_plain(model, scores)
        runs = [(U55, [*PRUNED_AND_CLUSTERED, *finetune]), (U85, [*TWO_OF_FOUR, *finetune])]
        for target, options in runs + ([(U55, AUTOMATIC)] if arguments.auto else []):
            slow = finetune or options == AUTOMATIC
            try:
                outcome = optimize(model, target, options, 1 if slow else arguments.rounds)
            except SystemExit as failure:
                scores.line("failed", str(failure), "a result", met=False)
                continue
            show(model, target, options, outcome, plain, scores)
            if arguments.peer and options[:6] == PRUNED_AND_CLUSTERED:
                show_peer(model, outcome)
    print(f"{scores.missed} goals missed")
    return int(scores.missed > 0)


if __name__ == "__main__":
    sys.exit(main())

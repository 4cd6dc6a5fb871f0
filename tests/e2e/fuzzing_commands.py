"""The command lines of the fuzz: for each format and verb that takes it, a command as a user might type it.

Commands run in an empty folder beside "in", what they are given, and "out", where they may write.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.damage.containers import zipped_arrays
from tests.damage.values import WORDS, wild_word
from tests.e2e.sound_files import EXAMPLES, samples_of

TARGETS = ("ethos-u55-32", "ethos-u55-128", "ethos-u55-256", "ethos-u65-512", "ethos-u85-256", "ethos-u85-2048")
_INT8, _FLOAT = str(EXAMPLES / "ds_cnn_small_int8.tflite"), str(EXAMPLES / "ds_cnn_small_float.tflite")
_NUMBERS = (
    "-1", "0", "1e400", "nan", "inf", "-inf", "9" * 30, "1.5", "0x10", "½", "1_0", "", " 1", "(" * 50, "[", "*",
)  # fmt: skip


def command(kind: str, verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    """A command of the verb that is given the damaged file `given`; what else it needs is written into `beside`.

    `source` is the sound file that `given` was.
    """
    return _COMMANDS.get(kind, _of_model)(verb, given, source, beside, random)


def _of_model(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    is_compiled = source.parent.name == "compiled"
    npu = [] if is_compiled and random.random() < 0.8 else ["-t", random.choice(TARGETS)]
    target = ["-t", random.choice((*TARGETS, *TARGETS, "cortex-m55", "cortex-m4"))]
    match verb:
        case "check":
            further = ["-t", random.choice(TARGETS), "--no-try"] if random.random() < 0.1 else []
            return [verb, given, *target, *further, *(_check_options(random) if not further else ())]
        case "compare":
            sides = [given, str(source)]
            random.shuffle(sides)
            return [verb, *sides, *target, *_form(random, "json", "markdown", "html")]
        case "verify":
            return [
                verb,
                given,
                *npu,
                "--samples",
                "1",
                *random.choice(([], [], ["--format", "json"], ["--all-operators"])),
            ]
        case "run":
            return [verb, given, *npu, "--inputs", _samples(source, beside), "-o", "../out/outputs.npz"]
        case "trace":
            return [verb, given, *npu, *random.choice(([], ["--summary"], ["-o", "../out/trace.txt"]))]
        case "optimize":
            return [
                verb,
                given,
                *target,
                "-o",
                "../out/smaller.tflite",
                *_recipe(random),
                *_form(random, "json", "html"),
            ]
        case "convert":
            return [
                verb,
                given,
                "-o",
                "../out/converted.tflite",
                *random.choice(([], [], ["--quantize", "int16"], ["--verbose"])),
            ]
    _measured(beside, given)
    return [verb, "--measured", "../in/runs.csv", "-t", "ethos-u55-128", "-o", "../out/board.toml"]


def _check_options(random: Random) -> list[str]:
    options = ["--no-try"] if random.random() < 0.65 else []
    if random.random() < 0.1:
        options = ["--fix", "../out/fixed.tflite"]
    elif random.random() < 0.05:
        options = ["--keep-tried", "../out/tried"]
    extra = random.choice(
        ([], [], [], ["--performance"], ["--compatibility"], ["--no-quantize"], ["--estimator", "vela"])
    )
    return [*options, *extra, *_form(random, "json", "html", "csv", "markdown", "github", "junit", "sarif")]


def _form(random: Random, *forms: str) -> list[str]:
    if random.random() < 0.5:
        return []
    form = random.choice(forms)
    return ["--format", form]


def _recipe(random: Random) -> list[str]:
    ways = (
        "--pruning",
        "--clustering",
        "--rewrite",
        "--channels 0.5",
        "--channels dead",
        "--quantize int16",
        "--pruning --clustering",
    )
    return ["--auto", "--time-budget", "2"] if random.random() < 0.05 else random.choice(ways).split()


def _samples(source: Path, beside: Path) -> str:
    """Samples for what the model was before it was damaged."""
    (beside / "samples.npz").write_bytes(zipped_arrays(samples_of(source)))
    return "../in/samples.npz"


def _measured(beside: Path, given: str) -> None:
    name = given.rpartition("/")[2].replace('"', '""')
    (beside / "runs.csv").write_text(f'model,cycles\n"{name}",100000\n')


def _of_samples(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    target = ["-t", random.choice(TARGETS[1:])]
    match verb:
        case "run":
            return [verb, _INT8, *target, "--inputs", given, "-o", "../out/outputs.npz"]
        case "verify":
            return [verb, _INT8, *target, "--inputs", given]
        case "check":
            return [verb, _FLOAT, *target, "--no-try", "--calibration", given]
        case "convert":
            return [verb, _FLOAT, "--calibration", given, "-o", "../out/converted.tflite"]
    return [verb, _INT8, *target, "--calibration", given, "-o", "../out/smaller.tflite", *_recipe(random)]


def _of_report(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    match verb:
        case "view":
            is_check = source.name.startswith("check") or random.random() < 0.1
            forms = ("json", "html", "csv", "markdown", "github", "junit", "sarif", "model-explorer")
            form = _form(random, *(forms if is_check else forms[:1]))
            budget = (["--max-latency-ms", "1"], ["--max-sram-kib", "10", "--min-npu-percent", "50"])
            limits = random.choice(budget) if is_check and random.random() < 0.4 else []
            place = ["-o", "../out/view"] if "model-explorer" in form or random.random() < 0.1 else []
            return [verb, given, *form, *limits, *place]
        case "compare":
            others = sorted(path for path in source.parent.iterdir() if path.name.startswith("check"))
            other = source if source in others else random.choice(others)
            model = ["-t", "ethos-u55-128"] if random.random() < 0.2 else []
            sides = [given, str(EXAMPLES / "off_the_npu.tflite") if model else str(other)]
            random.shuffle(sides)
            limit = random.choice(([], ["--max-regression-percent", "5"]))
            return [verb, *sides, *model, *limit, *_form(random, "json", "markdown", "html")]
    limit = ["--max-regression-percent", "5", "--baseline", given]
    return [verb, str(EXAMPLES / "off_the_npu.tflite"), "-t", "ethos-u55-128", "--no-try", *limit]


def _of_profile(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    match verb:
        case "target":
            return [verb, "show", given if "/" in given else f"./{given}"]
        case "check":
            return [verb, _INT8, "-t", given, "--no-try", *_form(random, "json", "html")]
        case "verify":
            return [verb, _INT8, "-t", given, "--samples", "1"]
        case "trace":
            return [verb, _INT8, "-t", given, "--summary"]
    place = random.choice((["-o", "../out/board.toml"], ["--dry-run"], []))
    return [verb, "--measured", f"{_INT8}={_log(beside)}", "-t", given, *place]


def _log(beside: Path) -> str:
    (beside / "run.log").write_text("NPU ACTIVE cycles: 112600\n")
    return "../in/run.log"


def _of_ini(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    """A profile that names its memories in the damaged file."""
    system, mode = random.choice(
        (("Ethos_U55_High_End_Embedded", "Shared_Sram"), ("Ethos_U55_Deep_Embedded", "Sram_Only"))
    )
    clock = 500 if "High" in system else 200
    lines = [
        '[npu]\nfamily = "ethos-u55"\nmacs_per_cycle = 128',
        f"clock_mhz = {clock}",
        '[host]\ncore = "cortex-m55"\nclock_mhz = 500',
    ]
    ini = json.dumps(given.removeprefix("../in/"))
    lines += [f'[vela]\nsystem_config = "{system}"\nmemory_mode = "{mode}"\nini = {ini}\n']
    (beside / "board.toml").write_text("\n".join(lines))
    return _of_profile(verb, "../in/board.toml", source, beside, random)


def _of_budget(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    if verb == "check":
        return [verb, _INT8, "-t", "ethos-u55-128", "--no-try", "--budget", given]
    report = source.parent.parent / "report/check.json"
    return [verb, str(report), "--budget", given, *_form(random, "json", "junit")]


def _of_recipe(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    model = random.choice((_INT8, str(source.parent.parent / "tflite/float_net.tflite")))
    return [verb, model, "-t", "ethos-u55-256", "--recipe", given, "-o", "../out/smaller.tflite"]


def _of_runs(verb: str, given: str, source: Path, beside: Path, random: Random) -> list[str]:
    for path in EXAMPLES.glob("*.tflite"):
        shutil.copy(path, beside)
    for path in (source.parent.parent / "log").iterdir():
        if not (beside / path.name).exists():
            shutil.copy(path, beside)
    measured = f"../in/ds_cnn_small_int8.tflite={given}" if source.suffix == ".log" else given
    return [
        verb,
        "--measured",
        measured,
        "-t",
        "ethos-u55-256",
        *random.choice((["-o", "../out/board.toml"], ["--dry-run"])),
    ]


_COMMANDS: dict[str, Callable[[str, str, Path, Path, Random], list[str]]] = {
    "npz": _of_samples,
    "samples": _of_samples,
    "report": _of_report,
    "profile": _of_profile,
    "ini": _of_ini,
    "budget": _of_budget,
    "recipe": _of_recipe,
    "csv": _of_runs,
    "log": _of_runs,
}
_SOUND_WORDS = {
    "explain": ["PER002"],
    "schema": ["optimize"],
    "target": ["show", "ethos-u55-256"],
    "rule": ["list", "--select", "CMP"],
    "check": [_INT8, "-t", "ethos-u55-256", "--no-try", "--width", "100", "--timeout", "60",
              "--select", "PER", "--fail-on", "never"],
    "view": ["missing.json", "--format", "json", "--max-sram-kib", "5", "--max-latency-ms", "1"],
    "optimize": [_INT8, "-t", "ethos-u55-256", "-o", "../out/o.tflite", "--layer", "dense:pruning=0.3,clustering=off",
                 "--pruning-target", "0.5", "--clustering-target", "16", "--channels-multiple", "8"],
    "convert": [_FLOAT, "-o", "../out/o.tflite", "--input-shape", "mfcc=1,49,10,1", "--calibration", "none.npz"],
    "compare": [_INT8, _INT8, "-t", "ethos-u55-256", "--max-regression-percent", "3", "--format", "markdown"],
    "accuracy": ["--rows", "--format", "json"],
    "backend": ["list"],
    "run": [_INT8, "-t", "ethos-u55-256", "--inputs", "none.npz", "-o", "../out/o.npz"],
    "verify": [_INT8, "-t", "ethos-u55-256", "--samples", "1", "--seed", "1"],
}  # fmt: skip


def wild_words(verb: str, random: Random) -> list[str]:
    """A command line with words missing, doubled, misspelled or wild."""
    words = [*_SOUND_WORDS[verb]]
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(words) or 1)
        way = random.random()
        if way < 0.1 and words:
            del words[at]
        elif way < 0.2 and words:
            words.insert(at, words[at])
        elif way < 0.3:
            words.insert(at, random.choice(("--", "-", "--wild", "-x", "--format=", "--output", "--help", *WORDS[:4])))
        elif words:
            numbers = (
                "-1",
                "0",
                "1e400",
                "nan",
                "inf",
                "-inf",
                "9" * 30,
                "1.5",
                "0x10",
                "½",
                "1_0",
                "",
                " 1",
                "(" * 50,
                "[",
                "*",
            )
            wild = random.choice(numbers) if random.random() < 0.5 else wild_word(words[at], random)
            words[at] = wild.replace("\x00", "")
    return [verb, *words]

"""Fit how long steps take on an Ethos-U: coefficients/*.toml and ledger.csv of mlia.backends.ethos_u.

    python tools/fit_ethos_u.py MODELS [--output FOLDER]

MODELS is a folder with the models of measurements.csv: kws_micronet_m.tflite, ad_medium_int8.tflite and
single_operators/. They are compiled with the configurations of the measured runs. Prints the errors of the fit and of
cross-validation: without one network, and without all operators of one shape.

Fitted are few parameters of each family (FREE), the others are set (SET): what no measurement of the family can tell
is taken from another. The loss is the logarithm of estimate to measurement, robust against outliers.

What was measured is what Vela 5.0.0 compiled, and for Ethos-U85 that is not quite the program of the Vela of today,
which copies other weights. The fit is to the programs of today, because that is what users get: what of the difference
is systematic, the parameters take up. Fitted to the programs of 5.0.0, the same form estimates those of today 4 % too
long on the whole, and layers worse.

What cross-validation does not show: the form of the model was found by looking at all of these measurements. Of some
ten choices of FREE and SET for Ethos-U55 and -U65 one was taken that does well in it, and of some sixty forms for
Ethos-U85. Networks that had no part in that are the better judge.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict, replace

from mlia.backends.ethos_u import measurements as published
from mlia.backends.ethos_u.coefficients import memories_of
from mlia.backends.ethos_u.coverage import KINDS, kinds_of
from mlia.backends.ethos_u.features import StepFeatures, features_of
from mlia.backends.ethos_u.fitting import Run, band, estimates, fit, mean_error_percent, unseen
from mlia.backends.ethos_u.measurements import LedgerRow, Measurement, compiled_for, measurements, ran_on
from mlia.backends.ethos_u.timing import sram_read
from mlia.backends.vela.process import compile_model
from mlia.graph.tflite import read_tflite
from mlia.targets.coefficients import Coefficients, Physics
from mlia.targets.target import Target
from mlia.targets.writing import write_coefficients

# Parameter: lower and upper bound. Starting values are those of START.
FREE = {
    "ethos-u85": {
        "sram_share": (0.2, 1), "request_bytes": (4, 64), "weight_request_bytes": (8, 512),
        "copy_requests": (4, 256), "start_latencies": (0.01, 20), "fill": (0.01, 1),
    },
    "ethos-u65": {"sram_share": (0.2, 1)},
    "ethos-u55": {"sram_share": (0.2, 1)},
}  # fmt: skip
# `decoded_weights` hardly bounds a run here, so none can tell it. One published figure does, and only roughly, for its
# network is not known to us: on 128 MACs, 95 % pruning makes a dense network 4.4 times as fast where Vela says 3.2. Of
# powers of two only 32 comes near it (3.8 to 4.3 for dense networks of which Vela says 3.1 to 3.4; 4.9 to 6.1 without).
START = Physics(
    counts_macs=True, sram_share=0.5, request_bytes=16, requests=64, weight_request_bytes=64, copy_requests=24,
    decoded_weights=32, start_latencies=1, fill=0.5, kept_bytes=0,
)  # fmt: skip
# Ethos-U55 and -U65: Vela's own counts of MACs and of what is read from SRAM hold, and its cycles of MACs include the
# wait for weights. An Ethos-U55 has memories of short latency only, so a first block hardly waits; an Ethos-U65 takes
# `fill` and what is under way from the U85's fit.
SET = {
    "ethos-u65": {"counts_macs": False, "decoded_weights": 0.0, "start_latencies": 0.0, "kept_bytes": 0.0},
    "ethos-u55": {"counts_macs": False, "decoded_weights": 0.0, "start_latencies": 0.0, "kept_bytes": 0.0, "fill": 0.0},
}
# Published: reads of 16 bytes from the SRAM in the runs of the networks on Ethos-U85. `kept_bytes` alone decides them,
# so they decide it, and the times need not. Same source as the cycles.
SRAM_READS = {
    ("kws_micronet_m", 128): 60729, ("ad_medium_int8", 128): 185706, ("kws_micronet_m", 256): 41813,
    ("ad_medium_int8", 256): 125776, ("kws_micronet_m", 512): 22294, ("ad_medium_int8", 512): 121842,
    ("kws_micronet_m", 1024): 22664, ("ad_medium_int8", 1024): 70538, ("kws_micronet_m", 2048): 15673,
    ("ad_medium_int8", 2048): 46066,
}  # fmt: skip
READ_BYTES = 16
KEPT = range(4000, 24001, 500)
WEIGHTS = {"network": 3.0, "operator": 0.3, "layer": 0.2}  # a family has few networks and many alike operators


class Case(Struct, frozen=True):
    """A measurement with the program that it is of, Vela's cycles for that, and what kinds of work it has."""

    measurement: Measurement
    run: Run
    vela_cycles: int
    kinds: tuple[str, ...]


def read_cases(models: Path) -> list[Case]:
    """Every measurement with the features of its program."""
    compiled: dict[tuple[str, str, int], tuple[tuple[StepFeatures, ...], int, tuple[str, ...]]] = {}
    places: dict[tuple[str, str, int, str], Target] = {}
    cases = []
    for each in measurements():
        key = (each.model, each.system_config, each.macs)
        if key not in compiled:
            compiled[key] = compile_measured(each, models)
        features, vela_cycles, kinds = compiled[key]
        place = places.setdefault((*key, each.memory), ran_on(each))
        run = run_of(each, place, features)
        if run.steps is not None:
            vela_cycles = sum(step.total_cycles for number, step in enumerate(features) if number in run.steps)
        cases.append(Case(each, run, vela_cycles, kinds))
    return cases


def run_of(measurement: Measurement, place: Target, features: tuple[StepFeatures, ...]) -> Run:
    """The measurement for the fit: the middle of the grid, which starts some 70 cycles late for whole models."""
    cycles = measurement.cycles - measurement.grid / 2
    name, is_layer = measurement.model, measurement.kind == "layer"
    return Run(
        target=place,
        features=features,
        cycles=cycles,
        group=name.split("_")[1] if measurement.kind == "operator" else name,  # left out together: a network, a shape
        weight=WEIGHTS[measurement.kind],
        slack=math.log(1 + measurement.grid / 2 / cycles) if is_layer else 0.0,
        steps=layer(measurement, features),
    )


def compile_measured(measurement: Measurement, models: Path) -> tuple[tuple[StepFeatures, ...], int, tuple[str, ...]]:
    """The steps of the measured model, as the installed Vela compiles it, Vela's cycles, and its kinds of work."""
    folder = models / "single_operators" if measurement.kind == "operator" else models
    target = compiled_for(measurement)
    content = (folder / f"{measurement.model}.tflite").read_bytes()
    whole = compile_model(content, target, 600)
    features = features_of(whole, target)
    if measurement.kind == "operator":
        features = without_copy(features)
    return features, whole.report["total_cycles"], kinds_of(read_tflite(content), features)


def layer(measurement: Measurement, features: tuple[StepFeatures, ...]) -> frozenset[int] | None:
    """The places of the steps that a measurement is of, when it is of a layer."""
    if measurement.kind != "layer":
        return None
    working = [number for number, step in enumerate(features) if step.kind != "none"]
    first, _, last = measurement.steps.partition("-")
    return frozenset(working[int(first) - 1 : int(last or first)])


def without_copy(features: tuple[StepFeatures, ...]) -> tuple[StepFeatures, ...]:
    """The measured program of a single operator: it reads its input from DRAM, which Vela 5.2 first copies to SRAM."""
    copies = [step for step in features if step.kind == "copy"]
    if not copies:
        return features
    (source,) = (each.input_bytes for each in copies[0].transfers if each.memory == "dram")
    changed = []
    for step in features:
        moved = []
        for each in step.transfers:
            if each.memory == "sram":
                each = replace(each, input_bytes=0, feature_map_read=0)
            elif each.memory == "dram":
                each = replace(each, input_bytes=source, feature_map_read=source * 64)
            moved.append(each)
        if step.kind != "copy":
            changed.append(replace(step, transfers=tuple(moved)))
    return tuple(changed)


def kept(runs: Sequence[Run], start: Physics) -> float:
    """The bytes of a block's input that the NPU keeps, so that what is read from the SRAM is what was counted."""
    counted = [
        (run, SRAM_READS[run.group, run.target.npu.macs_per_cycle] * READ_BYTES)
        for run in runs
        if run.steps is None and (run.group, run.target.npu.macs_per_cycle) in SRAM_READS
    ]

    def error(candidate: int) -> float:
        physics = replace(start, kept_bytes=candidate)
        return sum(abs(math.log(_sram_reads(run, physics) / count)) for run, count in counted)

    return float(min(KEPT, key=error))


def _sram_reads(run: Run, physics: Physics) -> float:
    return sum(
        sram_read(step, transfer, run.target, physics)
        for step in run.features
        for transfer in step.transfers
        if step.kind != "none" and transfer.memory == "sram"
    )


def fit_to(runs: Sequence[Run], family: str, start: Physics) -> Physics:
    """The parameters of a family that fit these runs best."""
    known = replace(start, kept_bytes=kept(runs, start)) if start.counts_macs else start
    return fit(runs, known, FREE[family])


def summary(runs: Sequence[Run], cycles: Sequence[float]) -> str:
    """Mean absolute error, bias, worst and how many within 0.8 to 1.25 times."""
    ratios = np.array([value / run.cycles for run, value in zip(runs, cycles, strict=True)])
    errors = 100 * (ratios - 1)
    inside = 100 * np.mean((ratios >= 0.8) & (ratios <= 1.25))
    worst = errors[np.argmax(np.abs(errors))]
    return f"{np.mean(np.abs(errors)):6.1f} {np.mean(errors):+7.1f} {worst:+7.1f} {inside:7.0f}"


def describe(family: str, cases: list[Case], physics: Physics, held_out: list[float]) -> Coefficients:
    """What is stored of a family; errors and band are of networks that the fit had not seen."""
    chosen = [number for number, case in enumerate(cases) if case.measurement.kind == "network"]
    networks, cycles = [cases[number].run for number in chosen], [held_out[number] for number in chosen]
    low, high = band(cycles, networks)
    kinds = [case.measurement.kind for case in cases]
    counted = {"network": "runs of 2 networks", "operator": "runs of single operators", "layer": "layers of networks"}
    return Coefficients(
        family=family,
        fitted_on=tuple(f"{kinds.count(kind)} {text}" for kind, text in counted.items() if kind in kinds),
        judged_on="networks left out of the fit",
        n=len(cases),
        error_percent=round(mean_error_percent(cycles, networks), 1),
        vela_error_percent=round(mean_error_percent([float(cases[n].vela_cycles) for n in chosen], networks), 1),
        band_low=low,
        band_high=high,
        note="int8 convolutional networks on Arm's Corstone FVP. The form of the model was chosen with all of these"
        " measurements in sight, so networks of other kinds may be further off than the band says",
        without=tuple(kind for kind in KINDS if kind not in {each for case in cases for each in case.kinds}),
        measured_memories=tuple(sorted({text for case in cases for text in memories_of(case.run.target)})),
        physics=physics,
    )


def toml(value: Coefficients) -> str:
    """As TOML, one line for each figure."""
    first = "# Written by tools/fit_ethos_u.py; mlia/targets/coefficients.py says what each figure is."
    return "\n".join([first, *write_coefficients(value, table="")]) + "\n"


def rows(cases: Sequence[Case], physics: Physics, held_out: Sequence[float]) -> list[LedgerRow]:
    """The ledger of one family."""
    return [
        LedgerRow(
            family=case.measurement.family,
            macs=case.measurement.macs,
            system_config=case.measurement.system_config,
            kind=case.measurement.kind,
            model=case.measurement.model,
            what=case.measurement.what,
            measured_cycles=case.measurement.cycles,
            grid_cycles=case.measurement.grid,
            vela_cycles=case.vela_cycles,
            calibrated_cycles=round(other),
            source=case.measurement.source,
            fitted_cycles=round(cycles),
        )
        for case, cycles, other in zip(cases, estimates([case.run for case in cases], physics), held_out, strict=True)
    ]


def tell(cases: Sequence[Case], physics: Physics, held_out: Sequence[float]) -> None:
    """Print the errors of the fit, of what it had not seen, and of the compiler."""
    runs = [case.run for case in cases]
    print("  fit   ", summary(runs, estimates(runs, physics)))
    print("  unseen", summary(runs, held_out))
    print("  Vela  ", summary(runs, [float(case.vela_cycles) for case in cases]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--output", type=Path, default=Path(published.FOLDER))
    options = parser.parse_args(arguments)
    everything = read_cases(options.models)
    shared, table = START, []
    print("family, kind (n): mean absolute error %, bias %, worst %, within 0.8..1.25 % of ours, unseen and Vela's")
    for family in FREE:
        of_family = [case for case in everything if case.measurement.family == family]
        cases = [case for case in of_family if case.measurement.memory == "measured"]
        start = replace(shared, **SET.get(family, {}))
        fitted = partial(fit_to, family=family, start=start)
        runs = [case.run for case in cases]
        physics, held_out = fitted(runs), unseen(runs, fitted)
        if family == "ethos-u85":
            shared = physics
        for kind in WEIGHTS:
            if chosen := [number for number, case in enumerate(cases) if case.measurement.kind == kind]:
                print(f"{family} {kind} ({len(chosen)})")
                tell([cases[number] for number in chosen], physics, [held_out[number] for number in chosen])
        if silent := [case.run for case in of_family if case.measurement.memory != "measured"]:
            print(f"{family} zero latency, never fitted ({len(silent)})")
            print("  ours  ", summary(silent, estimates(silent, physics)))
        print("  ", {name: getattr(physics, name) for name in (*FREE[family], "kept_bytes")})
        folder = options.output / "coefficients"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{family}.toml").write_text(toml(describe(family, cases, physics, held_out)), encoding="utf-8")
        table += rows(cases, physics, held_out)
    with (options.output / "ledger.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LedgerRow.__struct_fields__)
        writer.writerows(asdict(row).values() for row in table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

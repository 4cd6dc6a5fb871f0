"""Fit how long steps take on an Ethos-U: coefficients/*.toml and ledger.csv of mlia.backends.ethos_u.

    python tools/fit_ethos_u.py [--output FOLDER]

Fits to the measurements of measurements.csv and their programs, measured_programs.json (tools/measured_programs.py
makes them), and prints the errors of the fit and of cross-validation: without one network, series included, and without
all operators of one shape. Few parameters of each family are fitted (FREE), the others are set (SET). The loss is the
logarithm of estimate to measurement, robust against outliers.

What was measured is what Vela 5.0.0 compiled, so that is what is fitted to. The Vela of today makes other programs, in
which other weights are copied; nobody measured them. Errors are told of both, the estimate of each beside the same
measurement.

What cross-validation does not show: the form of the model was found with all of these measurements in sight.
"""

import argparse
import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict, replace

from mlia.backends.ethos_u import measurements as published
from mlia.backends.ethos_u.coefficients import memories_of
from mlia.backends.ethos_u.coverage import BRICK_MAPS, KINDS, LIKES, LINEAR_MAPS, UNLIKE, like_of
from mlia.backends.ethos_u.features import StepFeatures
from mlia.backends.ethos_u.fitting import Run, band, estimates, fit, mean_error_percent
from mlia.backends.ethos_u.measurements import LedgerRow, Measurement, measurements, ran_on
from mlia.backends.ethos_u.timing import sram_read
from mlia.targets.coefficients import Band, Coefficients, Physics
from mlia.targets.target import Target
from mlia.targets.writing import write_coefficients

sys.path.insert(0, str(Path(__file__).parent))
from measured_programs import Program, Programs, key_of, read_programs

# Parameter: lower and upper bound. Starting values are those of START. Of Ethos-U85 there are runs on many memories,
# which tell latency from bandwidth. Of Ethos-U65 there are runs on one DRAM only, so what is under way is the U85's; of
# Ethos-U55 on memories that answer at once, or nearly.
FREE = {
    "ethos-u85": {
        "sram_share": (0.2, 1), "request_bytes": (4, 64), "requests": (4, 256), "weight_requests": (2, 256),
        "copy_requests": (2, 256), "start_latencies": (0.01, 20), "fill": (0.01, 1),
    },
    "ethos-u65": {"sram_share": (0.2, 1), "start_latencies": (0.01, 20)},
    "ethos-u55": {"sram_share": (0.2, 1)},
}  # fmt: skip
# `decoded_weights` hardly bounds a run here, so none can tell it. One published figure does, and only roughly, for its
# network is not known to us: on 128 MACs, 95 % pruning makes a dense network 4.4 times as fast where Vela says 3.2. Of
# powers of two only 32 comes near it (3.8 to 4.3 for dense networks of which Vela says 3.1 to 3.4; 4.9 to 6.1 without).
START = Physics(
    counts_macs=True, sram_share=0.5, request_bytes=16, requests=64, weight_requests=12, copy_requests=24,
    decoded_weights=32, start_latencies=1, fill=0.5, kept_bytes=0,
)  # fmt: skip
# Ethos-U55 and -U65: Vela's own counts of MACs and of what is read from SRAM hold, and its cycles of MACs include the
# wait for weights. An Ethos-U55 has memories of short latency only, so neither a launch nor a first block waits.
SET = {
    "ethos-u65": {"counts_macs": False, "decoded_weights": 0.0, "kept_bytes": 0.0},
    "ethos-u55": {
        "counts_macs": False, "decoded_weights": 0.0, "start_latencies": 0.0, "kept_bytes": 0.0, "fill": 0.0,
    },
}  # fmt: skip
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
# A family has few networks, and many alike operators, layers, and runs of one network in series.
WEIGHTS = {"network": 3.0, "series": 0.7, "operator": 0.3, "layer": 0.2}
NETWORKS = ("network", "series")


class Case(Struct, frozen=True):
    """A measurement with the program that it is of, and that of the Vela of today; cycles are Vela's."""

    measurement: Measurement
    run: Run
    today: Run
    vela_cycles: int
    vela_today_cycles: int
    kinds: tuple[str, ...]


def read_cases(programs: Programs) -> list[Case]:
    """Every measurement with the features of its programs."""
    places: dict[str, Target] = {}
    known: dict[tuple[int, ...], tuple[StepFeatures, ...]] = {}  # features of one program are one object

    def of(program: Program, each: Measurement) -> tuple[Run, int]:
        features = known.setdefault(program.steps, tuple(programs.steps[number] for number in program.steps))
        place = places.setdefault(f"{key_of(each)} {each.memory}", ran_on(each))
        run = run_of(each, place, features)
        if run.steps is None:
            return run, program.vela_cycles
        return run, sum(step.total_cycles for number, step in enumerate(features) if number in run.steps)

    cases = []
    for each in measurements():
        measured, today = programs.of_measured[key_of(each)], programs.of_today[key_of(each)]
        run, vela_cycles = of(measured, each)
        run_today, vela_today = of(today, each)
        cases.append(Case(each, run, run_today, vela_cycles, vela_today, today.kinds))
    return cases


def run_of(measurement: Measurement, place: Target, features: tuple[StepFeatures, ...]) -> Run:
    """The measurement for the fit: the middle of the grid, which starts some 70 cycles late for whole models."""
    cycles = measurement.cycles - measurement.grid / 2
    name = measurement.model
    return Run(
        target=place,
        features=features,
        cycles=cycles,
        group=name.split("_")[1] if measurement.kind == "operator" else name,  # left out together: a network, a shape
        weight=WEIGHTS[measurement.kind],
        slack=math.log(1 + measurement.grid / 2 / cycles) if measurement.grid else 0.0,
        steps=layer(measurement, features),
    )


def layer(measurement: Measurement, features: tuple[StepFeatures, ...]) -> frozenset[int] | None:
    """The places of the steps that a measurement is of, when it is of a layer."""
    if measurement.kind != "layer":
        return None
    working = [number for number, step in enumerate(features) if step.kind != "none"]
    first, _, last = measurement.steps.partition("-")
    return frozenset(working[int(first) - 1 : int(last or first)])


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


def held_out(cases: Sequence[Case], family: str, starts: dict[str, Physics]) -> dict[str, Physics]:
    """The parameters of a fit without each group, by its name; `starts` are those of the shared ones without it."""
    found = {}
    for group in sorted({case.run.group for case in cases}):
        others = [case.run for case in cases if case.run.group != group]
        found[group] = fit_to(others, family, starts.get(group, starts[""]))
    return found


def by_group(runs: Sequence[Run], physics: dict[str, Physics]) -> list[float]:
    """Cycles of each run, by the parameters that had not seen its group."""
    return [estimates([run], physics[run.group])[0] for run in runs]


def summary(runs: Sequence[Run], cycles: Sequence[float]) -> str:
    """Mean absolute error, bias, worst and how many within 0.8 to 1.25 times."""
    ratios = np.array([value / run.cycles for run, value in zip(runs, cycles, strict=True)])
    errors = 100 * (ratios - 1)
    inside = 100 * np.mean((ratios >= 0.8) & (ratios <= 1.25))
    worst = errors[np.argmax(np.abs(errors))]
    return f"{np.mean(np.abs(errors)):6.1f} {np.mean(errors):+7.1f} {worst:+7.1f} {inside:7.0f}"


def bands_of(cases: Sequence[Case], unseen: Sequence[float], unseen_today: Sequence[float]) -> tuple[Band, ...]:
    """A band for each likeness of which there are networks, by the programs of both compilers.

    Single operators stand for networks only where these have their feature maps in DRAM.
    """
    found: dict[str, list[tuple[Run, float]]] = {}
    for case, *both in zip(cases, unseen, unseen_today, strict=True):
        for run, cycles in zip((case.run, case.today), both, strict=True):
            like, kind = like_of(run.features), case.measurement.kind
            if kind == "network" or (kind == "operator" and like in (LINEAR_MAPS, BRICK_MAPS)):
                found.setdefault(like, []).append((run, cycles))
    bands = []
    for like in LIKES:
        if like in found:
            runs, cycles = [run for run, _ in found[like]], [value for _, value in found[like]]
            error = round(mean_error_percent(cycles, runs), 1)
            low, high = band(cycles, runs)
            bands.append(Band(like, low, high, len({run.group for run in runs}), len(runs) // 2, error))
    return tuple(bands)


def inside_percent(cases: Sequence[Case], runs: Sequence[Run], cycles: Sequence[float], bands: Sequence[Band]) -> float:
    """How many networks are within the band that is printed of what is like them."""
    known = {each.like: each for each in bands}
    inside = [
        known[like_of(run.features)].low <= run.cycles / value <= known[like_of(run.features)].high
        for case, run, value in zip(cases, runs, cycles, strict=True)
        if case.measurement.kind == "network"
    ]
    return 100 * sum(inside) / len(inside)


def pairs_percent(cases: Sequence[Case], cycles: Sequence[float]) -> float:
    """Of the pairs of runs of one network, and of one NPU, how many the estimates have in the order of the runs."""
    right, of = 0, 0
    chosen = [(case, value) for case, value in zip(cases, cycles, strict=True) if case.measurement.kind == "network"]
    for number, (one, mine) in enumerate(chosen):
        for other, theirs in chosen[:number]:
            if one.run.group == other.run.group or one.measurement.macs == other.measurement.macs:
                of += 1
                right += (one.run.cycles < other.run.cycles) == (mine < theirs)
    return 100 * right / of


def describe(
    family: str, cases: list[Case], physics: Physics, unseen_today: list[float], bands: tuple[Band, ...]
) -> Coefficients:
    """What is stored of a family; errors are of networks that the fit had not seen, in the programs of today."""
    chosen = [number for number, case in enumerate(cases) if case.measurement.kind == "network"]
    networks, cycles = [cases[number].today for number in chosen], [unseen_today[number] for number in chosen]
    kinds = [case.measurement.kind for case in cases]
    models = len({run.group for run in networks})
    counted = {
        "network": f"runs of {models} networks",
        "series": "runs of them on other memories",
        "operator": "runs of single operators",
        "layer": "layers of networks",
    }
    return Coefficients(
        family=family,
        fitted_on=tuple(f"{kinds.count(kind)} {text}" for kind, text in counted.items() if kind in kinds),
        judged_on="networks left out of the fit",
        n=len(cases),
        error_percent=round(mean_error_percent(cycles, networks), 1),
        vela_error_percent=round(mean_error_percent([float(cases[n].vela_today_cycles) for n in chosen], networks), 1),
        band_low=min(each.low for each in bands),
        band_high=max(each.high for each in bands),
        note="int8 networks on Arm's Corstone FVP, three convolutional ones and a recurrent one, compiled by Vela 5.0."
        " The form of the model was chosen with all of these measurements in sight",
        without=tuple(kind for kind in KINDS if kind not in {each for case in cases for each in case.kinds}),
        measured_memories=tuple(
            sorted(
                {text for case in cases if case.measurement.kind != "series" for text in memories_of(case.run.target)}
            )
        ),
        physics=physics,
        bands=bands,
    )


def toml(value: Coefficients) -> str:
    """As TOML, one line for each figure."""
    first = "# Written by tools/fit_ethos_u.py; mlia/targets/coefficients.py says what each figure is."
    return "\n".join([first, *write_coefficients(value, table="")]) + "\n"


def rows(
    cases: Sequence[Case], physics: Physics, unseen: Sequence[float], today: Sequence[float], bands: Sequence[Band]
) -> list[LedgerRow]:
    """The ledger of one family."""
    fitted = estimates([case.run for case in cases], physics)
    fitted_today = estimates([case.today for case in cases], physics)
    known = {each.like: (each.low, each.high) for each in bands}
    limits = [known.get(like_of(case.today.features), UNLIKE) for case in cases]
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
            vela_cycles=case.vela_today_cycles,
            calibrated_cycles=round(today[number]),
            source=case.measurement.source,
            band_low=limits[number][0],
            band_high=limits[number][1],
            fitted_cycles=round(fitted_today[number]),
            vela_5_0_cycles=case.vela_cycles,
            calibrated_5_0_cycles=round(unseen[number]),
            fitted_5_0_cycles=round(fitted[number]),
        )
        for number, case in enumerate(cases)
    ]


def tell(cases: Sequence[Case], physics: Physics, unseen: Sequence[float], today: Sequence[float]) -> None:
    """Print the errors of the fit, of what it had not seen, and of the compiler, of both programs."""
    runs, runs_today = [case.run for case in cases], [case.today for case in cases]
    print("  fit           ", summary(runs, estimates(runs, physics)))
    print("  unseen, 5.0   ", summary(runs, unseen))
    print("  unseen, today ", summary(runs_today, today))
    print("  Vela 5.0      ", summary(runs, [float(case.vela_cycles) for case in cases]))
    print("  Vela of today ", summary(runs_today, [float(case.vela_today_cycles) for case in cases]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(published.FOLDER))
    options = parser.parse_args(arguments)
    everything = read_cases(read_programs())
    shared, table = {"": START}, []
    print("family, kind (n): mean absolute error %, bias %, worst %, within 0.8..1.25 %")
    for family in FREE:
        of_family = [case for case in everything if case.measurement.family == family]
        cases = [case for case in of_family if case.measurement.memory != "zero latency"]
        starts = {group: replace(start, **SET.get(family, {})) for group, start in shared.items()}
        physics = fit_to([case.run for case in cases], family, starts[""])
        without = held_out(cases, family, starts)
        if family == "ethos-u85":
            shared = {**without, "": physics}
        unseen = by_group([case.run for case in cases], without)
        today = by_group([case.today for case in cases], without)
        bands = bands_of(cases, unseen, today)
        for kind in WEIGHTS:
            if chosen := [number for number, case in enumerate(cases) if case.measurement.kind == kind]:
                print(f"{family} {kind} ({len(chosen)})")
                tell([cases[n] for n in chosen], physics, [unseen[n] for n in chosen], [today[n] for n in chosen])
        for name, runs, cycles in (
            ("5.0", [case.run for case in cases], unseen),
            ("today", [case.today for case in cases], today),
        ):
            inside, pairs = inside_percent(cases, runs, cycles, bands), pairs_percent(cases, cycles)
            print(f"{family} networks, {name}: {inside:.0f} % inside the band, {pairs:.0f} % of pairs in order")
        if silent := [case.run for case in of_family if case.measurement.memory == "zero latency"]:
            print(f"{family} zero latency, never fitted ({len(silent)})")
            print("  ours          ", summary(silent, estimates(silent, physics)))
        print("  ", {name: getattr(physics, name) for name in (*FREE[family], "kept_bytes")})
        folder = options.output / "coefficients"
        folder.mkdir(parents=True, exist_ok=True)
        text = toml(describe(family, cases, physics, today, bands))
        (folder / f"{family}.toml").write_text(text, encoding="utf-8")
        table += rows(cases, physics, unseen, today, bands)
    with (options.output / "ledger.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LedgerRow.__struct_fields__)
        writer.writerows(asdict(row).values() for row in table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

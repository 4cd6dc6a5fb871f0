"""Fit how long kernels take on Cortex-M cores, and write src/mlia/targets/cores/*.toml.

    python tools/fit_cortex_m.py MEASUREMENTS MODELS [--output FOLDER]

MEASUREMENTS is a folder with cortex_m_mlperf_tiny.csv, MODELS one with kws_ref_model.tflite and
pretrainedResnet_quant.tflite (MLPerf Tiny). Prints the error of each row and of cross-validation.

There are two networks on four boards with the right software, one of them on a fifth, and three operators there. So
the loops of the kernels say what is counted (mlia.backends.cortex_m.work), their instructions what a unit of it should
take (PRIORS), and only this is fitted: one scale for each core, and for each family of kernels (DSP, MVE) how far six
kinds of work are off the prior, held near it by ridge regularization. docs/cortex-m.md explains the rest.
"""

import argparse
import csv
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from mlia.backends.cortex_m.work import TERMS, count_work
from mlia.graph.graph import Subgraph
from mlia.graph.tflite import read_tflite
from mlia.targets.cores import CORES, Core

VERSION = "2026-11-21"
STACK = "TFLM + CMSIS-NN"
NETWORKS = {"kws": "kws_ref_model.tflite", "ic": "pretrainedResnet_quant.tflite"}
FITTED_TERMS = ("matrix_mac", "matrix_output", "column", "column_byte", "depthwise_mac", "depthwise_output")
# Fully connected kernels have the same inner loop, so they are off by as much; too little of them was measured to tell.
TIED = {"vector_mac": "matrix_mac", "vector_output": "matrix_output"}
UNSCALED = {"weight_byte"}  # the flash's, not the core's
RIDGE, SCALE_RIDGE = 0.3, 1.0  # how far a term, and a core as a whole, may be off its prior: deviation of the logarithm
NETWORK_NOISE, OPERATOR_NOISE = 0.05, 0.03  # how far boards and runs of one core differ, likewise
PRIOR_BAND = 1.7  # a factor up or down for kernels that nothing was measured for: a judgment, not a fit

# Cycles of one unit as the instructions of the loops have it, memory without wait states. Integer work on a Cortex-M4.
SCALAR = {
    "operator": 1000, "copy_byte": 0.3, "copy_piece": 20, "move_element": 8, "reference_mac": 12, "light_element": 8,
    "arithmetic_element": 24, "function_element": 90, "table_element": 5, "bilinear_element": 40, "reduced_element": 10,
    "convert_element": 16, "float_mac": 9, "float_element": 8, "float_function": 80,
}  # fmt: skip
DSP = {
    "matrix_mac": 1.8, "matrix_output": 25, "column": 25, "column_byte": 1.5, "depthwise_mac": 4.5,
    "depthwise_output": 25, "vector_mac": 2.0, "vector_output": 30, "weight_byte": 0.3, "pool_element": 3,
    "pool_output": 10, "add_element": 18, "multiply_element": 12, "compare_element": 5, "softmax_element": 90,
}  # fmt: skip
MVE = {
    "matrix_mac": 0.16, "matrix_output": 14, "column": 20, "column_byte": 0.2, "depthwise_mac": 1.2,
    "depthwise_output": 12, "vector_mac": 0.3, "vector_output": 15, "weight_byte": 0.3, "pool_element": 0.4,
    "pool_output": 4, "add_element": 4, "multiply_element": 3, "compare_element": 0.6, "softmax_element": 20,
}  # fmt: skip
PRIORS = {"DSP": DSP, "MVE": MVE}
# CoreMark/MHz, from Arm's product pages: how much faster than a Cortex-M4 a core runs what is not vectorized.
COREMARK = {"cortex-m0plus": 2.46, "cortex-m4": 3.42, "cortex-m33": 4.02, "cortex-m55": 4.2, "cortex-m85": 6.28}
# Without an FPU, float arithmetic is calls of a library; without 64-bit products, requantizing takes several.
SOFT_FLOAT = {"float_mac": 16.0, "float_element": 9.0, "float_function": 15.0, "convert_element": 9.0}
WITHOUT_LONG_PRODUCT = {"arithmetic_element": 2.5, "function_element": 2.5, "bilinear_element": 2.0}

BOARDS = {"L4R5": "NUCLEO-L4R5ZI", "NRF5340": "nRF5340-DK", "RA6M4": "EK-RA6M4", "RA8D1": "EK-RA8D1"}
CORE_OF_BOARD = {
    "NUCLEO-L4R5ZI": "cortex-m4", "nRF5340-DK": "cortex-m33", "EK-RA6M4": "cortex-m33", "EK-RA8D1": "cortex-m85",
    "Apollo510": "cortex-m55",
}  # fmt: skip
WITH_DATA_CACHE = ("cortex-m7", "cortex-m55", "cortex-m85")  # in all chips that are sold with them
EXTENSIONS = {"cortex-m4": "DSP", "cortex-m33": "DSP", "cortex-m55": "MVE", "cortex-m85": "MVE"}
# Cortex-M55, Ambiq Apollo510, TFLM with a fork of CMSIS-NN; from the documentation of AmbiqAI/helia-profiler. The
# network twice: weights in TCM, and in MRAM. The operators add up to the latter, so weights were in MRAM there too.
APOLLO_NETWORKS = {"weights in TCM": 1_840_000, "weights in MRAM": 2_020_000}
APOLLO_OPERATORS = {0: 338_176, 1: 206_245, 2: 207_749}  # cycles by index of the operator in the kws network


class Row(Struct, frozen=True):
    """One measurement: cycles, and the counted work that took them."""

    core: str
    board: str
    what: str
    cycles: float
    work: dict[str, float]
    noise: float = NETWORK_NOISE

    @property
    def network(self) -> str:
        return "ic" if self.what.startswith("ic") else "kws"


class Fit(Struct, frozen=True):
    """Cycles of one unit of each kind of work, of each core."""

    cycles: dict[str, dict[str, float]]
    scales: dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("measurements", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--output", type=Path, default=Path(CORES))
    options = parser.parse_args()
    submissions = read_submissions(options.measurements / "cortex_m_mlperf_tiny.csv")
    networks = {name: read_tflite((options.models / file).read_bytes()).main for name, file in NETWORKS.items()}
    rows = fitted_rows(submissions, networks)
    fit = fit_cycles(rows)
    print_errors("Fit", rows, fit)
    for title, parts in splits(rows).items():
        print_errors(title, rows, None, [(held, fit_cycles(kept)) for kept, held in parts])
    cores = make_cores(fit, rows, submissions, networks)
    for core in cores:
        path = options.output / f"{core.name}.toml"
        path.write_text(as_toml(core))
        figures = ", ".join(f"{name} {predict(core.cycles, work_of(s, core)):,.0f}" for name, s in networks.items())
        print(f"{core.name:14} {figures}  band {core.fitted_low:.2f}..{core.fitted_high:.2f}")
    return 0


# ---- measurements -------------------------------------------------------------------------------------------------


def read_submissions(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_cmsis_nn(row: dict[str, str]) -> bool:
    """Whether a submission ran TFLM or microTVM with CMSIS-NN, on the CPU alone.

    Those with TFLM do not say that it was built with CMSIS-NN. Their cycles do: reference kernels take four times more.
    """
    framework, system = row["framework"].lower(), row["system"].lower().replace("-", "_")
    is_tflm = "tflite-micro" in framework or "tensorflow lite for micro" in framework
    return not row["accelerator"] and (is_tflm or (framework == "microtvm" and "cmsis_nn" in system))


def fitted_rows(submissions: Sequence[dict[str, str]], networks: dict[str, Subgraph]) -> list[Row]:
    """One row for each board and network: several submissions of one board are one measurement, their median."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in submissions:
        board = next((name for part, name in BOARDS.items() if part in row["system"].upper()), "")
        if board and is_cmsis_nn(row):
            found.setdefault((board, row["benchmark"]), []).append(float(row["cycles"]))
    rows = []
    for (board, benchmark), cycles in sorted(found.items()):
        core = CORE_OF_BOARD[board]
        rows.append(Row(core, board, benchmark, median(cycles), work_of(networks[benchmark], blank(core))))
    m55 = blank("cortex-m55")
    for placement, count in APOLLO_NETWORKS.items():
        work = work_of(networks["kws"], m55)
        work = work | ({"weight_byte": 0} if "TCM" in placement else {})
        rows.append(Row("cortex-m55", "Apollo510", f"kws, {placement}", count, work))
    for index, count in APOLLO_OPERATORS.items():
        operator = networks["kws"].operators[index]
        work = dict(count_work(operator, networks["kws"], m55))
        rows.append(Row("cortex-m55", "Apollo510", f"kws operator {index}", count, work, OPERATOR_NOISE))
    return rows


def blank(name: str) -> Core:
    """A core without figures: enough to know which kernels it runs."""
    extension = EXTENSIONS.get(name, "DSP" if name == "cortex-m7" else "none")
    fields = {"name": name, "extension": extension, "has_fpu": extension != "none", "cycles": {}}
    fields["has_data_cache"] = name in WITH_DATA_CACHE
    text = {"stack": STACK, "version": VERSION, "sources": (), "note": ""}
    band = {"fitted_low": 1.0, "fitted_high": 1.0, "prior_low": 1 / PRIOR_BAND, "prior_high": PRIOR_BAND}
    return msgspec.convert({**fields, **text, **band}, Core)


def work_of(subgraph: Subgraph, core: Core) -> dict[str, float]:
    """Counted work of a whole network."""
    total: dict[str, float] = {}
    for operator in subgraph.operators:
        for term, count in count_work(operator, subgraph, core).items():
            total[term] = total.get(term, 0) + count
    return total


def predict(cycles: dict[str, float], work: dict[str, float]) -> float:
    return sum(cycles[term] * count for term, count in work.items())


# ---- the fit ------------------------------------------------------------------------------------------------------


def prior_cycles(core: str) -> dict[str, float]:
    scalar = {term: value * COREMARK["cortex-m4"] / COREMARK[core] for term, value in SCALAR.items()}
    return {**scalar, **PRIORS[EXTENSIONS[core]]}


def fit_cycles(rows: Sequence[Row]) -> Fit:
    """Fit both families. A core without rows keeps the scale of its family's mean, which is all that is known of it."""
    cycles, scales = {}, {}
    for family in PRIORS:
        cores = [name for name, extension in EXTENSIONS.items() if extension == family]
        family_rows = [row for row in rows if row.core in cores]
        found = minimize(family_rows, cores)
        offsets = dict(zip(FITTED_TERMS, found[len(cores) :], strict=True))
        offsets |= {term: offsets[like] for term, like in TIED.items()}
        measured = {row.core for row in family_rows}
        mean = float(np.mean([found[i] for i, name in enumerate(cores) if name in measured])) if measured else 0.0
        for i, name in enumerate(cores):
            scales[name] = math.exp(found[i] if name in measured else mean)
            prior = prior_cycles(name)
            scaled = {term: value * math.exp(offsets.get(term, 0.0)) * scales[name] for term, value in prior.items()}
            cycles[name] = scaled | {term: prior[term] for term in UNSCALED}
    return Fit(cycles, scales)


def minimize(rows: Sequence[Row], cores: Sequence[str], steps: int = 50) -> list[float]:
    """Logarithms of the cores' scales and of the terms' offsets, by Gauss-Newton on logarithms of cycles."""
    width = len(cores) + len(FITTED_TERMS)
    parameter_of = {term: len(cores) + FITTED_TERMS.index(TIED.get(term, term)) for term in (*FITTED_TERMS, *TIED)}
    spread = np.array([SCALE_RIDGE] * len(cores) + [RIDGE] * len(FITTED_TERMS))
    parameters = np.zeros(width)
    for _ in range(steps):
        jacobian, residuals = [np.diag(1 / spread)], [-parameters / spread]
        for row in rows:
            at, prior = cores.index(row.core), prior_cycles(row.core)
            parts = {term: prior[term] * count for term, count in row.work.items()}
            scaled = [term for term in parts if term not in UNSCALED]
            for term in scaled:
                offset = parameters[parameter_of[term]] if term in parameter_of else 0.0
                parts[term] *= math.exp(parameters[at] + offset)
            total = sum(parts.values())
            slope = np.zeros(width)
            slope[at] = sum(parts[term] for term in scaled) / total
            for term, i in parameter_of.items():
                slope[i] += parts.get(term, 0.0) / total
            jacobian.append(slope[None, :] / row.noise)
            residuals.append(np.array([math.log(row.cycles / total) / row.noise]))
        step, *_ = np.linalg.lstsq(np.vstack(jacobian), np.concatenate(residuals), rcond=None)
        parameters = parameters + step
        if np.abs(step).max() < 1e-10:
            break
    return [float(value) for value in parameters]


def splits(rows: Sequence[Row]) -> dict[str, list[tuple[list[Row], list[Row]]]]:
    """Cross-validation: pairs of the rows kept for the fit and those held out, by what is held out together."""

    def by(part: str) -> list[tuple[list[Row], list[Row]]]:
        keys = sorted({getattr(row, part) for row in rows})
        return [([r for r in rows if getattr(r, part) != k], [r for r in rows if getattr(r, part) == k]) for k in keys]

    singles = [([r for r in rows if (r.board, r.network) != pair], [r for r in rows if (r.board, r.network) == pair])
               for pair in sorted({(row.board, row.network) for row in rows})]  # fmt: skip
    return {
        "Cross-validation: one network of one board left out": singles,
        "Cross-validation: one network left out on all boards": by("network"),
        "Cross-validation: one board left out": by("board"),
    }


def error(row: Row, fit: Fit) -> float:
    """Relative error of the estimate; positive when too high."""
    return predict(fit.cycles[row.core], row.work) / row.cycles - 1


def print_errors(title: str, rows: Sequence[Row], fit: Fit | None, parts: Sequence[tuple[list[Row], Fit]] = ()) -> None:
    pairs = [(row, fit) for row in rows] if fit else [(row, part) for held, part in parts for row in held]
    print(title)
    for row, used in pairs:
        if used is not None:
            print(f"  {row.core:12} {row.board:14} {row.what:24} {row.cycles:12,.0f}  {error(row, used):+7.1%}")
    errors = [abs(error(row, used)) for row, used in pairs if used and "operator" not in row.what]
    print(f"  networks: mean {sum(errors) / len(errors):.1%}, largest {max(errors):.1%}\n")


# ---- the cores ----------------------------------------------------------------------------------------------------


def make_cores(
    fit: Fit, rows: Sequence[Row], submissions: Sequence[dict[str, str]], networks: dict[str, Subgraph]
) -> list[Core]:
    singles = splits(rows)["Cross-validation: one network of one board left out"]
    held_out = [(row, fit_cycles(kept)) for kept, held in singles for row in held]
    cores = []
    for name, family in EXTENSIONS.items():
        # Two deviations, of the errors of the whole family, held out of the fit and in it: one board of a core says
        # nothing about how much boards of that core differ.
        pairs = [*held_out, *((row, fit) for row in rows)]
        errors = [math.log(1 + error(row, used)) for row, used in pairs if EXTENSIONS[row.core] == family]
        spread = 2 * math.sqrt(sum(value * value for value in errors) / len(errors))
        boards = sorted({row.board for row in rows if row.core == name})
        sources = tuple(source_of(board, [row.what for row in rows if row.board == board]) for board in boards)
        note = "Convolutions and depthwise convolutions in int8 are fitted; all else is reasoned from the loops."
        cores.append(with_band(replace(blank(name), cycles=fit.cycles[name], sources=sources, note=note), spread))
    by_name = {core.name: core for core in cores}
    return [
        make_m0plus(by_name["cortex-m4"], submissions, networks), by_name["cortex-m4"],
        make_m7(by_name["cortex-m4"], submissions), *(by_name[name] for name in EXTENSIONS if name != "cortex-m4"),
    ]  # fmt: skip


def with_band(core: Core, spread: float) -> Core:
    return replace(
        core, fitted_low=math.exp(-spread), fitted_high=math.exp(spread),
        prior_low=math.exp(-spread) / PRIOR_BAND, prior_high=math.exp(spread) * PRIOR_BAND,
    )  # fmt: skip


def source_of(board: str, what: Sequence[str]) -> str:
    if board == "Apollo510":
        return "Ambiq Apollo510: MLPerf Tiny kws and three of its operators, AmbiqAI/helia-profiler's documentation"
    stack = "TFLite Micro" if board.startswith("EK-") else "microTVM with CMSIS-NN"
    return f"{board} with {stack}: MLPerf Tiny {' and '.join(sorted(what, reverse=True))}, mlcommons/tiny_results"


def core_of(row: dict[str, str]) -> str:
    """The core of a submission, however its submitter spells it: "32-Bit ARM® Cortex®-M7" is M7."""
    found = re.search(r"CORTEX\W*(M\d+\+?)", row["core"].upper())
    return found[1] if found else ""


def ratios(submissions: Sequence[dict[str, str]], over: str, under: str) -> list[float]:
    """Cycles on one core over those on another, of engines that were submitted on both in one version, in int8."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in submissions:
        is_other = re.search("_float|_min_ram", row["system"], re.IGNORECASE) or row["accelerator"]
        if core_of(row) in (over, under) and not is_other:
            key = (row["version"], re.sub(r"(\.0)+$", "", row["framework"]), row["benchmark"])
            found.setdefault(key, {}).setdefault(core_of(row), []).append(float(row["cycles"]))
    return [median(both[over]) / median(both[under]) for both in found.values() if len(both) == 2]


def make_m7(m4: Core, submissions: Sequence[dict[str, str]]) -> Core:
    """No network was submitted on a Cortex-M7 with CMSIS-NN: the M4's cycles, by how much faster other engines are."""
    logs = [math.log(ratio) for ratio in ratios(submissions, "M7", "M4")]
    center = sum(logs) / len(logs)
    spread = math.log(m4.fitted_high) + 2 * math.sqrt(sum((value - center) ** 2 for value in logs) / len(logs))
    factor = math.exp(center)
    source = (
        f"the Cortex-M4's figures, times {factor:.2f}: the mean of {len(logs)} pairs of MLPerf Tiny submissions of "
    )
    note = (
        "No submission ran CMSIS-NN on a Cortex-M7, so nothing is fitted. Bounded from below by X-CUBE-AI v7.1 to v9.0 "
        "on the NUCLEO-H7A3ZI-Q, whose kernels are faster: kws 3.2 to 6.2, ic 11.4 to 19.7 million cycles."
    )
    cycles = {term: value * (1 if term in UNSCALED else factor) for term, value in m4.cycles.items()}
    core = replace(
        blank("cortex-m7"), cycles=cycles, note=note,
        sources=(source + "one engine in one version on both cores", *m4.sources),
    )  # fmt: skip
    return with_band(core, spread)


def make_m0plus(m4: Core, submissions: Sequence[dict[str, str]], networks: dict[str, Subgraph]) -> Core:
    """No network was submitted on a Cortex-M0+ with CMSIS-NN either: between one engine's own figures and its ratio.

    HALE is faster than CMSIS-NN on every other core, so its cycles are a lower bound; with DSP instructions it gains
    more over CMSIS-NN than it can without, so CMSIS-NN's cycles on the M4 times HALE's ratio are an upper one.
    """
    logs = [math.log(ratio) for ratio in ratios(submissions, "M0+", "M4")]
    upper = sum(logs) / len(logs)
    own = {
        name: min(float(r["cycles"]) for r in submissions if core_of(r) == "M0+" and r["benchmark"] == name)
        for name in networks
    }
    lower = [math.log(own[n] / predict(m4.cycles, work_of(s, blank("cortex-m4")))) for n, s in networks.items()]
    center = (upper + sum(lower) / len(lower)) / 2
    spread = math.log(m4.fitted_high) + (upper - center)
    slower = COREMARK["cortex-m4"] / COREMARK["cortex-m0plus"]
    factors = dict.fromkeys(SCALAR, slower) | {term: slower * x for term, x in WITHOUT_LONG_PRODUCT.items()}
    factors |= {term: slower * x for term, x in SOFT_FLOAT.items()} | dict.fromkeys(DSP, math.exp(center))
    factors |= dict.fromkeys(UNSCALED, 1.0)
    note = (
        "No submission ran CMSIS-NN on a Cortex-M0+, so nothing is fitted: the middle between Bosch HALE's own cycles "
        "on the NUCLEO-G0B1RE, a lower bound, and the Cortex-M4's figures times HALE's ratio of the two cores."
    )
    core = replace(
        blank("cortex-m0plus"), cycles={term: value * factors[term] for term, value in m4.cycles.items()}, note=note,
        sources=(f"the Cortex-M4's figures, times {math.exp(center):.2f} for CMSIS-NN's kernels", *m4.sources),
    )  # fmt: skip
    return with_band(core, spread)


def as_toml(core: Core) -> str:
    lines = [
        "# Written by tools/fit_cortex_m.py. Cycles of a unit of each kind of work; docs/cortex-m.md explains them."
    ]
    for field in ("name", "extension", "stack", "version", "note"):
        lines.append(f'{field} = "{getattr(core, field)}"')
    lines[3:3] = [f"{field} = {str(getattr(core, field)).lower()}" for field in ("has_fpu", "has_data_cache")]
    lines += ["sources = [", *(f'    "{source}",' for source in core.sources), "]"]
    for field in ("fitted_low", "fitted_high", "prior_low", "prior_high"):
        lines.append(f"{field} = {getattr(core, field):.3f}")
    return "\n".join([*lines, "", "[cycles]", *(f"{term} = {core.cycles[term]:.4g}" for term in TERMS), ""])


if __name__ == "__main__":
    sys.exit(main())

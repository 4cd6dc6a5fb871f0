"""The published measurements that ship with the project, and how far the estimates are from each of them."""

import csv
import os
from functools import cache

from msgspec import Struct, convert
from msgspec.structs import replace

from mlia.accuracy import AccuracyRow
from mlia.targets.target import Npu, Processor, Target, read_vela_ini

FOLDER = os.path.dirname(__file__)
MEASUREMENTS = os.path.join(FOLDER, "measurements.csv")
LEDGER = os.path.join(FOLDER, "ledger.csv")
SYSTEMS = os.path.join(FOLDER, "measured_systems.ini")
# (read, write) latencies of the timing adapter in the simulated board where Vela's configuration has others. The read
# latency is published; the write latency is taken to be half of it, as in every other configuration of that kit.
BOARD_LATENCIES = {"Ethos_U85_SYS_DRAM_Low": (250, 125)}
# That adapter takes six bits of how many reads may be under way, so that the 64 of these configurations are 0 to it:
# any number.
ANY_READS = ("Ethos_U85_SYS_DRAM_Mid_512", "Ethos_U85_SYS_DRAM_Mid_1024", "Ethos_U85_SYS_DRAM_High_2048")
NO_LIMIT = 100.0  # times its speed: of an SRAM whose adapter was told to hold nothing back


class Measurement(Struct, frozen=True):
    """Cycles in which the NPU was active.

    `kind` is network, operator (a model of one), layer (of a network) or series (a network on memories that were
    varied). `memory` is "measured", "zero latency", or what was varied, as "read_latency=500 write_latency=250": the
    others are max_reads (0 for any number) and sram_speed (times its own; 0 for no limit). `steps` are the numbers of
    the layers, "3" or "11-12". `grid` is how coarsely cycles were read; 0 for exactly.
    """

    family: str
    macs: int
    system_config: str
    memory_mode: str
    memory: str
    kind: str
    model: str
    steps: str
    what: str
    cycles: int
    grid: int
    vela_5_0_cycles: int | None
    source: str


class LedgerRow(AccuracyRow, frozen=True):
    """What is told of a measurement: estimates of the program that Vela 5.0.0 made, and of that of the Vela of today.

    The measured program is the former; users get the latter, of which AccuracyRow tells. `fitted_cycles` are by the
    fit that ships, which has seen the measurement.
    """

    fitted_cycles: int
    vela_5_0_cycles: int
    calibrated_5_0_cycles: int
    fitted_5_0_cycles: int


@cache
def measurements() -> tuple[Measurement, ...]:
    """All of them, in the order of the file."""
    with open(MEASUREMENTS, encoding="utf-8", newline="") as file:
        return tuple(_measurement(row) for row in csv.DictReader(file))


@cache
def ledger() -> tuple[LedgerRow, ...]:
    """Each measurement but those of zero latency with its estimates, computed by tools/fit_ethos_u.py."""
    with open(LEDGER, encoding="utf-8", newline="") as file:
        return tuple(convert(row, LedgerRow, strict=False) for row in csv.DictReader(file))


def compiled_for(measurement: Measurement) -> Target:
    """The target that the measured program was compiled for."""
    ini = read_vela_ini(SYSTEMS)
    system = ini.system_config(measurement.system_config)
    return Target(
        name=f"{measurement.family}-{measurement.macs}",
        description="a measured system",
        npu=Npu(measurement.family, measurement.macs, system.clock_mhz),
        host=Processor("cortex-m55", system.clock_mhz),
        system_config=system,
        memory_mode=ini.memory_mode(measurement.memory_mode),
        vela_config=ini.text,
        vela_config_source="measured_systems.ini",
    )


def ran_on(measurement: Measurement) -> Target:
    """The target with the memories that the measured run had; they need not be those the compiler was told."""
    target = compiled_for(measurement)
    system = target.system_config
    axi0, axi1 = system.axi0, system.axi1
    if measurement.system_config in BOARD_LATENCIES:
        read, write = BOARD_LATENCIES[measurement.system_config]
        axi1 = replace(axi1, read_latency_cycles=read, write_latency_cycles=write)
    if measurement.system_config in ANY_READS:
        axi1 = replace(axi1, max_reads=None)
    if measurement.memory == "zero latency":
        axi0, axi1 = (replace(each, read_latency_cycles=0, write_latency_cycles=0) for each in (axi0, axi1))
    elif measurement.memory != "measured":
        varied = {name: float(value) for name, _, value in (text.partition("=") for text in measurement.memory.split())}
        axi0 = replace(axi0, clock_scale=axi0.clock_scale * (varied.pop("sram_speed", 1.0) or NO_LIMIT))
        if "max_reads" in varied:
            axi1 = replace(axi1, max_reads=int(varied.pop("max_reads")) or None)
        for name, value in varied.items():
            axi1 = replace(axi1, **{f"{name}_cycles": int(value)})
    return replace(target, system_config=replace(system, axi0=axi0, axi1=axi1))


def _measurement(row: dict[str, str]) -> Measurement:
    return Measurement(
        family=row["family"],
        macs=int(row["macs"]),
        system_config=row["system_config"],
        memory_mode=row["memory_mode"],
        memory=row["memory"],
        kind=row["kind"],
        model=row["model"],
        steps=row["steps"],
        what=row["what"],
        cycles=int(row["cycles"]),
        grid=int(row["grid"]),
        vela_5_0_cycles=int(row["vela_5_0_cycles"]) if row["vela_5_0_cycles"] else None,
        source=row["source"],
    )

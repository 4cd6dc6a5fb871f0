from pathlib import Path

import pytest
from msgspec.structs import replace

from mlia.errors import TargetError
from mlia.targets.cores import core_names
from mlia.targets.profiles import load_target, target_names
from mlia.targets.target import LEGAL_MACS, CpuTarget, Target, VelaIni, installed_path, read_vela_ini, write_vela_ini

WRITTEN_OUT = """
[npu]
family = "ethos-u55"
macs_per_cycle = 128
clock_mhz = 400
[host]
core = "cortex-m55"
clock_mhz = 400
[memory.sram]
bandwidth_gb_s = 3.2
read_latency_cycles = 32
write_latency_cycles = 32
[memory.off_chip_flash]
bandwidth_gb_s = 0.4
read_latency_cycles = 64
[placement]
constants = "off_chip_flash"
arena = "sram"
"""
NAMED = """
[npu]
family = "{family}"
macs_per_cycle = {macs}
clock_mhz = 500
[host]
core = "cortex-m55"
clock_mhz = 500
[vela]
system_config = "{system_config}"
memory_mode = "{memory_mode}"
"""


def profile(folder: Path, text: str) -> str:
    path = folder / "board.toml"
    path.write_text(text)
    return str(path)


def npu_target(name: str) -> Target:
    target = load_target(name)
    assert isinstance(target, Target)
    return target


def test_there_is_a_profile_for_every_ethos_u_and_every_core() -> None:
    npus = [f"{family}-{macs}" for family, choices in LEGAL_MACS.items() for macs in choices]
    assert target_names() == [*npus, *core_names()]
    for name in npus:
        target = npu_target(name)
        assert target.name == name
        assert target.npu.clock_mhz == target.system_config.clock_mhz
    for name in core_names():
        alone = load_target(name)
        assert isinstance(alone, CpuTarget)
        assert (alone.name, alone.host.core) == (name, name)


def test_a_host_alone_is_a_target(tmp_path: Path) -> None:
    alone = load_target(profile(tmp_path, '[host]\ncore = "cortex-m33"\nclock_mhz = 96\n'))
    assert isinstance(alone, CpuTarget)
    assert (alone.name, alone.host.name, alone.host.clock_mhz) == ("board", "Cortex-M33", 96)
    with pytest.raises(TargetError, match=r"there is no \[npu\]"):
        load_target(
            profile(
                tmp_path,
                '[host]\ncore = "cortex-m33"\nclock_mhz = 96\n[placement]\nconstants = "sram"\narena = "sram"\n',
            )
        )


def test_memories_written_out(tmp_path: Path) -> None:
    target = load_target(profile(tmp_path, WRITTEN_OUT))
    assert target.name == "board"
    assert (target.system_config.name, target.memory_mode.name) == ("board", "Shared_Sram")
    assert target.constants_memory.kind == "OffChipFlash"
    assert target.arena_memory.bandwidth_gb_s(target.npu) == pytest.approx(3.2)
    assert target.constants_memory.bandwidth_gb_s(target.npu) == pytest.approx(0.4)
    assert target.constants_memory.clock_scale == pytest.approx(0.125)


def test_an_ini_of_ones_own(tmp_path: Path) -> None:
    text = Path(installed_path()).read_text().replace("core_clock=200e6", "core_clock=160e6")
    (tmp_path / "own.ini").write_text(text)
    named = NAMED.format(
        family="ethos-u55", macs=64, system_config="Ethos_U55_Deep_Embedded", memory_mode="Shared_Sram"
    )
    with pytest.raises(TargetError, match=r"clock_mhz is 500, but .* for 160 MHz"):
        load_target(profile(tmp_path, named + 'ini = "own.ini"\n'))
    named = named.replace("clock_mhz = 500\n\n[host]", "clock_mhz = 160\n\n[host]").replace(
        "500\n[host]", "160\n[host]"
    )
    target = load_target(profile(tmp_path, named + 'ini = "own.ini"\n'))
    assert target.system_config.clock_mhz == 160
    assert target.vela_config == text


@pytest.mark.parametrize("system_config", VelaIni(Path(installed_path()).read_text(), "vela.ini").system_configs)
def test_what_is_written_as_ini_reads_the_same(system_config: str) -> None:
    ini = read_vela_ini(installed_path())
    config = ini.system_config(system_config)
    for name in ini.memory_modes:
        mode = ini.memory_mode(name)
        again = VelaIni(write_vela_ini(config, mode), "again")
        assert again.system_config(system_config) == config
        assert again.memory_mode(name) == mode


@pytest.mark.parametrize(
    ("family", "macs", "system_config", "memory_mode", "message"),
    [
        ("ethos-u55", 256, "Ethos_U55_High_End_Embedded", "Dedicated_Sram", "arena is in OffChipFlash.*Shared_Sram"),
        ("ethos-u65", 256, "Ethos_U65_Embedded", "Dedicated_Sram_384KB", "possible: .*Ethos_U65_Mid_End"),
        ("ethos-u55", 256, "Ethos_U65_High_End", "Shared_Sram", "describes an Ethos-U65 system"),
        ("ethos-u55", 512, "Ethos_U55_High_End_Embedded", "Shared_Sram", "choose from 32, 64, 128, 256"),
        ("ethos-u85", 100, "Ethos_U85_SYS_DRAM_Mid", "Shared_Sram", "choose from 128, 256, 512, 1024, 2048"),
        ("ethos-n78", 256, "x", "y", "unknown NPU family"),
        ("ethos-u55", 256, "Ethos_U55_Missing", "Shared_Sram", "no system config 'Ethos_U55_Missing': choose from"),
        ("ethos-u55", 256, "Ethos_U55_High_End_Embedded", "Missing", "no memory mode 'Missing': choose from"),
    ],
)
def test_impossible_hardware_is_refused_with_what_is_possible(
    tmp_path: Path, family: str, macs: int, system_config: str, memory_mode: str, message: str
) -> None:
    text = NAMED.format(family=family, macs=macs, system_config=system_config, memory_mode=memory_mode)
    with pytest.raises(TargetError, match=message):
        load_target(profile(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('arena = "sram"', 'arena = "off_chip_flash"', "cannot be written"),
        ('arena = "sram"', 'arena = "dram"', "placement.arena is 'dram'"),
        ("bandwidth_gb_s = 3.2", "bandwidth_gb_s = 32", "more than 1 AXI port"),
        ("bandwidth_gb_s = 3.2", "bandwidth_gb_s = 0", "must be positive"),
        ("bandwidth_gb_s = 3.2", "bandwith_gb_s = 3.2", "bandwith_gb_s"),
        ("clock_mhz = 400\n[host]", "clock_mhz = -1\n[host]", "clock"),
        ("clock_mhz = 400\n[host]", "clock_mhz = nan\n[host]", "clock"),
        ('core = "cortex-m55"', 'core = "cortex-m99"', "core"),
        ("[placement]", "[placement", "not valid"),
        ("[placement]", '[vela]\nsystem_config = "a"\nmemory_mode = "b"\n[placement]', "not both"),
        ("read_latency_cycles = 64", "read_latency_cycles = -1", "read_latency of -1"),
        ("read_latency_cycles = 64", "read_latency_cycles = 9000000000000000000", "read_latency of 9e\\+18"),
        ("bandwidth_gb_s = 3.2", "bandwidth_gb_s = nan", "must be positive"),
        ("bandwidth_gb_s = 3.2", "bandwidth_gb_s = 1e-300", "clock_scale"),
        ("bandwidth_gb_s = 3.2", "bandwidth_gb_s = 3.2\nports = 999999999999", "ports 1 to 16"),
        ('core = "cortex-m55"\nclock_mhz = 400', 'core = "cortex-m55"\nclock_mhz = inf', "host's clock"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in WRITTEN_OUT
    with pytest.raises(TargetError, match=message) as caught:
        load_target(profile(tmp_path, WRITTEN_OUT.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_an_arena_in_dram_cannot_be_written_by_a_u55(tmp_path: Path) -> None:
    text = WRITTEN_OUT.replace("off_chip_flash", "dram").replace('arena = "sram"', 'arena = "dram"')
    with pytest.raises(TargetError, match="only write to Sram"):
        load_target(profile(tmp_path, text))
    load_target(profile(tmp_path, text.replace("ethos-u55", "ethos-u65").replace("128", "256")))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ethos-u55-257", "choose from 32, 64, 128, 256"),
        ("ethos-u56-256", "did you mean"),
        ("ETHOS_U55_256", "did you mean ethos-u55-256"),
        ("nothing-like-it", "mlia target list"),
        ("ethos-u55-²", "did you mean"),
        ("x" * 300, "no target"),
        ("x" * 300 + ".toml", "File name too long"),
        ("missing.toml", "No such file"),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        load_target(name)


def test_inheritance_that_goes_in_circles() -> None:
    ini = VelaIni("[Memory_Mode.A]\ninherit=Memory_Mode.B\n[Memory_Mode.B]\ninherit=Memory_Mode.A\n", "x.ini")
    with pytest.raises(TargetError, match="inherits from itself"):
        ini.memory_mode("A")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Sram_clock_scale=1.0", "Sram_clock_scale=0"),
        ("Sram_clock_scale=1.0", "Sram_clock_scale=nan"),
        ("Sram_clock_scale=1.0", "Sram_clock_scale=-1"),
        ("Sram_read_latency=32", "Sram_read_latency=inf"),
        ("Sram_read_latency=32", "Sram_read_latency=fast"),
        ("core_clock=500e6", "core_clock=nan"),
        ("core_clock=500e6", "core_clock=0"),
        ("axi0_port=Sram", "axi0_port=Tape"),
        ("[System_Config.Ethos_U55_High_End_Embedded]", "[System_Config.Ethos_U55_High_End_Embedded]\ninherit=foo"),
        ("[Memory_Mode.Shared_Sram]", "[Memory_Mode.Shared_Sram]\narena_cache_size=inf"),
    ],
)
def test_a_wrong_ini_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = Path(installed_path()).read_text()
    assert old in text
    (tmp_path / "own.ini").write_text(text.replace(old, new))
    named = NAMED.format(
        family="ethos-u55", macs=64, system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram"
    )
    with pytest.raises(TargetError) as caught:
        load_target(profile(tmp_path, named + 'ini = "own.ini"\n'))
    assert "\n" not in str(caught.value)


def test_a_path_that_no_system_takes(tmp_path: Path) -> None:
    named = NAMED.format(
        family="ethos-u55", macs=64, system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram"
    )
    with pytest.raises(TargetError):
        load_target(profile(tmp_path, named + 'ini = "a\\u0000b"\n'))


def test_a_limit_beyond_the_address_space() -> None:
    from mlia.targets.target import why_impossible

    target = load_target("ethos-u85-256")
    mode = replace(target.memory_mode, cache_limit_bytes=1 << 50)
    reason = why_impossible(target.npu, target.system_config, mode)
    assert reason is not None
    assert "can address" in reason

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mlia.backends.vela.process import compile_model
from mlia.errors import TargetError
from mlia.render.targets import render_target
from mlia.targets.profiles import load_target, target_names
from mlia.targets.target import AnyTarget, CpuTarget, MemoryMode, SystemConfig, Target, write_vela_ini
from mlia.targets.variants import (
    legal_memory_modes,
    next_macs,
    with_cache_limit,
    with_macs,
    with_memory_mode,
    with_strategy,
)
from mlia.targets.writing import write_profile


def npu_target(name: str) -> Target:
    target = load_target(name)
    assert isinstance(target, Target)
    return target


NPUS = [name for name in target_names() if name.startswith("ethos")]


def read_again(folder: Path, target: AnyTarget) -> AnyTarget:
    path = folder / "written.toml"
    path.write_text(write_profile(target), encoding="utf-8")
    return load_target(str(path))


def same(one: AnyTarget, other: AnyTarget) -> bool:
    if isinstance(one, CpuTarget) or isinstance(other, CpuTarget):
        return one == other
    fields = ("name", "description", "npu", "host", "system_config", "memory_mode", "strategy")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


@pytest.mark.parametrize("name", target_names())
def test_a_built_in_target_is_written_as_it_reads(tmp_path: Path, name: str) -> None:
    target = load_target(name)
    assert same(read_again(tmp_path, target), target)
    assert "[memory" not in write_profile(target)


@pytest.mark.parametrize("name", NPUS)
def test_variants_are_written_as_they_read(tmp_path: Path, name: str) -> None:
    target = npu_target(name)
    variants = [with_cache_limit(target, 100_000), with_strategy(target, "Size")]
    variants += [with_memory_mode(target, mode.name) for mode in legal_memory_modes(target)]
    variants += [with_macs(target, macs) for macs in (next_macs(target, 1), next_macs(target, -1)) if macs]
    variants.append(with_cache_limit(with_strategy(target, "Size"), 3))
    for variant in variants:
        assert variant.name.startswith(f"{name}, ")
        again = read_again(tmp_path, variant)
        assert same(again, variant)
        assert isinstance(again, Target)
        assert again.arena_limit_bytes == variant.arena_limit_bytes


finite = st.floats(1e-5, 1.0, allow_subnormal=False)
counts = st.one_of(st.none(), st.integers(0, 1000))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(NPUS), finite, finite, st.floats(1, 4000), st.integers(0, 999), st.integers(1, 16), counts,
    st.one_of(st.none(), st.integers(1, 1 << 32)), st.booleans(), st.text(min_size=1, max_size=8),
)  # fmt: skip
def test_memories_of_ones_own_are_written_as_they_read(
    tmp_path_factory: pytest.TempPathFactory,
    name: str, sram: float, second: float, clock: float, latency: int, ports: int, limit: int | None,
    cache: int | None, in_sram: bool, description: str,
) -> None:  # fmt: skip
    target = npu_target(name)
    memories = target.system_config
    config = SystemConfig(
        name,
        clock,
        replace(memories.axi0, clock_scale=sram, ports=ports, max_reads=limit),
        replace(memories.axi1, clock_scale=second, read_latency_cycles=latency),
    )
    shares = in_sram or "u55" in name
    mode = MemoryMode(
        "Shared_Sram" if shares else "Dedicated_Sram", "axi1", "axi0" if shares else "axi1", "axi0", cache
    )
    own = replace(
        target,
        npu=replace(target.npu, clock_mhz=clock),
        description=description.encode(errors="replace").decode(),
        system_config=config,
        memory_mode=mode,
        vela_config=write_vela_ini(config, mode),
    )
    assert same(read_again(tmp_path_factory.mktemp("own"), own), own)


def test_a_profile_can_say_strategy_and_arena_cache(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    text = write_profile(npu_target("ethos-u55-256"))
    path.write_text(text.replace("\n[npu]", 'strategy = "Size"\n[npu]').replace(
        'memory_mode = "Shared_Sram"', 'memory_mode = "Shared_Sram"\narena_cache_bytes = 262144'
    ))  # fmt: skip
    target = load_target(str(path))
    assert isinstance(target, Target)
    assert (target.strategy, target.arena_limit_bytes) == ("Size", 262144)
    shown = render_target(target, [])
    assert "limit 262,144 bytes" in shown
    assert "strategy       Size" in shown
    assert "strategy" not in render_target(npu_target("ethos-u55-256"), [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n[npu]", 'strategy = "Fast"\n[npu]', "strategy is 'Fast': choose from Performance, Size"),
        ("\n[host]", "arena_cache_bytes = 0\n[host]", "cache limit of 0 bytes"),
        ("\n[host]", "arena_cache_bytes = -5\n[host]", "cache limit of -5 bytes"),
        ("\n[host]", f"arena_cache_bytes = {1 << 33}\n[host]", "can address"),
    ],
)
def test_what_no_compiler_takes_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = write_profile(npu_target("ethos-u55-256"))
    assert old in text
    (tmp_path / "x.toml").write_text(text.replace(old, new))
    with pytest.raises(TargetError, match=message):
        load_target(str(tmp_path / "x.toml"))


def test_a_strategy_is_for_an_npu(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('strategy = "Size"\n[host]\ncore = "cortex-m33"\nclock_mhz = 96\n')
    with pytest.raises(TargetError, match=r"there is no \[npu\]"):
        load_target(str(tmp_path / "x.toml"))


def test_bandwidth_or_clock_scale_but_not_both(tmp_path: Path) -> None:
    target = npu_target("ethos-u55-256")
    own = replace(target, system_config=replace(target.system_config, name="mine"))
    text = write_profile(own)
    assert "[memory.sram]\nbandwidth_gb_s = 4\n" in text
    (tmp_path / "x.toml").write_text(text.replace("bandwidth_gb_s = 4\n", "bandwidth_gb_s = 4\nclock_scale = 1\n"))
    with pytest.raises(TargetError, match="either bandwidth_gb_s or clock_scale"):
        load_target(str(tmp_path / "x.toml"))


def test_an_ethos_u55_keeps_its_arena_in_sram() -> None:
    names = [mode.name for mode in legal_memory_modes(npu_target("ethos-u55-256"))]
    assert names == ["Sram_Only", "Shared_Sram"]
    with pytest.raises(TargetError, match="possible: Sram_Only, Shared_Sram"):
        with_memory_mode(npu_target("ethos-u55-256"), "Dedicated_Sram")
    assert "Dedicated_Sram_256KB" in [mode.name for mode in legal_memory_modes(npu_target("ethos-u65-256"))]


def test_impossible_variants_are_refused() -> None:
    target = npu_target("ethos-u55-256")
    for wrong in (0, -1, 1 << 40):
        with pytest.raises(TargetError, match="cache limit"):
            with_cache_limit(target, wrong)
    with pytest.raises(TargetError, match="choose from"):
        with_strategy(target, "Fast")
    with pytest.raises(TargetError, match="choose from"):
        with_macs(target, 512)
    assert next_macs(target, 1) is None
    assert next_macs(target, -1) == 128


def test_variants_compile_as_they_say(sample: Path, tmp_path: Path) -> None:
    target = npu_target("ethos-u55-256")
    content = sample.read_bytes()

    def figures(variant: Target) -> tuple[int, int]:
        report = compile_model(content, variant, 60).report
        return report["total_cycles"], report["memories"]["Sram"]["peak_bytes"]

    plain = figures(target)
    size = figures(with_strategy(target, "Size"))
    assert size[1] < plain[1]
    small = figures(with_cache_limit(target, plain[1] // 2))
    assert small[1] < plain[1]
    assert figures(with_memory_mode(target, "Sram_Only"))[1] > plain[1]
    for variant in (with_cache_limit(target, plain[1] // 2), with_strategy(target, "Size")):
        again = read_again(tmp_path, variant)
        assert isinstance(again, Target)
        assert figures(again) == figures(variant)

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

import mlia
from mlia.pipeline.figures import figures_of
from mlia.pipeline.optimize.gains import explain
from mlia.results import Performance


@pytest.fixture
def performance(sample: Path) -> Performance:
    (target,) = mlia.check(sample, "ethos-u55-256").targets
    performance = target.results[0].performance
    assert isinstance(performance, Performance)
    return performance


def test_how_much_faster_without_waiting(performance: Performance) -> None:
    """Waits that are not for weights count as well, so nothing is promised of weights alone but a ceiling."""
    before = replace(figures_of(performance, 0, 1), total_cycles=1080, npu_cycles=1000)
    text = explain(performance, before, replace(before, total_cycles=1070))
    assert text.startswith("no gain in time worth having; the NPU computed in 93 % of the cycles before (")
    assert re.search(r"before \(\d+ % bound by \w+, \d+ % bound by \w+\);", text)
    assert text.endswith(
        "if it never waited for memory, it would be about 1.08x as fast, the ceiling for compressed weights"
    )
    assert explain(performance, before, replace(before, total_cycles=1200)).startswith("it became slower; the NPU")
    less = explain(performance, before, replace(before, total_cycles=540, npu_cycles=500))
    assert less.endswith("it also computes less, 2.00x fewer cycles")


def test_nothing_to_explain(performance: Performance) -> None:
    none = replace(figures_of(performance, 0, 1), total_cycles=None, npu_cycles=None)
    assert explain(performance, none, none) == "nothing runs on the NPU, so there are no cycles to compare"

"""What the examples cannot say of the rules about weights and the size of the NPU: real models, and their words."""

import re
from pathlib import Path

from mlia.rules.memory import WaitsForWeights
from mlia.rules.optimization import CompressionIsNoHelp, LargerThanNeeded, MacBound
from mlia.testing import advise_one, case_of
from tests.rules.cases.optimization import U55, U85, convolutions, dense_network

OFF_THE_NPU = Path(__file__).parents[2] / "examples/off_the_npu.tflite"


def test_an_npu_that_waits_for_first_data_is_not_said_to_compute(shared: Path) -> None:
    lstm = (shared / "tflite_micro/trained_lstm_int8.tflite").read_bytes()
    assert advise_one(CompressionIsNoHelp, lstm, U85) == []
    (finding,) = advise_one(WaitsForWeights, lstm, U85)
    assert re.match(r"(9\d|100) % of the NPU's cycles are in steps that wait for data", finding.evidence)


def test_nothing_is_said_of_the_npu_where_the_host_has_most_of_the_time() -> None:
    case = case_of(OFF_THE_NPU.read_bytes(), "ethos-u55-128")
    assert CompressionIsNoHelp().skip(case) == "the host takes most of the time"
    assert MacBound().skip(case) == "the host takes most of the time"


def test_shares_are_of_the_npus_cycles() -> None:
    (finding,) = advise_one(CompressionIsNoHelp, convolutions(), U55)
    assert finding.evidence.startswith("the NPU computes in 100 % of its cycles")
    (finding,) = advise_one(MacBound, convolutions(), "ethos-u55-128")
    assert finding.evidence.startswith("100 % of the NPU's cycles wait for the MAC array")
    (finding,) = advise_one(LargerThanNeeded, dense_network(), U55)
    assert finding.evidence == "100 % of the NPU's cycles are in steps that wait for memory"

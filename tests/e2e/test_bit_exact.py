"""Real models on every Ethos-U: all output bytes as LiteRT's reference kernels give them, on noise and at the edges."""

from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE, SHARED, wake_words

import mlia
from mlia.targets.profiles import target_names
from mlia.verification import Outcome, VerifyReport

NPUS = [name for name in target_names() if name.startswith("ethos")]
MODELS = [
    SAMPLE,
    ROOT / "examples/off_the_npu.tflite",
    *wake_words(),
    SHARED / "mlperf_tiny/kws_ref_model.tflite",
    SHARED / "mlperf_tiny/pretrainedResnet_quant.tflite",
    SHARED / "tflite_micro/micro_speech_quantized.tflite",
    SHARED / "tflite_micro/trained_lstm_int8.tflite",
    SHARED / "calibration/kws_micronet_m.tflite",
    SHARED / "calibration/ad_medium_int8.tflite",
]


def verified(model: Path, target: str) -> VerifyReport:
    if not model.exists():
        pytest.skip("the folder of further models is not there")
    return mlia.verify(model, target)


@pytest.mark.parametrize("target", NPUS)
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_outputs_are_exact(model: Path, target: str) -> None:
    found = verified(model, target)
    # LiteRT computes the gates of an LSTM otherwise than any NPU, and a softmax makes more of that.
    allowed = {Outcome.EXACT, Outcome.DOCUMENTED, Outcome.NOT_JUDGED} if "lstm" in model.stem else {Outcome.EXACT}
    assert {check.outcome for check in found.outputs} <= allowed
    assert not found.is_unexplained
    assert len(found.outputs) == len(found.model.outputs)


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_what_differs_is_known(target: str) -> None:
    found = verified(SHARED / "mlperf_tiny/pretrainedResnet_quant.tflite", target)
    (dense,) = [check for check in found.operators if check.outcome == Outcome.DOCUMENTED]
    assert dense.kind == "FULLY_CONNECTED"
    assert dense.largest_codes == 1
    assert "rounds once" in dense.reason


def test_a_model_that_an_older_compiler_made_is_executed() -> None:
    model = SHARED / "tflite_micro/person_detect_vela.tflite"
    if not model.exists():
        pytest.skip("the folder of further models is not there")
    found = mlia.verify(model)
    assert found.compiled[0].compiler == "Vela 3.11.0"
    assert not found.outputs
    assert not found.is_unexplained
    assert mlia.verify(model, "ethos-u55-128").dangers[0].kind == "wrong NPU"

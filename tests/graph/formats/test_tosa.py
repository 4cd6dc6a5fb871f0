"""fixtures/tiny.tosa: two int8 convolutions, made from a .tflite by tosa-converter-for-tflite 2026.2.0 and
tosa-opt --tosa-serialize of tosa-tools 2026.8.0."""

import random
from pathlib import Path

import flatbuffers
import pytest

import mlia
from mlia.errors import BackendError, MliaError, ModelError
from mlia.graph.formats.tosa import read_tosa
from mlia.graph.tflite_writer import _write_table
from mlia.pipeline.check.advise import TOSA
from mlia.results import Compatibility, Performance

TINY = Path(__file__).parent / "fixtures/tiny.tosa"


def test_operators_without_constants_keep_their_index() -> None:
    graph = read_tosa(TINY.read_bytes())
    kinds = [operator.kind for operator in graph.operators]
    assert kinds.count("CONV2D") == 2
    assert not {"CONST", "CONST_SHAPE"} & set(kinds)
    assert graph.operators[0].index > 0
    assert graph.provenance.format == "TOSA 1.0"
    (image,) = (graph.main.tensors[index] for index in graph.main.inputs)
    assert (image.shape, image.dtype) == ((1, 16, 16, 8), "int8")


@pytest.mark.parametrize("target", ["ethos-u85-256", "ethos-u55-128"])
def test_a_check_goes_straight_to_vela(target: str) -> None:
    (entry,) = mlia.check(TINY, target).targets
    assert not entry.advised.advice
    assert {skipped.reason for skipped in entry.advised.skipped} == {TOSA}
    result = entry.results[0]
    assert isinstance(result.compatibility, Compatibility)
    assert isinstance(result.performance, Performance)
    assert result.compatibility.npu_percent == 100
    convolutions = [cost for cost in result.performance.operators if cost.kind == "CONV2D"]
    assert [cost.macs for cost in convolutions] == [16 * 16 * 8 * 72, 8 * 8 * 8 * 72]
    assert all(cost.total_cycles for cost in convolutions)
    assert sum(cost.total_cycles or 0 for cost in result.performance.operators) == result.performance.total_cycles


def test_damage_is_noticed_or_harmless(tmp_path: Path) -> None:
    content, source = TINY.read_bytes(), random.Random(1)
    refused = 0
    for number in range(60):
        changed = bytearray(content[: source.choice((len(content), source.randrange(8, len(content))))])
        for _ in range(source.choice((0, 1, 8))):
            changed[source.randrange(8, len(changed))] = source.randrange(256)
        path = tmp_path / f"{number}.tosa"
        path.write_bytes(changed)
        try:
            mlia.check(path, "ethos-u85-256", options=mlia.Options(timeout_s=20))
        except MliaError:
            refused += 1
    assert refused


def tosa_file(major: int, blocks: int) -> bytes:
    builder = flatbuffers.Builder(64)
    block = {"name": "main", "operators": [{"op": "ADD"}], "tensors": [{"name": "x", "shape": [1]}]}
    values = {"version": {"major": major, "minor": 0}, "regions": [{"name": "main", "blocks": [block] * blocks}]}
    builder.Finish(_write_table(builder, "TosaGraph", values), file_identifier=b"TOSA")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("major", "blocks", "message"), [(0, 1, r"version is 0\.0"), (1, 2, "2 blocks"), (1, 0, "0 blocks")]
)
def test_what_is_not_read_is_refused(major: int, blocks: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_tosa(tosa_file(major, blocks))
    assert len(read_tosa(tosa_file(1, 1)).operators) == 1


def test_an_npu_that_lacks_an_operator_refuses_the_whole_model(tmp_path: Path) -> None:
    # Ethos-U55 has no form of TOSA's REDUCE_MAX; Vela does not leave single TOSA operators to the CPU.
    path = tmp_path / "add.tosa"
    path.write_bytes(tosa_file(1, 1))
    with pytest.raises(BackendError, match="whole or not at all"):
        mlia.check(path, "ethos-u55-128")

"""How much operations do: worked out by hand, and against Vela's own count."""

from pathlib import Path

import pytest

from mlia.backends.vela.process import compile_model
from mlia.graph.tflite_writer import write_tflite
from mlia.simulator.container import Program
from mlia.simulator.counts import LOOK_UP, Counts, counts, kind_of, total
from mlia.simulator.decode import operations
from mlia.simulator.operation import Compute, Range, Stop, Transfer, Wait
from mlia.targets.profiles import load_target
from mlia.targets.target import Target
from mlia.testing import IntegerSketch
from tests.simulator.disassembly import disassemble
from tests.simulator.single_operators import draw


def _convolution(kind: str = "CONV_2D") -> bytes:
    net = IntegerSketch("convolution")
    image = net.image("image", (1, 12, 10, 16))
    filters = 24 if kind == "CONV_2D" else 16
    return write_tflite(net.graph([net.filter(kind, image, filters=filters, stride=(2, 2))]))


def _program(content: bytes, target: str) -> Program:
    (program,) = disassemble(content, target).programs
    return program


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-512", "ethos-u85-512"])
def test_a_convolution_by_hand(target: str) -> None:
    program = _program(_convolution(), target)
    decoded = operations(program)
    (operation,) = [operation for operation in decoded if isinstance(operation, Compute)]
    done = counts(operation, program.config)
    # 6 x 5 x 24 outputs of 3 x 3 taps on 16 channels.
    assert done.macs == 6 * 5 * 24 * 3 * 3 * 16
    assert sum(done.written.values()) == 6 * 5 * 24
    # The kernel reaches 2 * 5 + 3 rows and 2 * 4 + 3 columns, one of each in the padding: all of the input.
    assert sum(done.read.values()) == 12 * 10 * 16 + done.weights + done.scales
    assert done.weights == sum(piece.length for piece in operation.weights)
    assert 0 < done.weights < 24 * 3 * 3 * 16 * 2
    assert done.scales >= 24 * 10


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-256"])
def test_multiplications_are_those_that_vela_counts(target: str, kind: str) -> None:
    content, place = _convolution(kind), load_target(target)
    assert isinstance(place, Target)
    program = _program(content, target)
    whole = total(counts(operation, program.config) for operation in operations(program))
    assert whole.macs == compile_model(content, place, 60).report["macs"]


def test_chained_and_scalar_operands_move_nothing() -> None:
    program = _program(draw("add_constant", "int8", 0).content, "ethos-u85-256")
    (operation,) = [operation for operation in operations(program) if isinstance(operation, Compute)]
    done = counts(operation, program.config)
    stored = [
        feature_map
        for feature_map in (operation.ifm, operation.ifm2)
        if feature_map is not None and feature_map.storage == "memory"
    ]
    assert sum(done.read.values()) == sum(fm.height * fm.width * fm.depth * fm.element_bytes for fm in stored)
    assert done.macs == 0


def test_transfers_by_hand() -> None:
    config = _program(_convolution(), "ethos-u55-128").config
    table = Transfer(0, 0, 16, 3, 64, 256, to_table=True)
    assert counts(table, config) == Counts(0, {0: 256}, {LOOK_UP: 256}, moved=256)
    rows = Transfer(0, 1, 0, 2, 0, 10, mode="2d", rows=3, indexed="source", indexes=Range(0, 0, 12))
    assert counts(rows, config) == Counts(0, {1: 30, 0: 12}, {2: 30}, moved=30)
    assert counts(Wait(0, "dma", 0), config) == counts(Stop(0), config) == Counts()


def test_a_total_is_the_sum_of_its_operations(sample: Path) -> None:
    program = _program(sample.read_bytes(), "ethos-u55-128")
    decoded = operations(program)
    parts = [counts(operation, program.config) for operation in decoded]
    whole = total(parts)
    assert whole.macs == sum(part.macs for part in parts) > 0
    assert sum(kind_of(operation) == "depthwise" for operation in decoded) == 4
    # All that is copied is read once from where it was, and written once.
    assert whole.moved == sum(found.length for found in decoded if isinstance(found, Transfer)) > 0

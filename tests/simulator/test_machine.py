"""Real models on Ethos-U55 and U65 beside LiteRT's reference kernels; single operations; what is refused."""

from pathlib import Path
from typing import Any

import numpy
import pytest
from msgspec.structs import replace

from mlia.backends.simulator.session import Session
from mlia.backends.vela.process import compile_model
from mlia.errors import SimulatorError
from mlia.graph.tflite import read_tflite
from mlia.simulator.container import Config
from mlia.simulator.machine import Machine
from mlia.simulator.memory import Memory
from mlia.simulator.operation import (
    Activation,
    Block,
    Compute,
    FeatureMap,
    Kernel,
    Operation,
    Padding,
    Rounding,
    Scale,
    Stop,
    Tiles,
    Transfer,
    Wait,
)  # fmt: skip
from mlia.targets.profiles import load_target
from mlia.transforms.interpreter import ReferenceModel

TARGETS = ("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u65-512")
U55 = Config(0, "ethos-u55", 128, 24, 1)
U65 = Config(1, "ethos-u65", 512, 96, 2)


def _samples(content: bytes) -> list[list[Any]]:
    """Two of noise over all codes, one of the lowest and highest."""
    main, random = read_tflite(content).main, numpy.random.default_rng(0)
    found = []
    for is_edge in (False, False, True):
        sample = []
        for tensor in (main.tensors[index] for index in main.inputs):
            limits = numpy.iinfo(tensor.dtype)
            values = random.integers(limits.min, limits.max + 1, tensor.shape)
            sample.append((numpy.where(values < 0, limits.min, limits.max) if is_edge else values).astype(tensor.dtype))
        found.append(sample)
    return found


def _differences(content: bytes, target: str) -> list[int]:
    """How many elements of the outputs differ, for each sample."""
    ours = Session(compile_model(content, load_target(target), 60).model)
    theirs = ReferenceModel(content)
    return [
        sum(int((a != b).sum()) for a, b in zip(ours.run(sample), theirs.run(sample), strict=True))
        for sample in _samples(content)
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_the_sample_is_exact(sample: Path, target: str) -> None:
    assert _differences(sample.read_bytes(), target) == [0, 0, 0]


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u65-512"])
@pytest.mark.parametrize(
    "name",
    [
        "mlperf_tiny/kws_ref_model.tflite",
        "tflite_micro/micro_speech_quantized.tflite",
        "calibration/kws_micronet_m.tflite",
        "calibration/ad_medium_int8.tflite",
    ],
)
def test_real_models_are_exact(shared: Path, name: str, target: str) -> None:
    assert _differences((shared / name).read_bytes(), target) == [0, 0, 0]


def _map(address: int, depth: int = 4, element_bytes: int = 1, **given: Any) -> FeatureMap:
    whole = FeatureMap(
        1, Tiles((address, 0, 0, 0), 1, 1, 1), 1, 1, depth, depth * element_bytes, depth * element_bytes, element_bytes,
        element_bytes, True, False, 0,
    )  # fmt: skip
    return replace(whole, **given)


def _operation(mode: str, kind: str = "elementwise", **given: Any) -> Compute:
    plain = Compute(
        offset=0x40, kind=kind, mode=mode, ifm=_map(0), ofm=_map(8), ofm_rounding=Rounding.DOUBLE,
        is_ofm_scale_global=False, ofm_scale=Scale(1, 0), activation=Activation("none", -128, 127),
        block=Block(1, 1, 8), kernel=Kernel((1, 1), (1, 1), (1, 1), False), padding=Padding(0, 0, 0, 0), upscale="none",
        block_dependency=0, accumulator="int32", ifm2=_map(4),
    )  # fmt: skip
    return replace(plain, **given)


def _run(*operations: Operation, content: list[int], config: Config = U55) -> list[int]:
    """The four bytes (or words) at 8 after operations on a memory that begins with `content`."""
    region = numpy.zeros(64, numpy.int8)
    region[: len(content)] = content
    Machine(config, Memory({1: region.view(numpy.uint8)})).run(operations)
    return region[8:12].tolist()


X, Y = [-100, -3, 0, 100], [50, -60, 0, 101]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (_operation("min"), [-100, -60, 0, 100]),
        (_operation("max"), [50, -3, 0, 101]),
        (_operation("add"), [-50, -63, 0, 127]),
        (_operation("sub"), [-128, 57, 0, -1]),
        (_operation("sub", is_reversed=True), [127, -57, 0, 1]),
        (_operation("mul", is_ofm_scale_global=True, ofm_scale=Scale(1 << 30, 36)), [-78, 3, 0, 127]),
        (_operation("add", ifm2=_map(0, storage="scalar", scalar=7, zero_point=2)), [-95, 2, 5, 105]),
        (_operation("add", ifm2=_map(4, broadcast=(False, False, True))), [-50, 47, 50, 127]),
        (_operation("abs", is_ofm_scale_global=True, ofm_scale=Scale(1 << 30, 31)), [50, 2, 0, 50]),
        (_operation("lrelu", is_ofm_scale_global=True, ofm_scale=Scale(1 << 30, 32)), [-25, -1, 0, 100]),
        (_operation("clz"), [0, 0, 32, 25]),
        (_operation("max", ofm=_map(8, zero_point=-10)), [40, -13, -10, 91]),
        # A sum in units of 2**-20: the first operand shifted by 19, the second times a quarter.
        (_operation("add", is_ofm_scale_global=True, scaled_operand="b", ifm_scale=Scale(1 << 30, 12),
                    ofm_scale=Scale(1 << 30, 50)), [-38, -17, 0, 75]),
        (_operation("add", is_ofm_scale_global=True, scaled_operand="a", ifm_scale=Scale(1 << 30, 12),
                    ofm_scale=Scale(1 << 30, 50)), [0, -31, 0, 76]),
        (_operation("sub", is_ofm_scale_global=True, ifm_scale=Scale(3, 0), ifm2_scale=Scale(2, 0),
                    ofm_scale=Scale(1 << 30, 32)), [-100, 28, 0, 25]),
    ],
)  # fmt: skip
def test_elementwise(operation: Compute, expected: list[int]) -> None:
    assert _run(operation, content=[*X, *Y]) == expected


def test_two_operands_of_32_bits_ignore_the_multiplier() -> None:
    wide = {"ifm": _map(0, 1, 4), "ifm2": _map(4, 1, 4), "ofm": _map(8, 1, 4, zero_point=99)}
    content = numpy.array([1 << 30, -(1 << 30)], numpy.int32).view(numpy.int8).tolist()
    operation = _operation("mul", is_ofm_scale_global=True, ofm_scale=Scale(1 << 30, 31), **wide)
    assert _run(operation, content=content) == [0, 0, 0, -32]
    with pytest.raises(SimulatorError, match="scaled sum of 32-bit operands at 0x40"):
        _run(_operation("add", is_ofm_scale_global=True, ofm_scale=Scale(3, 1), **wide), content=content)


def test_pads_of_a_pool_never_win_and_do_not_count() -> None:
    one = {"kernel": Kernel((1, 2), (1, 1), (1, 1), False), "padding": Padding(0, 1, 0, 0), "ifm2": None}
    assert _run(_operation("max", "pool", **one), content=X) == X
    assert _run(_operation("average", "pool", **one), content=X) == X
    with pytest.raises(SimulatorError, match="median at 0x40"):
        _run(_operation("median", "pool", **one), content=X)


@pytest.mark.parametrize(("config", "start"), [(U55, 22 << 10), (U65, 46 << 10)])
def test_tables_are_at_the_end_of_the_shared_ram_of_a_core(config: Config, start: int) -> None:
    table = numpy.arange(256).astype(numpy.int8)[::-1]
    activation = Activation("table", -128, 127, 1, 256, "s8>s8")
    region = numpy.zeros(512, numpy.int8)
    region[:4], region[256:] = X, table
    Machine(config, Memory({1: region.view(numpy.uint8)})).run(
        [
            Transfer(0, 1, 256, 0, start + 256, 256, to_table=True),
            Wait(8, "dma", 0),
            _operation("max", ifm2=_map(0), activation=activation),
            Stop(16),
            _operation("min", ofm=_map(8, zero_point=5)),
        ]
    )
    assert region[8:12].tolist() == [table[each + 128] for each in X]


def test_watching() -> None:
    seen: list[str] = []
    memory = Memory({1: numpy.zeros(64, numpy.uint8)})
    Machine(U55, memory).run(
        [_operation("min"), Wait(0, "kernel", 0), _operation("max")], lambda one: seen.append(one.mode)
    )
    assert seen == ["min", "max"]


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (_operation("xor"), "xor at 0x40"),
        (_operation("add", ifm2=None), "no second operand"),
        (_operation("", "resize"), "resize at 0x40"),
        (_operation("", "conv", is_ofm_scale_global=True), "conv at 0x40 with a global scale"),
        (_operation("min", accumulator="fp16"), "fp16 accumulators at 0x40"),
        (_operation("min", ofm=_map(62)), "region 1"),
        (_operation("min", ofm=_map(16, 4, 4), activation=Activation("tanh", 0, 0)), "tanh of int32 at 0x40"),
        (_operation("min", ofm=_map(8, 3)), "operands of"),
        (_operation("add", ofm_rounding=Rounding.DOUBLE_ASYMMETRIC, ofm_scale=Scale(3, 1), is_ofm_scale_global=True),
         "double asymmetric"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_an_error(operation: Compute, message: str) -> None:
    with pytest.raises(SimulatorError, match=message):
        _run(operation, content=[*X, *Y])

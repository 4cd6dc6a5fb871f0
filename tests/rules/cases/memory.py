"""Small models for the rules about memory."""

from pathlib import Path

from mlia.graph.tflite_writer import write_tflite
from mlia.testing import IntegerSketch
from tests.rules.example import Example

LIMITED = str(Path(__file__).parent / "limited_sram.toml")  # 64 KiB
SRAM_ONLY = str(Path(__file__).parent / "sram_only.toml")
U55, U85 = "ethos-u55-256", "ethos-u85-256"


def convolutions(size: int, channels: int, depth: int = 3) -> bytes:
    """Feature maps of one size, between a small input and a small output."""
    net = IntegerSketch("even")
    x = net.image("x", (1, size, size, 1))
    for number in range(depth):
        x = net.filter("CONV_2D", x, filters=channels, name=f"conv_{number}")
    x = net.filter("CONV_2D", x, filters=channels, stride=(3, 3), name="last")
    return write_tflite(net.graph([x]))


def large_maps() -> bytes:
    return convolutions(120, 16)


def small_maps() -> bytes:
    return convolutions(36, 8)


def one_large_map() -> bytes:
    """The first operator makes more than all others need."""
    net = IntegerSketch("early")
    x = net.image("x", (1, 96, 96, 1))
    x = net.filter("CONV_2D", x, filters=32, kernel=(9, 9), stride=(2, 2), name="first")
    for number in range(5):
        stride = (2, 2) if number < 3 else (1, 1)
        x = net.filter("CONV_2D", x, filters=16, kernel=(5, 5), stride=stride, name=f"conv_{number}")
    return write_tflite(net.graph([x]))


def many_weights() -> bytes:
    net = IntegerSketch("dense")
    x = net.image("x", (1, 512))
    for number in range(2):
        x = net.dense(x, 512, name=f"dense_{number}")
    return write_tflite(net.graph([x]))


def kept_outputs() -> bytes:
    """Two outputs of 74 KiB together wait to the end."""
    net = IntegerSketch("outputs")
    x = net.image("x", (1, 48, 48, 1))
    first = net.filter("CONV_2D", x, filters=16, name="first")
    last = net.filter("CONV_2D", net.filter("CONV_2D", first, filters=17, name="middle"), filters=17, name="last")
    return write_tflite(net.graph([first, last]))


EXAMPLES = (
    Example("MEM001", "more than 64 KiB", LIMITED, large_maps, fires=True),
    Example("MEM001", "less than 64 KiB", LIMITED, small_maps, fires=False),
    Example("MEM001", "no limit known", U55, large_maps, fires=False),
    Example("MEM002", "large maps", U55, large_maps, fires=True),
    Example("MEM002", "small maps", U55, small_maps, fires=False),
    Example("MEM003", "a large map in front", U55, one_large_map, fires=True),
    Example("MEM003", "maps of one size", U55, large_maps, fires=False),
    Example("MEM004", "many weights in flash", U55, many_weights, fires=True),
    Example("MEM004", "many weights in DRAM", U85, many_weights, fires=True),
    Example("MEM004", "many weights in SRAM", SRAM_ONLY, many_weights, fires=False),
    Example("MEM004", "few weights", U55, small_maps, fires=False),
    Example("MEM005", "weights in SRAM", SRAM_ONLY, many_weights, fires=True),
    Example("MEM005", "weights in flash", U55, many_weights, fires=False),
)

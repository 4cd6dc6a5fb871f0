"""What Vela itself says of the streams it writes: its verbose disassembly, from a child process."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from msgspec import Struct

from mlia.backends.vela import process as vela_process
from mlia.graph.tflite import read_tflite
from mlia.simulator.commands import Command
from mlia.simulator.container import Program, read_program
from mlia.targets.profiles import load_target
from mlia.targets.target import Target

# The child: settings and where the compiled model goes come from its arguments, the model from its stdin.
_CHILD = """
import json, sys
from ethosu import regor
settings, path = json.loads(sys.argv[1]), sys.argv[2]
options = settings["options"].replace("[compiler]", "[compiler]\\nverbose_register_command_stream=true", 1)
compiled = regor.compile(settings["architecture"], sys.stdin.buffer.read(), "TFLITE", settings["system_config"],
                         options=options, verbose=True)
with open(path, "wb") as file:
    file.write(bytes(compiled.model))
"""
_LINE = re.compile(r"^0x([0-9a-f]+): (.{8}) ([0-9a-f]{4}) ([0-9a-f]{4}) - (\S+)\s+(-?\d+)(?:, (.*))?$")
# Where we have a plainer name.
_RENAMED = {"addr": ("address", "length", "stride")}


class Line(Struct, frozen=True):
    """One command, as Vela prints it."""

    offset: int
    payload: int | None
    opcode: int
    parameter: int
    name: str
    fields: tuple[tuple[str, str], ...]


class Note(Struct, frozen=True):
    """What Vela says in words of one operation on an input: (height, width), empty where it does not say it.

    `padding` is top, left, bottom, right of all of it, also where the operation is only a part.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    block: tuple[int, ...]
    unit: tuple[int, ...]  # micro-blocks are of Ethos-U85
    is_part_kernel: bool


class Disassembly(Struct, frozen=True):
    """The NPU's programs in a compiled model; Vela's lines for all of them, and its notes on computations."""

    programs: list[Program]
    lines: list[Line]
    notes: list[Note]


def disassemble(content: bytes, target_name: str) -> Disassembly:
    """Compile a TFLite file for a target, and let Vela say what it wrote."""
    target = load_target(target_name)
    assert isinstance(target, Target)
    settings = json.dumps(json.loads(vela_process._settings(target)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compiled.tflite"
        command = [sys.executable, "-c", _CHILD, settings, str(path)]
        output = subprocess.run(command, input=content, capture_output=True, check=True).stdout
        programs = programs_of(path.read_bytes())
    said = output.decode().splitlines()
    lines = [_line(line) for line in said if line.startswith("0x")]
    return Disassembly(programs, lines, [_note(line) for line in said if line.startswith("//") and "OFM Block" in line])


def programs_of(compiled: bytes) -> list[Program]:
    """The programs of a compiled model, in the order of its operators."""
    return [
        read_program(subgraph.tensors[operator.inputs[0]].data)
        for subgraph in read_tflite(compiled).subgraphs
        for operator in subgraph.operators
        if operator.custom_code == "ethos-u"
    ]


def difference(command: Command, line: Line) -> str:
    """How our reading of a command differs from Vela's; nothing where it does not."""
    ours = (command.name, command.opcode, command.parameter, command.payload)
    if ours != (line.name, line.opcode, line.parameter, line.payload):
        return f"{ours} is not {line}"
    if len(command.fields) != len(line.fields):
        return f"{dict(command.fields)} is not {line.fields}"
    for (name, value), (their_name, their_value) in zip(command.fields.items(), line.fields, strict=True):
        if name != their_name and name not in _RENAMED.get(their_name, ()):
            return f"{line.name}: {name} is not {their_name}"
        if not _is_same(value, their_value):
            return f"{line.name}: {name} is {value}, not {their_value}"
    return ""


def _is_same(ours: int | str, theirs: str) -> bool:
    """Vela prefixes values with their kind, and prints negative numbers without a sign: of 32 bits one too low."""
    if isinstance(ours, str):
        return re.search(f"(^|_){ours.upper()}$", theirs) is not None
    number = int(theirs, 0)
    return ours == number or (ours < 0 and number in (ours + (1 << 16), ours + (1 << 32) - 1, ours + (1 << 40)))


def _note(text: str) -> Note:
    def numbers(pattern: str) -> tuple[int, ...]:
        found = re.search(pattern, text)
        return tuple(map(int, re.findall(r"-?\d+", found[1]))) if found else ()

    return Note(
        numbers(r"size=(\d+,\d+)")[::-1],
        numbers(r"stride=(\d+,\d+)")[::-1],
        numbers(r"dilation=(\d+,\d+)")[::-1],
        tuple(numbers(rf"padding=.*?{side}:(-?\d+)")[0] for side in "tlbr") if "padding" in text else (),
        numbers(r"OFM Block=\[(.*?)\]")[-3:],
        numbers(r"OFM UBlock=\[(.*?)\]"),
        "PartKernel" in text,
    )


def _line(text: str) -> Line:
    found = _LINE.match(text)
    assert found, text
    offset, payload, parameter, opcode, name, _, fields = found.groups()
    pairs = [field.split(" = ") for field in (fields or "").split(", ") if field]
    return Line(
        int(offset, 16),
        int(payload, 16) if payload.strip() else None,
        int(opcode, 16),
        int(parameter, 16),
        name,
        tuple((key, value) for key, value in pairs),
    )

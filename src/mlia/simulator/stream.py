"""One command stream of a compiled model, decoded."""

from msgspec import Struct

from mlia.simulator.container import Program, read_program
from mlia.simulator.decode import operations
from mlia.simulator.operation import Operation


class Stream(Struct, frozen=True):
    """A command stream: its number among those of the model, its commands, and what they do."""

    number: int
    program: Program
    operations: tuple[Operation, ...]


def read_stream(number: int, payload: bytes) -> Stream:
    """The stream in a driver payload.

    Raises:
        SimulatorError: it has what is not known.
    """
    program = read_program(payload)
    return Stream(number, program, tuple(operations(program)))

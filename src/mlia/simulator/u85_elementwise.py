"""Elementwise operations of Ethos-U85. Each operand has a scale of its own; what is then computed gets the OFM's.

Modes, and which scale each uses, are those of the streams that Vela writes for the single-operator models.
"""

from collections.abc import Callable

import numpy
from msgspec.structs import replace

from mlia.errors import SimulatorError
from mlia.simulator.arithmetic import Integers, shifted_natural
from mlia.simulator.operation import Compute, Rounding
from mlia.simulator.u85_output import scaled

UNARY = ("abs", "lrelu", "clz", "not")
_WORD = 32  # bits of the operands of shifts and CLZ


def elementwise(operation: Compute, a: Integers, b: Integers | None) -> tuple[Integers, Compute]:
    """The accumulators of an elementwise operation on operands without zero points, and what scales them.

    The operation that comes back differs from the given one only where the OFM's scale is not used as it is.

    Raises:
        SimulatorError: a mode that is not known, or one whose result is not.
    """
    if operation.mode in UNARY:
        return _unary(operation, a), operation
    if b is None or operation.ifm2 is None:
        raise SimulatorError(f"elementwise {operation.mode} at {operation.offset:#x} needs a second operand")
    if operation.ifm_scale is not None:
        a = scaled(a, operation.ifm_scale)
    if operation.ifm2_scale is not None:
        b = scaled(b, operation.ifm2_scale)
    if operation.is_reversed:
        a, b = b, a
    if operation.mode == "shr":
        return _shifted_right(operation, a, b), operation
    if operation.mode == "div":
        return _quotient(operation, a, b), operation
    if operation.mode not in _BINARY:
        raise SimulatorError(f"elementwise mode {operation.mode} at {operation.offset:#x} is not known")
    result = _BINARY[operation.mode](a, b)
    if operation.mode == "mul" and operation.ifm.element_bytes == operation.ifm2.element_bytes == 4:
        # INFERRED: of a product of 32-bit numbers only the shift counts. One of them is the multiplier already, and
        # Vela leaves a stale or an equivalent one in the register (softmax, MEAN, SQUARED_DIFFERENCE agree).
        return result, replace(operation, ofm_scale=replace(operation.ofm_scale, multiplier=1))
    return result, operation


def _unary(operation: Compute, a: Integers) -> Integers:
    """ABS and LRELU scale their operand; LRELU has the second operand's scale for what is negative."""
    if operation.mode == "clz":
        return _leading_zeros(a)
    if operation.mode == "not":
        return ~a
    if operation.ifm_scale is None:
        raise SimulatorError(f"elementwise {operation.mode} at {operation.offset:#x} needs a scale of its operand")
    if operation.mode == "abs":
        return numpy.abs(scaled(a, operation.ifm_scale))
    if operation.ifm2_scale is None:
        raise SimulatorError(f"elementwise lrelu at {operation.offset:#x} needs a scale of what is negative")
    return numpy.where(a >= 0, scaled(a, operation.ifm_scale), scaled(a, operation.ifm2_scale))


def _leading_zeros(a: Integers) -> Integers:
    """Zero bits above the highest set bit of 32-bit numbers; 32 for 0, and 0 for what is negative."""
    # frexp's exponent is the length in bits, and exact for integers below 2**53.
    length = numpy.frexp((a & ((1 << _WORD) - 1)).astype(numpy.float64))[1].astype(numpy.int64)
    return _WORD - length


def _shifted_left(a: Integers, b: Integers) -> Integers:
    """32-bit results; what is shifted out is lost (INFERRED: no stream of the tests loses anything)."""
    return (a << numpy.clip(b, 0, _WORD)).astype(numpy.int32).astype(numpy.int64)


def _shifted_right(operation: Compute, a: Integers, b: Integers) -> Integers:
    """Rounded as the OFM's scale says, which is otherwise 1 (softmax agrees)."""
    steps = numpy.clip(b, 0, _WORD)
    if operation.ofm_scale.rounding == Rounding.NATURAL:
        return shifted_natural(a, steps)
    if operation.ofm_scale.rounding == Rounding.TO_LOWER:
        return a >> steps
    raise SimulatorError(f"a right shift with {operation.ofm_scale.rounding} rounding is not known")


def _quotient(operation: Compute, a: Integers, b: Integers) -> Integers:
    """Rounded towards zero (agrees with LiteRT's int32 DIV).

    Raises:
        SimulatorError: a division by zero, whose result is not known.
    """
    if not b.all():
        raise SimulatorError(f"what a division by zero gives is not known (DIV at {operation.offset:#x})")
    sizes = numpy.abs(a) // numpy.abs(b)
    return numpy.where((a < 0) != (b < 0), -sizes, sizes)


def _mask(is_true: numpy.typing.NDArray[numpy.bool_]) -> Integers:
    """All bits set where a comparison holds: what Vela's SELECT masks with."""
    return -is_true.astype(numpy.int64)


_BINARY: dict[str, Callable[[Integers, Integers], Integers]] = {
    "add": numpy.add,
    "sub": numpy.subtract,
    "mul": numpy.multiply,
    "min": numpy.minimum,
    "max": numpy.maximum,
    "shl": _shifted_left,
    "and": numpy.bitwise_and,
    "or": numpy.bitwise_or,
    "and_not": lambda a, b: a & ~b,
    "cmp_eq": lambda a, b: _mask(a == b),
    "cmp_ne": lambda a, b: _mask(a != b),
    "cmp_ge": lambda a, b: _mask(a >= b),
    "cmp_gt": lambda a, b: _mask(a > b),
}

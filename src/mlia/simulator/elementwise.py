"""Elementwise operations of Ethos-U55 and U65: results as they leave the output unit's scaling.

Facts are from Vela's scaling and softmax graphs; INFERRED ones make all streams agree with LiteRT's reference.
"""

import numpy
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator import arithmetic
from mlia.simulator.operation import Compute, Scale

Integers = NDArray[numpy.int64]

UNARY = ("abs", "clz", "lrelu")
_LEFT_SHIFT = {1: 20, 2: 15}  # of operands whose scales differ, by their bytes


def unary(operation: Compute, values: Integers) -> Integers:
    """ABS, CLZ or LRELU of an operand without its zero point, scaled.

    Raises:
        SimulatorError: a mode that is not known.
    """
    scale = _output_scale(operation)
    if operation.mode == "abs":
        return arithmetic.scaled_by(numpy.abs(values), scale.multiplier, scale.shift, operation.ofm_rounding)
    if operation.mode == "lrelu":
        negative = arithmetic.scaled_by(values, scale.multiplier, scale.shift, operation.ofm_rounding)
        return numpy.where(values < 0, negative, values)
    if operation.mode == "clz":
        return leading_zeros(values)
    raise SimulatorError(f"the elementwise operation {operation.mode} at {operation.offset:#x} is not known")


def binary(operation: Compute, a: Integers, b: Integers) -> Integers:
    """A result of two operands without their zero points, `a` the first after a reversal of operands, scaled.

    Raises:
        SimulatorError: a mode that is not known.
    """
    mode, rounding = operation.mode, operation.ofm_rounding
    if mode in ("add", "sub"):
        return _sum(operation, a, b)
    if mode == "mul":
        scale = _output_scale(operation)
        if _is_wide(operation):
            # INFERRED: 32-bit operands ignore the multiplier, so that a shift of 31 is gemmlowp's high multiply.
            return arithmetic.scaled_by(a * b, 1, scale.shift, rounding)
        return arithmetic.scaled_by(a * b, scale.multiplier, scale.shift, rounding)
    if mode == "min":
        return numpy.minimum(a, b)
    if mode == "max":
        return numpy.maximum(a, b)
    if mode == "shr":
        return arithmetic.scaled_by(a, 1, b, rounding)
    if mode == "shl":
        return arithmetic.wrapped_to_32_bits(a << b)
    raise SimulatorError(f"the elementwise operation {mode} at {operation.offset:#x} is not known")


def leading_zeros(values: Integers) -> Integers:
    """How many zeros a 32-bit number begins with: none of a negative one, 32 of zero (the latter is INFERRED)."""
    unsigned = values & 0xFFFFFFFF
    # The exponent of a float64 is exact for integers of up to 53 bits.
    _, bits = numpy.frexp(unsigned.astype(numpy.float64))
    return 32 - bits.astype(numpy.int64)


def _sum(operation: Compute, a: Integers, b: Integers) -> Integers:
    """A sum or difference. 32-bit operands are not scaled before; others each by 16 bits, or one of them by 32."""
    scale, rounding = _output_scale(operation), operation.ofm_rounding
    if _is_wide(operation):
        if scale.multiplier != 1:
            raise SimulatorError(f"a scaled sum of 32-bit operands at {operation.offset:#x} is not known")
        return arithmetic.scaled_by(a + b if operation.mode == "add" else a - b, 1, scale.shift, rounding)
    first, second = operation.ifm_scale or Scale(1, 0), operation.ifm2_scale or Scale(1, 0)
    if operation.scaled_operand == "a":
        a, b = _scaled_operand(operation, a, first), _unscaled_operand(operation, b)
    elif operation.scaled_operand == "b":
        a, b = _unscaled_operand(operation, a), _scaled_operand(operation, b, first)
    else:
        a, b = a * first.multiplier, b * second.multiplier
    total = a + b if operation.mode == "add" else a - b
    return arithmetic.scaled_by(total, scale.multiplier, scale.shift, rounding)


def _scaled_operand(operation: Compute, values: Integers, scale: Scale) -> Integers:
    left = _LEFT_SHIFT[operation.ifm.element_bytes]
    return arithmetic.double_rounded(values << left, scale.multiplier, scale.shift + left)


def _unscaled_operand(operation: Compute, values: Integers) -> Integers:
    """The other operand: only as far to the left as the one that is scaled, whose scale is at most a half."""
    return values << (_LEFT_SHIFT[operation.ifm.element_bytes] - 1)


def _is_wide(operation: Compute) -> bool:
    """Whether an operand has 32 bits."""
    return 4 in (operation.ifm.element_bytes, operation.ifm2.element_bytes if operation.ifm2 else 0)


def _output_scale(operation: Compute) -> Scale:
    """OFM_SCALE, where the operation uses it."""
    return operation.ofm_scale if operation.is_ofm_scale_global else Scale(1, 0)

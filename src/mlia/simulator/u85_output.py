"""Where operations of Ethos-U85 get their operands, and what becomes of their accumulators.

An operation may keep its result in a chaining buffer instead of memory; a later one then names that buffer as the
region of its input. A chained result is what memory would have got (agrees with LiteRT's reference for all streams of
the single-operator models).
"""

import numpy
from msgspec.structs import replace

from mlia.errors import SimulatorError
from mlia.simulator.activation import activated
from mlia.simulator.arithmetic import Factor, Integers, natural, scaled_by, shifted_symmetric
from mlia.simulator.feature_maps import element_type, read, write
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, FeatureMap, Rounding, Scale

Chains = dict[int, Integers]  # what chaining buffers hold, by their number: (height, width, channels)

_AXES = {axis: index for index, axis in enumerate("hwc")}
_FIRST_SHIFT = 31  # of a product that is rounded twice, where no double_shift says less


def operand(feature_map: FeatureMap, memory: Memory, chains: Chains) -> Integers:
    """An input (height, width, channels) without its zero point; 1 along an axis that is broadcast.

    Raises:
        SimulatorError: a chaining buffer that holds nothing, or something of another shape.
    """
    if feature_map.storage != "chained":
        return read(memory, feature_map) - feature_map.zero_point
    values = chains.get(feature_map.region)
    if values is None:
        raise SimulatorError(f"an input is in chaining buffer {feature_map.region}, which holds nothing")
    if values.shape != (feature_map.height, feature_map.width, feature_map.depth):
        raise SimulatorError(f"chaining buffer {feature_map.region} holds a result of another shape, {values.shape}")
    return values - feature_map.zero_point


def scaled_twice(values: Integers, multiplier: Factor, shift: Factor, double_shift: int = 0) -> Integers:
    """`values` * multiplier / 2 ** shift: half up after 31 - double_shift bits, ties away from zero after the rest.

    That is gemmlowp's doubling high multiply of `values` << double_shift, then its rounding shift (Vela sets 20 or 15
    for the operands of an addition, which TensorFlow Lite shifts left by as much; agrees with LiteRT's reference).
    """
    first = numpy.minimum(shift, _FIRST_SHIFT - double_shift)
    return shifted_symmetric(natural(values, multiplier, first), numpy.asarray(shift) - first)


def scaled(values: Integers, scale: Scale) -> Integers:
    """`values` times a scale that is the same everywhere."""
    if (scale.multiplier, scale.shift) == (1, 0):
        return values
    return _scaled_by(values, scale.multiplier, scale.shift, scale)


def output(
    operation: Compute, accumulators: Integers, memory: Memory, scale: tuple[Factor, Factor] | None = None
) -> Integers:
    """The result (height, width, channels) of accumulators, in the order of axes before any transposition.

    `scale` is (multiplier, shift) per channel; without it, the operation's own is used.

    Raises:
        SimulatorError: an activation or a rounding that is not known.
    """
    if scale is None:
        values = scaled(accumulators, operation.ofm_scale)
    else:
        values = _scaled_by(accumulators, *scale, operation.ofm_scale)
    ofm, activation = operation.ofm, operation.activation
    if activation.function in ("tanh", "sigmoid") and (ofm.element_bytes != 2 or not ofm.is_signed or ofm.zero_point):
        raise SimulatorError(f"{activation.function} of other than int16 with zero point 0 is not known")
    # Unlike on Ethos-U55, an int32 output has a zero point and a clip too: softmax's table of int32 needs them.
    values = activated(values + ofm.zero_point, activation, memory.tables)
    # What is not clipped keeps its low bits.
    return values.astype(element_type(ofm)).astype(numpy.int64)


def store(operation: Compute, values: Integers, memory: Memory, chains: Chains) -> None:
    """Put a result where the output feature map says.

    Raises:
        SimulatorError: an order of axes that is not known.
    """
    ofm, order = operation.ofm, operation.ofm_transpose
    if sorted(order) != sorted(_AXES):
        raise SimulatorError(f"the order {order} of an output's axes is not known")
    if operation.ofm_reverse != "none":
        if order != "hwc":
            raise SimulatorError("an output that is both transposed and reversed is not known")
        values = numpy.flip(values, _AXES[operation.ofm_reverse])
    values = values.transpose([_AXES[axis] for axis in order])
    if ofm.storage == "chained":
        chains[ofm.region] = values
        return
    height, width, depth = values.shape
    write(memory, replace(ofm, height=height, width=width, depth=depth), values)


def _scaled_by(values: Integers, multiplier: Factor, shift: Factor, scale: Scale) -> Integers:
    if scale.rounding == Rounding.DOUBLE:
        return scaled_twice(values, multiplier, shift, scale.double_shift)
    return scaled_by(values, multiplier, shift, scale.rounding)

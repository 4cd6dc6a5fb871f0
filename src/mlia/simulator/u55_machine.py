"""Runs operations of Ethos-U55 and U65 one after the other, as their stream orders them."""

from typing import Any

import numpy
from msgspec.structs import replace
from numpy.typing import NDArray

from mlia.errors import SimulatorError
from mlia.simulator import elementwise, pooling
from mlia.simulator.activation import activated
from mlia.simulator.arithmetic import Integers, scaled_by
from mlia.simulator.container import Config
from mlia.simulator.convolution import convolution, covered, depthwise
from mlia.simulator.feature_maps import padded, read, read_elements, upscaled, write
from mlia.simulator.memory import TABLE_BYTES, Memory
from mlia.simulator.operation import Compute, FeatureMap, Transfer
from mlia.simulator.scales import decode_scales
from mlia.simulator.weights import decode_weights

_FILTERS = {"conv": convolution, "depthwise": depthwise}
_NEVER_WINS = numpy.iinfo(numpy.int32).min  # what surrounds the input of a MAX pool


class U55:
    """An Ethos-U55 or U65 and its memory."""

    def __init__(self, config: Config, memory: Memory) -> None:
        self._config = config
        self._memory = memory
        # Tables are at the end of the shared RAM of each core (Vela's architecture features).
        self._tables = 1024 * config.shram_kib // config.cores - TABLE_BYTES

    def transfer(self, operation: Transfer) -> None:
        """Copy what a DMA command names.

        Raises:
            SimulatorError: bytes outside their region.
        """
        if operation.to_table:
            operation = replace(operation, destination=operation.destination - self._tables)
        self._memory.transfer(operation)

    def compute(self, operation: Compute) -> None:
        """Read operands, compute, and store the result.

        Raises:
            SimulatorError: what is not known, or bytes outside their region.
        """
        if operation.accumulator not in ("int32", "int40"):
            raise SimulatorError(f"{operation.accumulator} accumulators at {operation.offset:#x} are not known")
        if operation.kind in _FILTERS:
            values = self._filtered(operation)
        elif operation.kind == "pool":
            values = self._pooled(operation)
        elif operation.kind == "elementwise":
            values = self._elementwise(operation)
        else:
            raise SimulatorError(f"the operation {operation.kind} at {operation.offset:#x} is not known")
        self._store(operation, values)

    def _filtered(self, operation: Compute) -> Integers:
        """CONV or DEPTHWISE: sums, bias and the scale of each channel."""
        if operation.is_ofm_scale_global:
            raise SimulatorError(f"a {operation.kind} at {operation.offset:#x} with a global scale is not known")
        weights = decode_weights(operation, self._memory.read, self._config)
        scales = decode_scales(operation, self._memory.read, self._config)
        sums = _FILTERS[operation.kind](self._input(operation, 0), weights, operation.kernel)
        sums += scales.bias
        return scaled_by(sums, scales.multiplier, scales.shift, operation.ofm_rounding)

    def _pooled(self, operation: Compute) -> Integers:
        """POOL, scaled where the stream says so."""
        kernel, mode = operation.kernel, operation.mode
        if mode == "max":
            values = pooling.largest(self._input(operation, _NEVER_WINS), kernel)
        elif mode == "average":
            values = pooling.summed(self._input(operation, 0), kernel)
            if operation.padding.is_any or not operation.is_ofm_scale_global:
                return pooling.averaged(values, kernel, operation.padding)
        elif mode == "reduce_sum":
            values = pooling.summed_over_channels(self._input(operation, 0))
        else:
            raise SimulatorError(f"the pool {mode} at {operation.offset:#x} is not known")
        if not operation.is_ofm_scale_global:
            return values
        scale = operation.ofm_scale
        return scaled_by(values, scale.multiplier, scale.shift, operation.ofm_rounding)

    def _elementwise(self, operation: Compute) -> Integers:
        """ELEMENTWISE of one or two operands."""
        first = self._operand(operation.ifm)
        if operation.mode in elementwise.UNARY:
            return elementwise.unary(operation, first)
        if operation.ifm2 is None:
            raise SimulatorError(f"the {operation.mode} at {operation.offset:#x} has no second operand")
        second = self._operand(operation.ifm2)
        shape = (operation.ofm.height, operation.ofm.width, operation.ofm.depth)
        if any(
            size not in (1, whole) for each in (first, second) for size, whole in zip(each.shape, shape, strict=True)
        ):
            sizes = f"{first.shape} and {second.shape} for an output of {shape}"
            raise SimulatorError(f"the {operation.mode} at {operation.offset:#x} has operands of {sizes}")
        values = elementwise.binary(operation, *((second, first) if operation.is_reversed else (first, second)))
        return numpy.broadcast_to(values, shape)

    def _operand(self, feature_map: FeatureMap) -> Integers:
        return read(self._memory, feature_map) - feature_map.zero_point

    def _input(self, operation: Compute, fill: int) -> NDArray[Any]:
        """What the windows of a kernel slide over: zero point removed, upscaled, and padded with `fill`."""
        ifm = operation.ifm
        values = read_elements(self._memory, ifm, numpy.int32 if ifm.element_bytes < 4 else numpy.int64)
        values = upscaled(values - ifm.zero_point, operation.upscale)
        size = covered(operation.kernel, operation.ofm.height, operation.ofm.width)
        return padded(values, operation.padding, size, fill)

    def _store(self, operation: Compute, values: Integers) -> None:
        """Zero point, activation, memory.

        INFERRED: an int32 output without a forced range has neither zero point nor clipping; streams carry stale ones.
        """
        ofm, activation = operation.ofm, operation.activation
        if ofm.element_bytes < 4 or activation.forced_range:
            values = activated(values + ofm.zero_point, activation, self._memory.tables)
        elif activation.function != "none":
            raise SimulatorError(f"{activation.function} of int32 at {operation.offset:#x} is not known")
        write(self._memory, ofm, values)

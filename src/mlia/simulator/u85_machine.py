"""Runs operations of Ethos-U85 one after the other, as their stream orders them."""

import numpy
from msgspec.structs import replace

from mlia.errors import SimulatorError
from mlia.simulator.arithmetic import Factor, Integers
from mlia.simulator.container import Config
from mlia.simulator.convolution import convolution, covered, depthwise
from mlia.simulator.feature_maps import padded
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, Transfer
from mlia.simulator.scales import Scales, decode_scales
from mlia.simulator.u85_elementwise import elementwise
from mlia.simulator.u85_output import Chains, operand, output, store
from mlia.simulator.u85_pooling import pooled
from mlia.simulator.u85_resize import resize_input, resized
from mlia.simulator.u85_transfer import indexed_transfer
from mlia.simulator.weights import decode_weights


class U85:
    """An Ethos-U85: its memory, and what its chaining buffers hold."""

    def __init__(self, config: Config, memory: Memory) -> None:
        self._config = config
        self._memory = memory
        self._chains: Chains = {}

    def transfer(self, operation: Transfer) -> None:
        """Copy what a DMA command names.

        Raises:
            SimulatorError: a mode that is not known, or bytes outside their region.
        """
        if operation.indexed:
            indexed_transfer(self._memory, operation)
        else:
            self._memory.transfer(operation)

    def compute(self, operation: Compute) -> None:
        """Read operands, compute, and store the result.

        Raises:
            SimulatorError: what is not known, or bytes outside their region.
        """
        if operation.accumulator not in ("int32", "int48"):
            raise SimulatorError(f"{operation.accumulator} accumulators at {operation.offset:#x} are not known")
        if not operation.is_output_enabled:
            raise SimulatorError(f"an operation without an output, at {operation.offset:#x}, is not known")
        if operation.upscale != "none":  # no stream that Vela writes has it
            raise SimulatorError(f"an input upscaled with {operation.upscale}, at {operation.offset:#x}, is not known")
        accumulators, scaling, scale = self._accumulators(operation)
        values = output(scaling, accumulators, self._memory, scale)
        shape = (operation.ofm.height, operation.ofm.width, operation.ofm.depth)
        store(operation, numpy.broadcast_to(values, shape), self._memory, self._chains)

    def _accumulators(self, operation: Compute) -> tuple[Integers, Compute, tuple[Factor, Factor] | None]:
        """What the output unit gets, the operation with the scale that it uses, and a scale per channel or nothing."""
        if operation.accumulator_source != "reset":
            return self._given(operation), operation, None
        if operation.kind == "elementwise":
            return self._elementwise(operation)
        feature_map = resize_input(operation.ifm) if operation.kind == "resize" else operation.ifm
        values = operand(feature_map, self._memory, self._chains)
        if operation.kind == "resize":
            return resized(operation, values), operation, None
        if operation.kind == "pool":
            return pooled(operation, values), operation, None
        size = covered(operation.kernel, operation.ofm.height, operation.ofm.width)
        values = padded(values, operation.padding, size)
        if operation.is_matmul:
            return self._products(operation, values), operation, None
        return self._convolution(operation, values)

    def _given(self, operation: Compute) -> Integers:
        """Accumulators that are not computed: a pool of nothing, whose accumulators begin with the second operand."""
        if (operation.kind, operation.mode, operation.accumulator_source) != ("pool", "none", "ifm2"):
            source = f"{operation.kind} {operation.mode} with accumulators from {operation.accumulator_source}"
            raise SimulatorError(f"{source}, at {operation.offset:#x}, is not known")
        ofm, ifm2 = operation.ofm, operation.ifm2
        if ifm2 is None:
            raise SimulatorError(f"the pool at {operation.offset:#x} has no second operand")
        ifm2 = replace(ifm2, height=ofm.height, width=ofm.width, depth=ofm.depth)
        return operand(ifm2, self._memory, self._chains)

    def _elementwise(self, operation: Compute) -> tuple[Integers, Compute, None]:
        a = operand(operation.ifm, self._memory, self._chains)
        b = None if operation.ifm2 is None else operand(operation.ifm2, self._memory, self._chains)
        accumulators, scaling = elementwise(operation, a, b)
        return accumulators, scaling, None

    def _convolution(
        self, operation: Compute, values: Integers
    ) -> tuple[Integers, Compute, tuple[Factor, Factor] | None]:
        weights = decode_weights(operation, self._memory.read, self._config)
        scales = decode_scales(operation, self._memory.read, self._config)
        if operation.kind == "depthwise":
            sums = depthwise(values, weights, operation.kernel)
        elif operation.kind == "conv":
            sums = convolution(values, weights, operation.kernel)
        else:
            raise SimulatorError(f"{operation.kind} at {operation.offset:#x} is not known")
        return sums + scales.bias, operation, _channel_scale(operation, scales)

    def _products(self, operation: Compute, values: Integers) -> Integers:
        """Products of matrices: each row of the second operand is (filters, channels) for one row of the first."""
        ofm, ifm2 = operation.ofm, operation.ifm2
        if ifm2 is None or operation.kernel.size != (1, 1) or operation.scales:
            raise SimulatorError(f"a matrix product at {operation.offset:#x} is not of two matrices alone")
        second = replace(ifm2, height=ofm.height, width=ofm.depth, depth=operation.ifm.depth)
        matrices = operand(second, self._memory, self._chains)
        rows = [
            convolution(values[row : row + 1], matrix[:, None, None, :], operation.kernel)
            for row, matrix in enumerate(matrices)
        ]
        return numpy.concatenate(rows)


def _channel_scale(operation: Compute, scales: Scales) -> tuple[Factor, Factor] | None:
    """The scale per channel, where the operation does not say that one holds for all."""
    return None if operation.is_ofm_scale_global else (scales.multiplier, scales.shift)

"""Executes operations one after the other, in the order of the stream. Waits and queues change nothing here."""

from collections.abc import Callable, Iterable

from mlia.simulator.container import Config
from mlia.simulator.memory import Memory
from mlia.simulator.operation import Compute, Operation, Stop, Transfer
from mlia.simulator.u55_machine import U55
from mlia.simulator.u85_machine import U85


class Machine:
    """An NPU and the memory it works on. What its look-up memory and buffers hold stays from one run to the next."""

    def __init__(self, config: Config, memory: Memory) -> None:
        self._npu = U85(config, memory) if config.family == "ethos-u85" else U55(config, memory)

    def run(self, operations: Iterable[Operation], watch: Callable[[Compute], None] | None = None) -> None:
        """Execute operations up to the end of the stream; `watch` is told of each Compute that was executed.

        Raises:
            SimulatorError: an operation or mode that is not known, or bytes that are not there.
        """
        for operation in operations:
            if isinstance(operation, Transfer):
                self._npu.transfer(operation)
            elif isinstance(operation, Compute):
                self._npu.compute(operation)
                if watch is not None:
                    watch(operation)
            elif isinstance(operation, Stop):
                break

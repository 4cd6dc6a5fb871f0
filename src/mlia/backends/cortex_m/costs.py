"""How many cycles an operator takes on a core: counts of each kind of work, times what one unit takes there.

The counts follow the loops of the kernel that runs the operator (kernels.py). All of them grow with the operator, and
every unit costs something, so a larger operator is never cheaper. docs/cortex-m.md says where the cycles are from.
"""

import math

from msgspec import Struct

from mlia.backends.cortex_m.kernels import activation, kernel_of, weights
from mlia.backends.cortex_m.work import count_work
from mlia.cpu_results import Kernel
from mlia.graph.graph import Operator, Subgraph
from mlia.targets.cores import Core

# Kernels whose coefficients were fitted to measurements; all others are reasoned from their loops.
FITTED = ("CONV_2D", "DEPTHWISE_CONV_2D")


class CpuCycles(Struct, frozen=True):
    """Estimated cycles of one inference of an operator, and the band in which the true figure is expected."""

    cycles: int
    low: int
    high: int


def cycles_of(operator: Operator, subgraph: Subgraph, core: Core) -> CpuCycles | None:
    """Cycles of one inference; None when TFLite Micro cannot run the operator.

    A reshape costs a copy: TFLite Micro's planner gives its output a place of its own, and the kernel copies unless
    both are the same memory. Operators of subgraphs that an operator calls are counted where they stand.
    """
    kernel = kernel_of(operator, subgraph, core)
    if not kernel.is_supported:
        return None
    work = count_work(operator, subgraph, core)
    cycles = sum(core.cycles[term] * count for term, count in work.items())
    low, high = _band(operator, subgraph, kernel, core)
    return CpuCycles(math.ceil(cycles), math.floor(cycles * low), math.ceil(cycles * high))


def _band(operator: Operator, subgraph: Subgraph, kernel: Kernel, core: Core) -> tuple[float, float]:
    """Factors of the band: narrow for int8 kernels that were fitted, wide for all that was only reasoned."""
    tensor, weight = activation(operator, subgraph), weights(operator, subgraph)
    is_int8 = tensor is not None and weight is not None and tensor.dtype == weight.dtype == "int8"
    if is_int8 and operator.kind in FITTED and kernel.library == "CMSIS-NN":
        return core.fitted_low, core.fitted_high
    return core.prior_low, core.prior_high

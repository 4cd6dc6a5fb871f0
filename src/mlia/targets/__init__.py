"""Where a model runs: NPUs, memories, hosts, and the profiles that describe them.

Called, as mlia.targets(), it lists the targets that are built in.

Returns:
    a tuple of Target and CpuTarget values, NPUs by family and size first, each of which the verbs take; str() says
    what one is.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlia.targets.target import AnyTarget


class _Targets(type(sys)):  # type: ignore[misc]  # the type of modules
    def __call__(self) -> "tuple[AnyTarget, ...]":
        from mlia.targets.profiles import load_target, target_names

        return tuple(map(load_target, target_names()))


sys.modules[__name__].__class__ = _Targets

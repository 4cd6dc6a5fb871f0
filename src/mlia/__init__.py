"""mlia: how a neural network will run on Arm hardware, before you own the hardware."""

TYPE_CHECKING = False  # typing's own would cost the import of typing, in which no interrupt is caught yet
if TYPE_CHECKING:
    from mlia.difference import Difference
    from mlia.errors import (
        BackendError,
        BackendUnavailable,
        MeasurementError,
        MliaError,
        ModelError,
        OutputError,
        ReportError,
        RuleError,
        SimulatorError,
        TargetError,
        TransformError,
    )
    from mlia.graph.formats.torch import read_module
    from mlia.graph.load import load_model
    from mlia.pipeline.calibrating import Refined, calibrate
    from mlia.pipeline.checking import check
    from mlia.pipeline.comparing import compare
    from mlia.pipeline.converting import Converted, convert
    from mlia.pipeline.executing import simulate, verify
    from mlia.pipeline.limits import Limits
    from mlia.pipeline.optimizing import optimize
    from mlia.pipeline.task import Optimized
    from mlia.recipe import Recipe
    from mlia.report import Optimization, Report
    from mlia.targets.profiles import load_target
    from mlia.verification import Verification

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "BackendUnavailable",
    "Converted",
    "Difference",
    "Limits",
    "MeasurementError",
    "MliaError",
    "ModelError",
    "Optimization",
    "Optimized",
    "OutputError",
    "Recipe",
    "Refined",
    "Report",
    "ReportError",
    "RuleError",
    "SimulatorError",
    "TargetError",
    "TransformError",
    "Verification",
    "calibrate",
    "check",
    "compare",
    "convert",
    "load_model",
    "load_target",
    "optimize",
    "read_module",
    "simulate",
    "verify",
]

_HOMES = {
    "calibrate": "mlia.pipeline.calibrating",
    "Refined": "mlia.pipeline.calibrating",
    "check": "mlia.pipeline.checking",
    "compare": "mlia.pipeline.comparing",
    "Difference": "mlia.difference",
    "convert": "mlia.pipeline.converting",
    "Converted": "mlia.pipeline.converting",
    "load_model": "mlia.graph.load",
    "read_module": "mlia.graph.formats.torch",
    "load_target": "mlia.targets.profiles",
    "Report": "mlia.report",
    "optimize": "mlia.pipeline.optimizing",
    "Optimized": "mlia.pipeline.task",
    "Optimization": "mlia.report",
    "Limits": "mlia.pipeline.limits",
    "Recipe": "mlia.recipe",
    "simulate": "mlia.pipeline.executing",
    "verify": "mlia.pipeline.executing",
    "Verification": "mlia.verification",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `mlia --help` stays fast."""
    if name not in __all__:
        raise AttributeError(f"module 'mlia' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "mlia.errors")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

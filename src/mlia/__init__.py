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
    from mlia.pipeline.calibrate.calibrate import Refined, calibrate
    from mlia.pipeline.check.check import check
    from mlia.pipeline.compare.compare import compare
    from mlia.pipeline.convert import Converted, convert
    from mlia.pipeline.optimize.candidates import Optimized
    from mlia.pipeline.optimize.optimize import optimize
    from mlia.pipeline.optimize.search_limits import Limits
    from mlia.pipeline.verify.verify import simulate, verify
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
    "calibrate": "mlia.pipeline.calibrate.calibrate",
    "Refined": "mlia.pipeline.calibrate.calibrate",
    "check": "mlia.pipeline.check.check",
    "compare": "mlia.pipeline.compare.compare",
    "Difference": "mlia.difference",
    "convert": "mlia.pipeline.convert",
    "Converted": "mlia.pipeline.convert",
    "load_model": "mlia.graph.load",
    "read_module": "mlia.graph.formats.torch",
    "load_target": "mlia.targets.profiles",
    "Report": "mlia.report",
    "optimize": "mlia.pipeline.optimize.optimize",
    "Optimized": "mlia.pipeline.optimize.candidates",
    "Optimization": "mlia.report",
    "Limits": "mlia.pipeline.optimize.search_limits",
    "Recipe": "mlia.recipe",
    "simulate": "mlia.pipeline.verify.verify",
    "verify": "mlia.pipeline.verify.verify",
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

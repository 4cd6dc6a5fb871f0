"""How a neural network will run on Arm hardware, before you own the hardware.

Give a model and a target, and get without a board: which operators the NPU takes and why it refuses the others, what
each costs in cycles, time and memory, what to change, and the changed model.

    import mlia

    report = mlia.check("model.tflite", "ethos-u55-256")
    print(report)  # the verdict; report.save("report.html") has everything
    performance = report.targets[0].results[0].performance
    print(performance.latency_ms, performance.sram_bytes, performance.flash_bytes)

Verbs: check, compare, optimize, convert, verify, run, calibrate; mlia.view() reads a saved report. A model is a path
(.tflite, .keras, .h5, SavedModel, .onnx, .pt2, .tosa), the bytes of a .tflite, or a Keras model; read_module() reads a
torch.nn.Module. mlia.targets() lists the targets, mlia.rules() what a check looks for. Every error that a user can
cause is an MliaError.
"""

TYPE_CHECKING = False  # typing's own would cost the import of typing, in which no interrupt is caught yet
if TYPE_CHECKING:
    from mlia import rules, targets
    from mlia.accuracy import AccuracyReport, CalibrateReport
    from mlia.difference import CompareReport
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
    from mlia.pipeline.calibrate.calibrate import CalibratedTarget, calibrate
    from mlia.pipeline.check.check import check
    from mlia.pipeline.compare.compare import compare
    from mlia.pipeline.convert import ConvertedModel, convert
    from mlia.pipeline.optimize.candidates import OptimizedModel
    from mlia.pipeline.optimize.optimize import optimize
    from mlia.pipeline.optimize.search_limits import Limits
    from mlia.pipeline.options import Options, Scope
    from mlia.pipeline.saved import view
    from mlia.pipeline.verify.verify import run, verify
    from mlia.recipe import Recipe
    from mlia.report import CheckReport, ConvertReport, OptimizeReport
    from mlia.targets.profiles import load_target
    from mlia.verification import VerifyReport

__version__ = "0.1.0"
__all__ = [
    "AccuracyReport",
    "BackendError",
    "BackendUnavailable",
    "CalibrateReport",
    "CalibratedTarget",
    "CheckReport",
    "CompareReport",
    "ConvertReport",
    "ConvertedModel",
    "Limits",
    "MeasurementError",
    "MliaError",
    "ModelError",
    "OptimizeReport",
    "OptimizedModel",
    "Options",
    "OutputError",
    "Recipe",
    "ReportError",
    "RuleError",
    "Scope",
    "SimulatorError",
    "TargetError",
    "TransformError",
    "VerifyReport",
    "calibrate",
    "check",
    "compare",
    "convert",
    "load_model",
    "load_target",
    "optimize",
    "read_module",
    "rules",
    "run",
    "targets",
    "verify",
    "view",
]

_HOMES = {
    "calibrate": "mlia.pipeline.calibrate.calibrate",
    "CalibratedTarget": "mlia.pipeline.calibrate.calibrate",
    "check": "mlia.pipeline.check.check",
    "compare": "mlia.pipeline.compare.compare",
    "convert": "mlia.pipeline.convert",
    "ConvertedModel": "mlia.pipeline.convert",
    "run": "mlia.pipeline.verify.verify",
    "verify": "mlia.pipeline.verify.verify",
    "optimize": "mlia.pipeline.optimize.optimize",
    "OptimizedModel": "mlia.pipeline.optimize.candidates",
    "view": "mlia.pipeline.saved",
    "load_model": "mlia.graph.load",
    "read_module": "mlia.graph.formats.torch",
    "load_target": "mlia.targets.profiles",
    "Options": "mlia.pipeline.options",
    "Scope": "mlia.pipeline.options",
    "Limits": "mlia.pipeline.optimize.search_limits",
    "Recipe": "mlia.recipe",
    "CheckReport": "mlia.report",
    "ConvertReport": "mlia.report",
    "OptimizeReport": "mlia.report",
    "CompareReport": "mlia.difference",
    "VerifyReport": "mlia.verification",
    "AccuracyReport": "mlia.accuracy",
    "CalibrateReport": "mlia.accuracy",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `mlia --help` stays fast."""
    if name not in __all__:
        raise AttributeError(f"module 'mlia' has no attribute '{name}'")
    from importlib import import_module

    if name in ("rules", "targets"):  # packages that can be called
        return import_module(f"mlia.{name}")
    return getattr(import_module(_HOMES.get(name, "mlia.errors")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

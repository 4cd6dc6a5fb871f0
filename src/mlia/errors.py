"""Every error a user can cause.

MliaError                  exit 2: says what, where and the next step
├── ModelError             the model cannot be read
├── TargetError            no such target, or an impossible one
├── BackendError           a backend ran and failed
│   ├── BackendUnavailable a backend is not installed; says how to install it
│   └── BackendTimeout     it did not finish in the time that it had
├── RuleError              no such rule
├── SimulatorError         a command stream that cannot be executed; names the command
├── MeasurementError       measured runs that cannot be used
├── ReportError            a saved report that cannot be read
├── TransformError         a change to the model cannot be applied, or its data not be used
│   └── CrashError         a child process died of it
└── OutputError            the report cannot be written

What the machine lacks (shortage) is exit 2 as well. Anything else that escapes is a defect of ours and keeps its
traceback.
"""


class MliaError(Exception):
    """The root: one line for the user, no traceback."""


class ModelError(MliaError):
    """A model is missing, damaged, or in a form that cannot be read."""


class TargetError(MliaError):
    """A target profile does not exist or describes impossible hardware."""


class BackendError(MliaError):
    """A backend ran and failed. `log` keeps what it printed."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class BackendUnavailable(BackendError):
    """A backend's software is not installed."""


class BackendTimeout(BackendError):
    """A backend took longer than it was allowed to."""


class RuleError(MliaError):
    """No rule has that code."""


class SimulatorError(MliaError):
    """A command stream has a command, field or mode that is not known, or leaves its memory."""


class MeasurementError(MliaError):
    """Measured runs cannot be read, or cannot be what was measured."""


class ReportError(MliaError):
    """A saved report is missing, damaged, or of another version."""


class TransformError(MliaError):
    """A change to the model cannot be applied, or calibration data cannot be used."""


class CrashError(TransformError):
    """A child process died of native code that it called."""


class NotQuantizedError(TransformError):
    """No quantizer takes the model, which can still be analyzed as it is. `reason` says why, without the next step."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no quantizer takes the model ({reason}); mlia check --no-quantize analyzes it as it is")
        self.reason = reason

    def __reduce__(self) -> tuple[type["NotQuantizedError"], tuple[str]]:
        return type(self), (self.reason,)  # it travels out of child processes


class OutputError(MliaError):
    """The report cannot be written where the user asked."""


def shortage(error: BaseException) -> str:
    """What the machine, or a limit that is set for us, lacks: one line; empty where the error is a defect of ours."""
    import errno
    import os

    text, number = str(error), error.errno if isinstance(error, OSError) else None
    # An extension module that cannot be opened is an ImportError, with the words of the loader.
    if number in (errno.EMFILE, errno.ENFILE) or (isinstance(error, ImportError) and os.strerror(errno.EMFILE) in text):
        return "too few open files are allowed here (ulimit -n)"
    if number == errno.EAGAIN or (isinstance(error, RuntimeError) and "new thread" in text):
        return "no further process or thread is allowed here (ulimit -u)"
    no_map = "failed to map segment", os.strerror(errno.ENOMEM)
    is_large = isinstance(error, ImportError) and any(words in text for words in no_map)
    if number == errno.ENOMEM or is_large or isinstance(error, MemoryError):
        return "there is too little memory"
    if isinstance(error, RuntimeError) and "home directory" in text:
        return "there is no home folder: set HOME, or MLIA_HOME for the converters"
    if not isinstance(error, OSError):
        return ""
    if number == errno.ENOENT and error.filename is None and "temporary" not in text:
        return "the current folder does not exist any more"
    return f"{error.strerror or text}{f': {error.filename}' if error.filename else ''}"

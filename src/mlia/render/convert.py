"""A conversion as text: what was done to the user's model, and how close the result is to it."""

from collections.abc import Sequence

from mlia.fidelity import Fidelity, TensorFidelity
from mlia.render.text import LABEL, NOTHING, Column, Page, display_names, fraction, kibibytes, percent
from mlia.report import CheckReport, Conversion

_COLUMNS = (
    Column("name", align_right=False, flexible=True),
    Column("relative error"),
    Column("SQNR dB"),
    Column("top-1 agreement %"),
)


def render_conversion(conversion: Conversion, path: str, size_bytes: int, width: int, verbose: bool) -> str:
    """The report of `mlia convert`."""
    page = Page(width, color=False)
    page.title(f"{path}: {kibibytes(size_bytes)} KiB")
    show_conversion(page, conversion)
    if conversion.fidelity is not None:
        _show_fidelity(page, conversion.fidelity, verbose)
    return page.text


def untouched_sentences(report: CheckReport) -> list[str]:
    """What the user's own file does on each target, where what follows is about a copy; none where it is not."""
    found = list(dict.fromkeys(entry.as_it_is for entry in report.targets if entry.as_it_is))
    return [*found, "What follows is about a copy quantized to int8."] if found else []


def show_conversion(page: Page, conversion: Conversion) -> None:
    """What was done, in a few labeled lines."""
    page.paragraph(f"{conversion.source_format}, {conversion.route}", "source", LABEL)
    page.paragraph(", ".join(conversion.added) or "nothing", "added", LABEL)
    if conversion.quantized:
        page.paragraph(f"{conversion.quantized}; by {conversion.quantizer}", "quantized", LABEL)
        page.paragraph(conversion.calibration, "calibration", LABEL)
    if conversion.kept_in_float:
        page.paragraph(conversion.kept_in_float, "in float", LABEL)
    if conversion.fidelity is not None:
        page.paragraph(_summary(conversion.fidelity), "closeness", LABEL)


def _summary(fidelity: Fidelity) -> str:
    worst = max(fidelity.outputs, key=lambda output: output.relative_error)
    error = f"relative error {worst.relative_error:.3f} of output {worst.name or 'unnamed'}"
    agreement = f", top-1 agreement {fraction(worst.top1_agreement)} %" if worst.top1_agreement is not None else ""
    where = "synthetic calibration" if fidelity.is_synthetic else "held-out samples"
    accuracy = ""
    if fidelity.float_accuracy is not None and fidelity.quantized_accuracy is not None:
        before, after = percent(100 * fidelity.float_accuracy), percent(100 * fidelity.quantized_accuracy)
        accuracy = f"; accuracy {before} % -> {after} %"
    return f"{error}{agreement} ({fidelity.samples} samples, {where}){accuracy}"


def _show_fidelity(page: Page, fidelity: Fidelity, verbose: bool) -> None:
    marked = ", synthetic calibration" if fidelity.is_synthetic else ""
    page.heading(f"Closeness to the float model, {fidelity.samples} held-out samples{marked}")
    _show_tensors(page, fidelity.outputs)
    if verbose:
        page.heading("Every tensor, the worst first")
        _show_tensors(page, sorted(fidelity.tensors, key=lambda tensor: -tensor.relative_error))


def _show_tensors(page: Page, tensors: Sequence[TensorFidelity]) -> None:
    names = display_names([tensor.name for tensor in tensors])
    rows = [
        (
            name or "unnamed",
            f"{tensor.relative_error:.4f}",
            NOTHING if tensor.sqnr_db is None else f"{tensor.sqnr_db:.1f}",
            fraction(tensor.top1_agreement),
        )
        for tensor, name in zip(tensors, names, strict=True)
    ]
    page.table(_COLUMNS, rows)

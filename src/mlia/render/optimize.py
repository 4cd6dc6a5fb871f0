"""An optimization as text: what was done, what it gained on each target, and what it lost."""

from collections.abc import Callable, Sequence

from mlia.fidelity import Fidelity, TensorFidelity
from mlia.figures import Figures
from mlia.recipe import describe
from mlia.render.evidence import band_text, calibration_lines
from mlia.render.text import (
    LABEL,
    NOTHING,
    Column,
    Page,
    count,
    display_names,
    fraction,
    kibibytes,
    milliseconds,
    percent,
    plural,
    source_text,
)
from mlia.report import Comparison, OptimizeReport, Trial
from mlia.results import Change, Skipped

ABOUT = 1.005  # cycles that close are the same to a reader
FEW = 12  # changes that are shown one by one without being asked for
_CHANGES = (
    Column("operator", align_right=False, flexible=True),
    Column("what", align_right=False, flexible=True),
)
_FIGURES = (Column("", align_right=False), Column("before"), Column("after"), Column("gain"))
_TRIALS = (
    Column("", align_right=False),
    Column("cycles"),
    Column("gain"),
    Column("weights KiB"),
    Column("rel. error"),
    Column("top-1 %", rank=1),
    Column("accuracy %", rank=2),
    Column("recipe", align_right=False, flexible=True),
)


def render_optimization(report: OptimizeReport, path: str, recipe_path: str, width: int, verbose: bool) -> str:
    """The report of `mlia optimize`."""
    page = Page(width, color=False)
    page.title(f"{report.model.name} -> {path}: {kibibytes(report.optimized.size_bytes)} KiB")
    conversion = report.model.conversion
    if conversion is not None:
        page.paragraph(f"{conversion.source_format}, {conversion.route}", "source", LABEL)
    page.paragraph(report.calibration, "calibration", LABEL)
    page.paragraph(describe(report.recipe), "recipe", LABEL)
    if recipe_path:
        page.paragraph(f"saved in {recipe_path}; --recipe repeats it", "", LABEL)
    if report.missed_limit:
        page.paragraph(f"no recipe keeps all limits: {report.missed_limit}", "missed", LABEL)
    for note in report.notes:
        page.paragraph(note, "note", LABEL)
    if report.trials:
        _show_trials(page, report, verbose)
    _show_changes(page, report.changes, verbose)
    _show_skipped(page, report.skipped, verbose)
    for comparison in report.comparisons:
        _show_comparison(page, comparison, report)
    _show_fidelity(page, report)
    if report.suggestions:
        _show_suggestions(page, report)
    return page.text


def _show_changes(page: Page, changes: Sequence[Change], verbose: bool) -> None:
    page.heading("What was done")
    if not changes:
        page.paragraph("nothing")
        return
    told: dict[str, list[str]] = {}
    for change in changes:
        told.setdefault(change.where, []).append(change.what)
    shown = list(told) if verbose else list(told)[:FEW]
    names = display_names(shown)
    page.table(_CHANGES, [(name, "; ".join(told[where])) for where, name in zip(shown, names, strict=True)])
    if len(shown) < len(told):
        page.paragraph(f"… and {len(told) - len(shown)} more operators: --verbose shows them")


def _show_skipped(page: Page, skipped: Sequence[Skipped], verbose: bool) -> None:
    """One reason is told once for all that it holds for."""
    reasons: dict[str, list[str]] = {}
    for each in skipped:
        reasons.setdefault(each.reason, []).append(each.what)
    if reasons:
        page.gap()
        page.paragraph("Left alone:")
    for reason, what in reasons.items():
        names = what if verbose or len(what) <= FEW else [*what[:FEW], f"{len(what) - FEW} more"]
        page.paragraph(f"- {_listed(names)}: {reason}", hang=4)


def _listed(what: Sequence[str]) -> str:
    """Things in a row: what they all begin with is said once, and of a fused operator's names the first is enough."""
    short = [name.split(";")[0] for name in what]
    begins = [name.partition(" of ")[0] + " of " for name in short]
    if len({*begins}) == 1 and all(name.startswith(begins[0]) for name in short):
        return begins[0] + ", ".join(name.removeprefix(begins[0]) for name in short)
    return ", ".join(short)


def _show_comparison(page: Page, comparison: Comparison, report: OptimizeReport) -> None:
    target, before, after = comparison.target, comparison.before, comparison.after
    band = f", {band_text(comparison.calibration)}" if comparison.calibration else ""
    page.heading(f"Target {target.name} ({source_text(comparison.source)}{band})")
    page.table(
        _FIGURES,
        figure_rows(before, after, comparison.calibration is not None),
    )
    told = comparison.explanation
    gain = f"{comparison.gain:.2f}x in time" if comparison.gain is not None else "no cycles"
    page.paragraph(f"{gain}: {told}", hang=2)
    if comparison.calibration is not None:
        for label, text in calibration_lines(comparison.calibration):
            page.paragraph(text, label, LABEL)
    if before.cpu_operators or after.cpu_operators:
        page.paragraph("Cycles are the NPU's; latency is that of the whole system, with what its host does.")
    if before.file_bytes == after.file_bytes and before.compressed_weights_bytes != after.compressed_weights_bytes:
        page.paragraph("TFLite stores a byte for each weight; what Vela writes to flash is compressed.")


def figure_rows(before: Figures, after: Figures, is_calibrated: bool) -> list[tuple[str, ...]]:
    """Each figure that is there before or after: its name, both, and the gain."""

    def row(label: str, show: Callable[[float], str], old: float | None, new: float | None) -> tuple[str, ...] | None:
        if not old and not new:
            return None
        gain = f"{old / new:.2f}x" if old and new else NOTHING
        return label, *(NOTHING if value is None else show(value) for value in (old, new)), gain

    def whole(value: float) -> str:
        return count(int(value))

    def size(value: float) -> str:
        return kibibytes(int(value))

    rows = [
        row("total cycles", whole, before.total_cycles, after.total_cycles),
        row("by Vela alone", whole, before.vela_total_cycles, after.vela_total_cycles) if is_calibrated else None,
        row("NPU busy, cycles", whole, before.npu_cycles, after.npu_cycles),
        row("latency ms", milliseconds, before.known_ms, after.known_ms),
        row("weights KiB", size, before.weights_bytes, after.weights_bytes),
        row("compressed weights KiB", size, before.compressed_weights_bytes, after.compressed_weights_bytes),
        row("flash KiB", size, before.flash_bytes, after.flash_bytes),
        row("DRAM KiB", size, before.planned_dram_bytes, after.planned_dram_bytes),
        row("SRAM KiB", size, before.sram_bytes, after.sram_bytes),
        row("read off-chip KiB", size, before.off_chip_read_bytes, after.off_chip_read_bytes),
        row("TFLite file KiB", size, before.file_bytes, after.file_bytes),
        row("operators on the CPU", whole, before.cpu_operators, after.cpu_operators),
    ]
    return [each for each in rows if each is not None]


def _show_fidelity(page: Page, report: OptimizeReport) -> None:
    before, after = report.fidelity_before, report.fidelity_after
    original = "the float model" if before is not None else "the model that was given"
    marked = ", synthetic calibration" if after.is_synthetic else ""
    page.heading(f"Closeness to {original}, {plural(after.samples, 'held-out sample')}{marked}")
    columns = [Column("", align_right=False), Column("quantized"), Column("optimized")]
    rows = fidelity_rows(before, after)
    if before is None:
        columns, rows = [columns[0], columns[2]], [(row[0], row[2]) for row in rows]
    page.table(columns, rows)
    if report.float_bytes is not None:
        ratio = report.float_bytes / report.model.size_bytes
        page.paragraph(
            f"As TFLite the float model has {kibibytes(report.float_bytes)} KiB, the quantized one"
            f" {kibibytes(report.model.size_bytes)} KiB: {ratio:.1f}x smaller."
        )
    if after.float_accuracy is not None:
        page.paragraph(f"The accuracy of {original} is {percent(100 * after.float_accuracy)} %.")
    if report.evaluation is not None:
        page.paragraph(f"Your own judge: {report.evaluation.before:g} before, {report.evaluation.after:g} after.")


def fidelity_rows(before: Fidelity | None, after: Fidelity) -> list[tuple[str, ...]]:
    """How close the quantized and the optimized model are, figure by figure."""

    def both(show: Callable[[TensorFidelity], str], position: int) -> tuple[str, str]:
        return (NOTHING if before is None else show(before.outputs[position])), show(after.outputs[position])

    rows: list[tuple[str, ...]] = []
    names = display_names([output.name for output in after.outputs])
    for position, name in enumerate(names):
        of = f" of {name}" if len(names) > 1 else ""
        rows.append((f"relative error{of}", *both(lambda each: f"{each.relative_error:.4f}", position)))
        rows.append((f"SQNR dB{of}", *both(_sqnr, position)))
        rows.append((f"top-1 agreement %{of}", *both(lambda each: fraction(each.top1_agreement), position)))
    if after.quantized_accuracy is not None:
        accuracy = fraction(before.quantized_accuracy) if before is not None else NOTHING
        rows.append(("accuracy %", accuracy, fraction(after.quantized_accuracy)))
    return rows


def _sqnr(each: TensorFidelity) -> str:
    return NOTHING if each.sqnr_db is None else f"{each.sqnr_db:.1f}"


def _show_trials(page: Page, report: OptimizeReport, verbose: bool) -> None:
    """The trade-off: of all that was tried, what nothing else beats in speed and size and closeness."""
    target = report.comparisons[0].target.name
    trials = report.trials if verbose else [trial for trial in report.trials if _is_worth_showing(trial, report.trials)]
    tried = report.trials[1:]  # the first is the model as it was
    kept = sum(not trial.objection for trial in tried)
    page.heading(
        f"Searched {plural(len(tried), 'recipe')}, {kept} within the limits; gain against closeness on {target}"
    )
    ordered = sorted(trials, key=lambda trial: (trial.total_cycles[0] or 0, trial.relative_error))
    _show_trial_rows(page, ordered, report.trials[0].total_cycles[0])
    page.paragraph("> is the chosen one, x breaks a limit.")


def _show_suggestions(page: Page, report: OptimizeReport) -> None:
    page.heading(f"Tried as well on {report.comparisons[0].target.name}, because the recipe gains no time")
    plain = report.comparisons[0].before
    _show_trial_rows(page, report.suggestions, plain.total_cycles)
    page.paragraph("Fewer channels make the NPU compute less; --finetune and real data win closeness back.")


def _is_worth_showing(trial: Trial, trials: Sequence[Trial]) -> bool:
    """Whether no other is about as fast, smaller and closer; what was chosen and what was there before always is."""

    def is_better(other: Trial) -> bool:
        about_as_fast = (other.total_cycles[0] or 0) <= (trial.total_cycles[0] or 0) * ABOUT
        smaller = (other.compressed_weights_bytes[0] or 0) <= (trial.compressed_weights_bytes[0] or 0)
        return about_as_fast and smaller and other.relative_error < trial.relative_error

    figures = (trial.total_cycles, trial.compressed_weights_bytes, trial.relative_error)
    same = (
        each for each in trials if (each.total_cycles, each.compressed_weights_bytes, each.relative_error) == figures
    )
    is_repeated = next(same) is not trial
    return trial.is_chosen or trial is trials[0] or not (is_repeated or any(map(is_better, trials)))


def _show_trial_rows(page: Page, trials: Sequence[Trial], before: int | None) -> None:
    """A row each, without columns that say nothing."""
    rows = [_trial_row(trial, before) for trial in trials]
    told = [index for index in range(len(_TRIALS)) if any(row[index] not in ("", NOTHING) for row in rows)]
    page.table([_TRIALS[index] for index in told], [[row[index] for index in told] for row in rows])


def _trial_row(trial: Trial, before: int | None) -> tuple[str, ...]:
    cycles = trial.total_cycles[0]
    return (
        ">" if trial.is_chosen else "x" if trial.objection else "",
        count(cycles),
        f"{before / cycles:.2f}x" if cycles and before else NOTHING,
        kibibytes(trial.compressed_weights_bytes[0]),
        f"{trial.relative_error:.4f}",
        fraction(trial.top1_agreement),
        fraction(trial.accuracy),
        trial.description,
    )

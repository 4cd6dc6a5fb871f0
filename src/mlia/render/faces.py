"""Report of any verb -> what a Python session shows of it: a verdict of a few lines, as text or HTML, and its rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from mlia.accuracy import AccuracyReport, CalibrateReport
from mlia.difference import CompareReport
from mlia.errors import OutputError
from mlia.render.forms import SUFFIXES, forms_of
from mlia.render.text import (
    NOTHING,
    Column,
    count,
    kibibytes,
    milliseconds,
    percent,
    plural,
    printable,
    render_table,
    shorten,
)
from mlia.report import CheckReport, ConvertReport, OptimizeReport
from mlia.verification import VerifyReport

WIDTH = 120  # of a line
ROWS_SHOWN = 5
LINES_SHOWN = 3
CODES_SHOWN = 8
Row = dict[str, Any]


class Verdict(Struct, frozen=True):
    """What is worth saying first: one sentence, a table, and further sentences."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()


def verdict_text(report: object) -> str:
    """The verdict in at most ten lines."""
    verdict = _verdict(report)
    lines = [shorten(printable(verdict.title), WIDTH)]
    if verdict.rows:
        columns = [
            Column(name, align_right=0 < number < len(verdict.columns) - 1)
            for number, name in enumerate(verdict.columns)
        ]
        rows = [[shorten(cell, WIDTH // 2) for cell in row] for row in verdict.rows[:ROWS_SHOWN]]
        lines += [shorten(line, WIDTH) for line in render_table(columns, rows, WIDTH)]
        if more := len(verdict.rows) - ROWS_SHOWN:
            lines += [f"  and {more} more"] if more > 0 else []
    return "\n".join([*lines, *(f"  {shorten(printable(line), WIDTH)}" for line in verdict.lines[:LINES_SHOWN])])


def verdict_html(report: object) -> str:
    """The same as a piece of HTML that needs nothing else; what comes from the model is escaped."""
    verdict = _verdict(report)

    def shown(text: str) -> str:
        return escape(shorten(printable(text), WIDTH))

    parts = [f"<p><strong>{shown(verdict.title)}</strong></p>"]
    if verdict.rows:
        head = "".join(f"<th>{shown(name)}</th>" for name in verdict.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{shown(cell)}</td>' for cell in row)}</tr>" for row in verdict.rows[:ROWS_SHOWN]
        )
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        if len(verdict.rows) > ROWS_SHOWN:
            parts.append(f"<p>and {len(verdict.rows) - ROWS_SHOWN} more</p>")
    parts += [f"<p>{shown(line)}</p>" for line in verdict.lines[:LINES_SHOWN]]
    return f"<div>{''.join(parts)}</div>"


def form_of(report: object, path: str | Path) -> str:
    """The form that the suffix of a path names.

    Raises:
        OutputError: no form of this report.
    """
    form, forms = SUFFIXES.get(Path(path).suffix.lower()), forms_of(report)
    if form not in forms:
        known = ", ".join(suffix for suffix, name in SUFFIXES.items() if name in forms)
        raise OutputError(f"cannot save {path}: a {type(report).__name__} is saved with a name that ends in {known}")
    return form


def rows_of(report: Any) -> tuple[Sequence[str], Sequence[Row]]:
    """The columns and rows of a report as a table."""
    if isinstance(report, CheckReport):
        from mlia.render.check.csv import COLUMNS, operator_rows

        return COLUMNS, [*operator_rows(report)]
    if isinstance(report, CompareReport):
        rows = [_compared(entry.target.name, each) for entry in report.targets for each in entry.operators]
    elif isinstance(report, OptimizeReport):
        rows = [
            {"target": each.target.name, "gain": each.gain, **_sides(each.before, each.after)}
            for each in report.comparisons
        ]
    elif isinstance(report, VerifyReport):
        rows = [_flat(each) for each in report.operators]
    elif isinstance(report, ConvertReport):
        fidelity = report.conversion.fidelity
        rows = [_flat(each) for each in fidelity.tensors] if fidelity else []
    elif isinstance(report, CalibrateReport):
        rows = [_flat(each) for each in report.runs]
    else:
        rows = [_flat(each) for each in report.rows]
    return [*dict.fromkeys(column for row in rows for column in row)], rows


def _flat(value: Any) -> Row:
    """A value's fields, those of what it holds by their own names."""
    row: Row = {}
    for name, field in msgspec.to_builtins(value).items():
        row.update(field if isinstance(field, dict) else {name: field})
    return row


def _compared(target: str, each: Any) -> Row:
    row = {"target": target, "match": str(each.match), "is_moved": each.is_moved, "difference_ms": each.difference_ms}
    return row | _sides(each.before, each.after)


def _sides(before: Any, after: Any) -> Row:
    """Every field of both, side by side: before_latency_ms, after_latency_ms, …"""
    old, new = (msgspec.to_builtins(each) if each is not None else {} for each in (before, after))
    names = [*dict.fromkeys((*old, *new))]
    return {f"{side}_{name}": row.get(name) for name in names for side, row in (("before", old), ("after", new))}


def _verdict(report: object) -> Verdict:
    return _VERDICTS[type(report)](report)


def _check(report: CheckReport) -> Verdict:
    from mlia.render.check.findings import headline

    model = report.model
    figures = [headline(entry, result) for entry in report.targets for result in entry.results]
    advice = [", ".join(_first([item.code for item in entry.advised.advice])) for entry in report.targets]
    rows = tuple(
        (
            each.target,
            each.npu_percent,
            f"{each.latency_ms} ({each.band_ms})" if each.band_ms else each.latency_ms,
            each.sram_kib,
            each.flash_kib,
            f"not checked: {each.refusal}" if each.refusal else codes or "none",
        )
        for each, codes in zip(figures, advice, strict=True)
    )
    sources = dict.fromkeys(source for each in figures for source in each.sources)
    missed = sum(not budget.is_kept for budget in report.budgets)
    lines = [
        *([f"limits: {missed} of {len(report.budgets)} missed"] if report.budgets else []),
        *(f"latency on {each.target} is not known: {each.unknown}" for each in figures if each.unknown),
        *([f"figures: {', '.join(sources)}"] if sources else []),
    ]
    title = f"{model.name}: {kibibytes(model.size_bytes)} KiB, {plural(model.operators, 'operator')}"
    columns = ("target", "on NPU %", "latency ms", "SRAM KiB", "flash KiB", "advice")
    return Verdict(title, columns, rows, tuple(lines))


def _first(codes: Sequence[str]) -> list[str]:
    left = len(codes) - CODES_SHOWN
    return [*codes[:CODES_SHOWN], *([f"{left} more"] if left > 0 else [])]


def _compare(report: CompareReport) -> Verdict:
    from mlia.render.compare import parts

    rows = []
    for entry in report.targets:
        judged = entry.judged
        known = judged is not None and judged.before.value is not None and judged.after.value is not None
        show = milliseconds if entry.figure == "latency_ms" else lambda value: count(int(value or 0))
        both = [show(judged.before.value), show(judged.after.value)] if judged and known else [NOTHING, NOTHING]
        rows.append((entry.target.name, *both, parts.verdict_text(entry)))
    refused = (*report.refused_targets, *report.missing_targets)
    return Verdict(
        f"{' -> '.join(parts.names_of(report))}: {parts.headline(report)}",
        ("target", "before", "after", "verdict"),
        tuple(rows),
        tuple(f"{each.what}: {each.reason}" for each in refused),
    )


def _optimize(report: OptimizeReport) -> Verdict:
    from mlia.recipe import describe

    rows = tuple(
        (
            each.target.name,
            f"{milliseconds(each.before.known_ms)} -> {milliseconds(each.after.known_ms)}",
            f"{each.gain:.2f}x" if each.gain is not None else NOTHING,
            f"{kibibytes(each.before.sram_bytes)} -> {kibibytes(each.after.sram_bytes)}",
            f"{kibibytes(each.before.flash_bytes)} -> {kibibytes(each.after.flash_bytes)}",
        )
        for each in report.comparisons
    )
    worst = max(report.fidelity_after.outputs, key=lambda output: output.relative_error)
    of_noise = ", on noise" if report.fidelity_after.is_synthetic else ""
    lines = [
        *([f"no recipe keeps all limits: {report.missed_limit}"] if report.missed_limit else []),
        f"relative error {worst.relative_error:.4f} of output {worst.name or 'unnamed'}{of_noise}",
        *report.notes[:1],
    ]
    columns = ("target", "latency ms", "gain in cycles", "SRAM KiB", "flash KiB")
    return Verdict(f"{report.model.name}: {describe(report.recipe)}", columns, rows, tuple(lines))


def _verify(report: VerifyReport) -> Verdict:
    from mlia.render.verify.terminal import verdict

    told = Counter(str(each.outcome) for each in report.operators)
    certain = [danger for danger in report.dangers if danger.certain]
    lines = [
        *([f"operators: {_told(told.items())}"] if told else []),
        f"{report.samples}; {plural(report.npu_segments, 'command stream')}",
        *([f"{plural(len(certain), 'danger')}, the first: {certain[0].what}"] if certain else []),
    ]
    return Verdict(f"{report.model.name}: {verdict(report)}", lines=tuple(lines))


def _told(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counts)


def _calibrate(report: CalibrateReport) -> Verdict:
    rows = (
        ("Vela", percent(report.vela_percent)),
        ("as shipped", percent(report.shipped_percent)),
        ("models not measured", percent(report.unseen_percent)),
        ("fitted", percent(report.fitted_percent)),
    )
    title = f"{report.target}: {plural(len(report.runs), 'run')} of {plural(report.models, 'model')} measured"
    kept = ("what ships is kept: no fit was better for models that it had not seen",) if report.is_kept else ()
    return Verdict(title, ("estimate", "error %"), rows, (*kept, *([report.hint] if report.hint else [])))


def _accuracy(report: AccuracyReport) -> Verdict:
    rows = tuple(
        (
            f"{each.family} {each.plural}",
            count(each.measurements),
            percent(each.vela.mean_absolute),
            percent(each.calibrated.mean_absolute),
        )
        for each in report.families
    )
    title = "Mean error of estimates of NPU cycles against published measurements, in percent"
    return Verdict(title, ("of", "measurements", "Vela", "calibrated"), rows)


def _convert(report: ConvertReport) -> Verdict:
    found, model = report.conversion, report.converted
    lines = [f"from {found.source_format}, {found.route}"] if found.source_format else []
    if found.quantized:
        lines.append(f"{found.quantized}; by {found.quantizer}")
    if found.fidelity is not None:
        worst = max(found.fidelity.outputs, key=lambda output: output.relative_error)
        of_noise = ", on noise" if found.fidelity.is_synthetic else ""
        lines.append(f"relative error {worst.relative_error:.4f} of output {worst.name or 'unnamed'}{of_noise}")
    title = f"{model.name}: {kibibytes(model.size_bytes)} KiB, {plural(model.operators, 'operator')}"
    return Verdict(title, lines=tuple(lines))


_VERDICTS: dict[type, Callable[[Any], Verdict]] = {
    CheckReport: _check,
    CompareReport: _compare,
    OptimizeReport: _optimize,
    VerifyReport: _verify,
    CalibrateReport: _calibrate,
    AccuracyReport: _accuracy,
    ConvertReport: _convert,
}

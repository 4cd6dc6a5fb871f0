"""What every report can do in a Python session: print itself, show itself in a notebook, be saved, become a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from pandas import DataFrame


class Face(Struct, frozen=True):
    """The methods of a report. What they show is made by the renderers, which are imported when they are asked."""

    def __str__(self) -> str:
        """The verdict in a few lines."""
        from mlia.render.faces import verdict_text

        return verdict_text(self)

    def _repr_html_(self) -> str:
        """The verdict as a notebook shows it."""
        from mlia.render.faces import verdict_html

        return verdict_html(self)

    def to_json(self) -> str:
        """The report as `--format json` writes it. The same report gives the same text."""
        from mlia.render.forms import in_form

        return in_form(self, "json")

    def to_dict(self) -> dict[str, Any]:
        """What the JSON holds: dicts, lists, texts, numbers, True, False and None."""
        import msgspec

        fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return fields

    def save(self, path: str | Path) -> None:
        """Write the report, whole or not at all, in the form that the suffix of the path names.

        Args:
            path: a name that ends in .json, which all reports have and mlia.view() reads; reports of a check also in
                .html, .csv, .md, .xml (JUnit) and .sarif, of compare in .html and .md, of optimize in .html.

        Raises:
            OutputError: it cannot be written, or this report has no such form.
        """
        from mlia.output import write_file
        from mlia.render.faces import form_of
        from mlia.render.forms import in_form

        write_file(path, in_form(self, form_of(self, path)).encode())

    def to_dataframe(self) -> "DataFrame":
        """A pandas.DataFrame of the report's rows: operators, or what the report has a row of.

        A check has a row for each target and operator, in the words of `--format csv`; compare and verify have
        operators too; optimize has targets, calibrate has runs, accuracy has measurements, convert has tensors.

        Raises:
            BackendUnavailable: pandas is not installed.
        """
        from mlia.render.faces import rows_of

        try:
            from pandas import DataFrame
        except ImportError:
            from mlia.errors import BackendUnavailable

            raise BackendUnavailable("a table of a report needs pandas: pip install pandas") from None
        columns, rows = rows_of(self)
        return DataFrame([[row.get(column) for column in columns] for row in rows], columns=list(columns))

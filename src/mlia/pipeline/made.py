"""Result of a verb that makes a model: the model, its report, and save()."""

from pathlib import Path

from msgspec import Struct

from mlia.faces import Face
from mlia.graph.graph import Graph
from mlia.output import write_file


class MadeModel(Struct, frozen=True):
    """A model that was made, and the report of it."""

    graph: Graph
    report: Face

    def __str__(self) -> str:
        """The verdict of the report."""
        return str(self.report)

    def _repr_html_(self) -> str:
        """The verdict of the report, as a notebook shows it."""
        return self.report._repr_html_()

    def save(self, path: str | Path) -> None:
        """Write the TFLite file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_file(Path(path), self.graph.file)

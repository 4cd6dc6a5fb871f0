"""What the verbs that make models return has this in common: the model, and that it can be saved."""

from pathlib import Path

from msgspec import Struct

from mlia.graph.graph import Graph
from mlia.output import write_file


class Made(Struct, frozen=True):
    """A model that was made."""

    graph: Graph

    def save(self, path: str | Path) -> None:
        """Write the TFLite file, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_file(Path(path), self.graph.file)

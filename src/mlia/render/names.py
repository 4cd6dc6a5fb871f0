"""Names of operators as people can read them."""

from collections import Counter
from collections.abc import Sequence

SHARED_BY = 0.6  # of all names with a scope, before the scope goes


def display_names(names: Sequence[str]) -> list[str]:
    """The names without what most of them share.

    A converter that fuses operators joins their names with semicolons; the first is the operator's own.
    A scope in front of most names ("functional_1/") says nothing about any of them.
    """
    paths = [(name.partition(";")[0] or name).split("/") for name in names]
    while True:
        scopes = Counter(path[0] for path in paths if len(path) > 1)
        if not scopes:
            break
        scope, count = scopes.most_common(1)[0]
        if len(paths) < 2 or count < SHARED_BY * len(paths):
            break
        paths = [path[1:] if len(path) > 1 and path[0] == scope else path for path in paths]
    return ["/".join(path) for path in paths]


def identity(subgraph: int, index: int) -> str:
    """An operator's number: 5 in the main subgraph, 1:5 in a further one."""
    return f"{subgraph}:{index}" if subgraph else str(index)

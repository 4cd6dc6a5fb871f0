"""Names of operators as people can read them."""

from collections.abc import Sequence


def display_names(names: Sequence[str]) -> list[str]:
    """The names without what they all share.

    A converter that fuses operators joins their names with semicolons; the first is the operator's own.
    A scope in front of all names ("functional_1/") says nothing about any of them.
    """
    own = [name.partition(";")[0] or name for name in names]
    scopes = [name.split("/")[:-1] for name in own if "/" in name]
    shared = 0
    while scopes and all(len(scope) > shared and scope[shared] == scopes[0][shared] for scope in scopes):
        shared += 1
    return ["/".join(name.split("/")[shared:]) if "/" in name else name for name in own]


def identity(subgraph: int, index: int) -> str:
    """An operator's number: 5 in the main subgraph, 1:5 in a further one."""
    return f"{subgraph}:{index}" if subgraph else str(index)

"""`mlia backend`: which backends and converters there are, and how to get the converters."""

import argparse

from mlia.cli.streams import progress_line, write_output

EPILOG = """examples:
  mlia backend list
  mlia backend install onnx

A converter is installed by pip into an environment of its own under the user's data folder, or under
MLIA_HOME; nothing else is changed. Remove that folder to uninstall it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.epilog = EPILOG
    parser.set_defaults(run=run)
    parser.add_argument("action", choices=("list", "install"), help="list everything, or install one converter")
    parser.add_argument("name", nargs="?", metavar="NAME", help="for install: onnx, torch or savedmodel")
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the list, or install a converter; returns the exit code."""
    if arguments.action == "list":
        if arguments.name:
            arguments.parser.error("list takes no name")
        write_output(_list(), None)
        return 0
    if not arguments.name:
        arguments.parser.error("install needs the name of a converter")
    from mlia.graph.formats.environments import folder, install, state

    with progress_line() as progress:
        install(arguments.name, progress)
    _, mark = state(arguments.name)
    size = f" ({mark.size_mb} MB)" if mark else ""
    write_output(f"installed {arguments.name} in {folder(arguments.name)}{size}\n", None)
    return 0


def _list() -> str:
    from mlia.graph.formats.environments import environments, state

    rows = [("backend", "state", "size", "what it is for"), ("vela", _vela(), "", "Ethos-U compatibility and cost")]
    for each in environments():
        found, mark = state(each.name)
        told = found if found == "installed" else f"{found}: mlia backend install {each.name}"
        size = f"{mark.size_mb} MB" if mark else f"about {each.size_mb} MB"
        rows.append((each.name, told, size, f"{each.purpose} ({', '.join(each.requirements)})"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)] + [row[3]]) for row in rows
    ]
    return "\n".join(lines) + "\n"


def _vela() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"available {version('ethos-u-vela')}"
    except PackageNotFoundError:
        return "not installed: pip install ethos-u-vela"

"""Write the lock files: what `make` and `mlia backend install` install, each version with the hashes of its files.

    python tools/lock.py              add and drop what the requirements ask for; keep all other versions
    python tools/lock.py --upgrade    the newest versions that the requirements allow
    python tools/lock.py --check      only say whether the lock files fit the requirements; asks no registry

uv resolves once for all platforms and Pythons; pip installs the result with --require-hashes.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlia.graph.formats.environments import CUDA_LOCK, environments, lock_of

ROOT = Path(__file__).parent.parent
PROJECT = ROOT / "pyproject.toml"
DEVELOPERS, USERS = ROOT / "locks/dev.txt", ROOT / "locks/user.txt"
CUDA = re.compile(r"(nvidia|cuda)-|triton\b")
# PyTorch's own index has builds of the same release for CPUs only, which need none of the CUDA packages.
CPU_BUILDS = {"torch==2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


class Lock(NamedTuple):
    """A lock file, and the requirements that it is for."""

    path: Path
    requirements: tuple[str, ...]
    python: str


def locks() -> list[Lock]:
    """All lock files; the developers' first, because the users' takes its versions from it."""
    project = tomllib.loads(PROJECT.read_text())
    python = project["project"]["requires-python"].removeprefix(">=")
    users = (*project["build-system"]["requires"], *project["project"]["dependencies"])
    developers = (*users, *project["project"]["optional-dependencies"]["dev"])
    converters = [
        Lock(lock_of(each.name), each.requirements, ".".join(map(str, each.python[0]))) for each in environments()
    ]
    return [Lock(DEVELOPERS, developers, python), Lock(USERS, users, python), *converters]


def write(lock: Lock, upgrade: bool) -> None:
    """Resolve one lock file. The CUDA packages of torch go into a file of their own."""
    has_cuda = lock.path == lock_of("torch")
    known = [path for path in (lock.path, *[CUDA_LOCK] * has_cuda) if path.exists() and not upgrade]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text("".join(path.read_text() for path in known))  # uv keeps the versions that it finds there
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "-",
            "--universal",
            "--generate-hashes",
            "--python-version",
            lock.python,
        ]
        command += ["--no-emit-index-url", "--no-annotate", "--no-header", "--quiet", "--output-file", str(output)]
        command += ["--constraint", str(DEVELOPERS)] if lock.path == USERS else []
        subprocess.run(command, input="\n".join(lock.requirements), text=True, check=True, cwd=ROOT)
        entries = list(pins(output.read_text()))
    cuda = [entry for entry in entries if has_cuda and CUDA.match(entry)]
    header = f"# Written by tools/lock.py for: {', '.join(lock.requirements)}\n"
    lock.path.parent.mkdir(exist_ok=True)
    lock.path.write_text(header + "".join(with_cpu_builds(entry) for entry in entries if entry not in cuda))
    if has_cuda:
        CUDA_LOCK.write_text("# Written by tools/lock.py: what torch for CUDA needs besides\n" + "".join(cuda))


def pins(text: str) -> Iterator[str]:
    """The entries of a lock file: a line that pins a version, and the lines with its hashes."""
    entry = ""
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" ") and entry:
            yield entry
            entry = ""
        entry += f"{line}\n"
    if entry:
        yield entry


def with_cpu_builds(entry: str) -> str:
    hashes = CPU_BUILDS.get(entry.split()[0], ())
    return entry.rstrip("\n") + "".join(f" \\\n    --hash=sha256:{each}" for each in hashes) + "\n"


def misfits(lock: Lock) -> Iterator[str]:
    """What is wrong with a lock file: no version, or another one than is required, or one without hashes."""
    name = lock.path.relative_to(ROOT)
    if not lock.path.exists():
        yield f"there is no {name}"
        return
    versions: dict[str, set[str]] = {}
    for entry in pins(lock.path.read_text()):
        package, _, version = entry.split()[0].partition("==")
        versions.setdefault(canonicalize_name(package), set()).add(version)
        if not HASH.search(entry):
            yield f"{name} has no hashes for {package}"
    for text in lock.requirements:
        requirement = Requirement(text)
        found = versions.get(canonicalize_name(requirement.name), set())
        if not found:
            yield f"{name} lacks {requirement.name}"
        yield from (
            f"{name} has {requirement.name} {version}, and {requirement.specifier} is asked for"
            for version in sorted(found)
            if version not in requirement.specifier
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a lock does not fit")
    arguments = parser.parse_args()
    if arguments.check:
        wrong = [text for lock in locks() for text in misfits(lock)]
        for text in wrong:
            print(f"{text}: run `make lock`", file=sys.stderr)
        return 1 if wrong else 0
    for lock in locks():
        print(f"resolving {lock.path.relative_to(ROOT)}", file=sys.stderr)
        write(lock, arguments.upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())

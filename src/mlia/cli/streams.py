"""What a command writes: the report to stdout or a file, one line of errors and of progress to stderr."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from mlia import interrupts

LONGEST_LINE = 600  # letters of an error


def warn(text: str) -> None:
    """One line on stderr, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"mlia: {one_line(text)}", file=sys.stderr)


def one_line(text: str) -> str:
    """Without line breaks and control characters, and short: names in a damaged file may have those, and no end."""
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE - 150]} … {text[-140:]}"  # the end says what to do
    return "".join(letter if letter.isprintable() else " " for letter in text)


def write_output(text: str, path: str | None) -> None:
    """Write to stdout, or to a file that appears whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        write_stdout(text)
        return
    if not path:
        from mlia.errors import OutputError

        raise OutputError("cannot write the report: the name of its file is empty")
    from mlia.output import write_file

    with interrupts.Held():
        write_file(path, text.encode())


def write_stdout(text: str) -> None:
    """Write all of it to stdout, or fail.

    Raises:
        OutputError: it is closed, or takes no more.
    """
    from io import UnsupportedOperation

    from mlia.errors import OutputError
    from mlia.output import write_all

    if sys.stdout is None:
        raise OutputError("cannot write the report: stdout is closed")
    try:
        sys.stdout.flush()
        file = sys.stdout.fileno()
    except UnsupportedOperation:  # something else stands in for it
        sys.stdout.write(text)
        return
    # An encoding that lacks a letter is no reason to fail.
    content = text.replace("\n", os.linesep).encode(sys.stdout.encoding, errors="replace")
    try:
        with interrupts.Held():
            write_all(file, content)  # a text stream without a buffer, as PYTHONUNBUFFERED makes it, may write a part
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise OutputError(f"cannot write the report to stdout: {error.strerror}") from None


def discard_stdout() -> None:
    """What is still buffered cannot be written; without this, the interpreter tries again at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse_overwriting(given: str, output: str | None, what: str = "the model") -> None:
    """Refuse an output that is the model itself, or something else that is given.

    Raises:
        OutputError: both are the same file.
    """
    from mlia.errors import OutputError

    if output and os.path.exists(output) and os.path.exists(given) and os.path.samefile(given, output):
        raise OutputError(f"cannot write {output}: it is {what}")


def tell_refusals(refusals: Iterable[tuple[str, str]]) -> bool:
    """Name on stderr what could not be done for single targets, and whether there is any; empty reasons are none."""
    refused = [(target, reason) for target, reason in refusals if reason]
    for target, reason in refused:
        print(f"mlia: error: {one_line(f'{target}: {reason}')}", file=sys.stderr)
    return bool(refused)


def can_color(stream: TextIO | None) -> bool:
    """Color only on a terminal, and never against the user's wish (https://no-color.org)."""
    return stream is not None and stream.isatty() and not os.environ.get("NO_COLOR")


def terminal_width() -> int:
    """Columns of the terminal, or of COLUMNS; 80 where there is neither."""
    if not (sys.stdout and sys.stdout.isatty()) and "COLUMNS" not in os.environ:
        return 80
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, if a person is watching; it is gone afterwards.

    An interrupt leaves threads behind, which still have something to say: nobody hears it.
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda text: None
        return

    from threading import Lock

    writing, is_over = Lock(), False

    def show(text: str) -> None:
        with writing:
            if not is_over:
                sys.stderr.write(f"\r\x1b[K{text} …")
                sys.stderr.flush()

    try:
        yield show
    finally:
        with writing:
            is_over = True
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

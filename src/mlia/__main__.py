"""The `mlia` command, and `python -m mlia`."""

import sys

from mlia import interrupts

interrupts.end_on_signals()  # before what takes a while to import

try:
    from mlia.cli.main import entry_point
except (OSError, ImportError, MemoryError) as error:
    from mlia.errors import shortage

    if not (lack := shortage(error)):
        raise
    print(f"mlia: error: cannot go on: {lack}", file=sys.stderr)
    interrupts.leave(2)

if __name__ == "__main__":
    entry_point()

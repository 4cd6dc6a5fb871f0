"""The `mlia` command, and `python -m mlia`."""

from mlia import interrupts

interrupts.end_on_signals()  # before what takes a while to import

from mlia.cli.main import entry_point  # noqa: E402

if __name__ == "__main__":
    entry_point()

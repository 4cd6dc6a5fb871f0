"""python -m mlia"""

from mlia.cli.main import entry_point

entry_point()

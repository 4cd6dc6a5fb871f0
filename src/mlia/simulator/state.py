"""What the commands of a stream have set so far."""

from collections.abc import Mapping

from mlia.errors import SimulatorError
from mlia.simulator.commands import Command, Value


class State:
    """The last of each NPU_SET_* command; `user` is who asks, for the message when there is none."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.is_u85 = family == "ethos-u85"
        self.user = ""
        self._set: dict[str, Mapping[str, Value]] = {}

    def set(self, command: Command) -> None:
        """Take over what a command sets."""
        self._set[command.name] = command.fields

    def has(self, name: str) -> bool:
        """Whether NPU_SET_`name` was there."""
        return f"NPU_SET_{name}" in self._set

    def fields(self, name: str) -> Mapping[str, Value]:
        """The fields of the last NPU_SET_`name`.

        Raises:
            SimulatorError: there was none.
        """
        try:
            return self._set[f"NPU_SET_{name}"]
        except KeyError:
            raise SimulatorError(f"{self.user} needs NPU_SET_{name}, which the stream has not set") from None

    def number(self, name: str) -> int:
        """The only field of the last NPU_SET_`name`."""
        (value,) = self.fields(name).values()
        assert isinstance(value, int), f"{name} is no number"
        return value

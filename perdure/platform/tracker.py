"""Who is told of a command's runs beside the journal."""

from typing import Protocol

from .command import Command
from .events import Event
from .results import Comparison


class Tracker(Protocol):
    """Mirrors journals somewhere else; never waits while runs are made."""

    def begin(self, command: Command) -> None: ...

    def hear(self, event: Event) -> None: ...

    def end(self, comparison: Comparison) -> str:
        """What is still to be delivered and why; empty where all has been."""
        ...


class Untracked:
    def begin(self, command: Command) -> None:
        pass

    def hear(self, event: Event) -> None:
        pass

    def end(self, comparison: Comparison) -> str:
        return ""

"""Who is told of a command's runs beside the journal."""

from collections.abc import Mapping
from typing import Any, Protocol

from ..runs.events import Event
from ..runs.study import Command


class Told(Protocol):
    """What a command came to: a comparison, or a search."""

    @property
    def failed(self) -> list[Any]: ...

    @property
    def stopped(self) -> bool: ...

    @property
    def report(self) -> str: ...

    def covers(self) -> Mapping[str, Any]: ...

    def means(self) -> Mapping[str, float]: ...

    def frame(self) -> Any: ...


class Tracker(Protocol):
    """Mirrors journals somewhere else; never waits while runs are made."""

    def begin(self, command: Command) -> None: ...

    def grow(self, command: Command) -> None:
        """The same command, with more runs."""
        ...

    def hear(self, event: Event) -> None: ...

    def end(self, comparison: Told) -> str:
        """What is still to be delivered and why; empty where all has been."""
        ...


class Untracked:
    def begin(self, command: Command) -> None:
        pass

    def grow(self, command: Command) -> None:
        pass

    def hear(self, event: Event) -> None:
        pass

    def end(self, comparison: Told) -> str:
        return ""

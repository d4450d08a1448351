"""Checkpoints that are written while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Saving:
    """Calls `save` in a thread of its own, one call at a time; the block's end waits for the last.

    What goes wrong there is raised by whichever of `check`, `give` and `settle` comes next. A checkpoint that is
    given away is a snapshot: nobody writes to its tensors any more.
    """

    def __init__(self, save: Callable[..., None]):
        self._save, self._thread, self._last = save, ThreadPoolExecutor(1, "saving"), None

    def __enter__(self) -> "Saving":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            self.settle()

    def give(self, *what: Any) -> None:
        """Have it saved, after the one before: two in memory are one too many."""
        self.settle()
        self._last: Future[None] | None = self._thread.submit(self._save, *what)

    def check(self) -> None:
        """Raises what a save that is over has raised."""
        if self._last is not None and self._last.done():
            self.settle()

    def settle(self) -> None:
        """Wait for the save in hand, and raise what it raises."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

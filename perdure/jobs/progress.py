"""A line a minute, where a command's output is no terminal: what is done and under way, and how long the rest takes.

`perdure job status` reads the same lines in a job's log: that is all of a job which a laptop can always see, whether
its results go to an object store or a folder of the cluster, and after its end too. Ray takes a job's metadata when it
is submitted, and no more later.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from .terminal import saying

MINUTE = 60.0  # seconds between two lines
_COUNTED = re.compile(r"^(?:progress: ([\d,]+) of ([\d,]+) (\w+)|\[(\d+)/(\d+)\] )", re.MULTILINE)


def minutely(told: Callable[[], str], console: Any) -> AbstractContextManager[Any]:
    """Lines on a console that is no terminal; a terminal has bars, or lines of its own."""
    return nullcontext() if console.is_terminal else Minutely(told, saying(console))


class Minutely:
    """Says every minute what `told` says, while the block lasts; nothing where it says nothing."""

    def __init__(self, told: Callable[[], str], say: Callable[[str], None]):
        self._told, self._say, self._over = told, say, threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> "Minutely":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        with suppress(OSError):  # nobody reads any more
            while not self._over.wait(MINUTE):
                if text := self._told():
                    self._say(f"progress: {text}")


class Pace:
    """How long the rest takes, if it goes on as it went since this was made."""

    def __init__(self):
        self._start = time.monotonic()

    def left(self, done: float, rest: float) -> str:
        """What follows a count, for work that was done since and that is left; nothing where nothing is known."""
        if done <= 0 or rest <= 0:
            return ""
        return f", about {duration((time.monotonic() - self._start) * rest / done)} left"


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader would choose, as coarse as an estimate is.

    >>> duration(42), duration(700), duration(9000), duration(300_000)
    ('40 s', '12 min', '2.5 h', '3 days')
    """
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.0f} days"


def counted(log: str) -> str:
    """How far a command has come by what it has printed, as "7 of 20 runs"; empty where it has told nothing."""
    last = {}
    for done, of, what, ended, runs in _COUNTED.findall(log):
        last[what or "runs"] = f"{done or ended} of {of or runs} {what or 'runs'}"
    return ", ".join(last.values())

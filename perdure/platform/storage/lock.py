"""A lock on a folder, which the system lifts when its holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Busy(ValueError):
    """Another process has this command in hand."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A lock that the machine lifts when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(f"process {file.read() or '?'} is at work on this already ({folder})") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

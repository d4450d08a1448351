"""Who makes what, among the processes of one home: a lock for every run, which the machine lifts when its holder dies.

One file for all of them, of which each run has a byte: thousands are held at once. Where a file system knows no locks
there are none, and attempts are fenced as ever (see `store`).
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

FILE = "claims"
LOOK = 0.1  # seconds between two looks whether another has let go
_NONE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Claims:
    """What one command has claimed in a home; let go of with `close`."""

    def __init__(self, home: str):
        folder = Path(home)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, name: str) -> bool:
        """Whether it is this command's now; False where another has it."""
        try:
            self._set(fcntl.F_WRLCK, name)
        except OSError as e:
            if e.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if e.errno not in _NONE:
                raise
        return True

    def release(self, name: str) -> None:
        try:
            self._set(fcntl.F_UNLCK, name)
        except OSError as e:
            if e.errno not in _NONE:
                raise

    def close(self) -> None:
        os.close(self._file)

    def _set(self, kind: int, name: str) -> None:
        """Of the open file and not of the process, so that two commands in one process keep out of each other's way."""
        place = int(sha256(name.encode()).hexdigest()[:15], 16)
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack("@hhqqi", kind, os.SEEK_SET, place, 1, 0))


@contextmanager
def claimed(home: str, name: str) -> Iterator[None]:
    """Wait until nobody else has it, and have it."""
    claims = Claims(home)
    try:
        while not claims.take(name):
            time.sleep(LOOK)
        yield
    finally:
        claims.close()

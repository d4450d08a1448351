"""A disk that is full: what has no room, and what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import write
from .locations import line_for


class NoRoom(ValueError):
    """A disk is full. The message names the folder and what to do."""


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a quota, is what an error comes from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def full(folder: Path | str) -> str:
    """What is said of a folder that nothing more can be written to."""
    while not Path(folder).exists():
        folder = Path(folder).parent
    disk = shutil.disk_usage(folder)
    return (
        f"no room left in {folder}: {disk.free:,} of {disk.total:,} bytes are free on its disk, or a quota is reached"
    )


@contextmanager
def room(folder: Path | str) -> Iterator[None]:
    """A block that writes to a folder. Raises NoRoom."""
    try:
        yield
    except Exception as e:
        if not is_full(e):
            raise
        raise NoRoom(f"{full(folder)}; make room and type the command again, which goes on with what is whole") from e


def written(path: Path, content: bytes) -> str:
    """Write what can be made again at any time; why it could not be, or nothing."""
    try:
        write(path, content)
    except OSError as e:
        if not is_full(e):
            raise
        return f"{path.name} is not written: {full(path.parent)}; make room, and {line_for('resume')} writes it"
    return ""

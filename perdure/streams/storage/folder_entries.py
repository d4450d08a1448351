"""What lies in a folder now: its entries, how each of them is, and what is in them."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")
KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
State = tuple[tuple[str, int, int, int], ...]  # of every file: path below the entry, mode, bytes, when it was changed


@dataclass(frozen=True)
class Entry:
    """A file or a folder as it was when it was looked at."""

    path: Path
    state: State
    problem: str = ""  # why it must not be opened; empty where it may be

    @property
    def unread(self) -> str:
        """What it is remembered by where its content cannot be: its name and how it is."""
        return hashlib.sha256(repr((self.path.name, self.state)).encode()).hexdigest()

    @property
    def size(self) -> int:
        return sum(size for _, mode, size, _ in self.state if stat.S_ISREG(mode))


def entries(root: Path) -> list[Entry]:
    """Those of a folder by name, without what is passed over or under way. Raises OSError where it cannot be read."""
    with os.scandir(root) as found:
        names = sorted(entry.name for entry in found)
    return [entry for name in names if (entry := looked(root / name)) is not None]


def looked(path: Path) -> Entry | None:
    """An entry as it is now; None for one that is passed over, under way or gone."""
    if path.name.startswith((".", "_")) or _temporary(path.name):
        return None
    try:
        own = _stat(str(path))
    except FileNotFoundError:
        return None
    if not stat.S_ISDIR(own[0]):
        return Entry(path, (("", *own),), _problem(own[0], "it"))
    parts, problem = [], ""
    try:
        for below, link in _walked(path):
            if _temporary(below):
                return None
            known = _stat(f"{path}/{below}")
            parts.append((below, *known))
            if link and stat.S_ISDIR(known[0]):
                problem = problem or f"{below} in it is a link to a folder, which is not followed; copy the folder"
            problem = problem or _problem(known[0], below)
    except FileNotFoundError:
        return None
    except OSError as e:
        problem = str(e)
    return Entry(path, tuple(sorted(parts)), problem)


def content(path: Path) -> str:
    """What a file, or all files in a folder, are remembered by."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    below = sorted((below for below, _ in _walked(path)), key=lambda below: below.split("/"))
    parts = [(one, content(path / one)) for one in below if (path / one).is_file()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def shown(text: str) -> str:
    """A name as it can be printed and written anywhere: bytes that are no UTF-8, and control characters, escaped."""
    whole = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in whole)


def _temporary(name: str) -> bool:
    return name.lower().endswith(TEMPORARY)


def _walked(path: Path) -> Iterator[tuple[str, bool]]:
    """All that is below a folder, by its path there, and whether it is a link; links to folders are not followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(f"{path}/{folder}") as found:  # texts: pathlib takes most of the time of a look
            for entry in found:
                below = f"{folder}/{entry.name}" if folder else entry.name
                yield below, entry.is_symlink()
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(below)


def _stat(path: str) -> tuple[int, int, int]:
    """Mode, bytes and time of change of what is there; of a link that leads nowhere or in circles, its own."""
    try:
        known = os.stat(path)
    except OSError:
        known = os.lstat(path)
    return known.st_mode, known.st_size, known.st_mtime_ns


def _problem(mode: int, what: str) -> str:
    if stat.S_ISLNK(mode):
        return f"{what} is a link that leads to nothing, or to itself"
    kind = KINDS.get(stat.S_IFMT(mode))
    return f"{what} is {kind}; expected a file" if kind else ""

"""A folder that receives files."""

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from . import arrays, images, table
from .dataset import DataError
from .live import Item, LiveSource, SetAside, arrival

TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", "~")
LOOKS = 0.1  # seconds between two looks at what is being written
State = tuple[tuple[str, int, int], ...]  # of every file: its path below the entry, bytes, and when it was changed


@dataclass(frozen=True)
class Folder(LiveSource):
    """Files .npz (x, y), .csv or .parquet, and folders of class folders of pictures, each an arrival.

    An entry counts once it has stayed as it is for `settle` seconds. Names that begin with `.` or `_`, or end as those
    of files under way do (.part, .tmp, .crdownload, ~ ...) are passed over, and a folder that holds one is not
    complete: whoever writes under such a name and renames is never read too early. Of the complete ones the first by
    name comes next. What is remembered is the content: a copy under another name is the same arrival, a file that was
    changed is another.
    """

    folder: str
    label: str = "label"  # column of tables
    size: int | None = None  # pixels; scales every picture to size x size
    settle: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "folder", str(Path(self.folder).expanduser().absolute()))  # actors work elsewhere

    def arrivals(self, seen):
        root = Path(self.folder)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root} to follow; make it, or name another")
        still: dict[str, tuple[State, float]] = {}  # how entries were when, and since when they have been so
        told: dict[str, State] = {}
        while True:
            states = {path.name: state for path in sorted(root.iterdir()) if (state := _state(path)) is not None}
            fresh = {name: state for name, state in states.items() if told.get(name) != state}
            now = time.monotonic()
            still = {n: still[n] if n in still and still[n][0] == state else (state, now) for n, state in fresh.items()}
            ready = next((name for name, (_, since) in still.items() if now - since >= self.settle), None)
            if ready is None:
                if fresh:
                    time.sleep(LOOKS)
                else:
                    yield None
                continue
            item = self._read(root / ready, seen)
            if _state(root / ready) == fresh[ready]:  # it was not changed meanwhile
                told[ready] = fresh[ready]
                if item is not None:
                    yield item

    def _read(self, path: Path, seen: Collection[str]) -> Item:
        """None where it is known, or gone."""
        try:
            id = _content(path)
        except FileNotFoundError:
            return None
        except OSError as e:
            return SetAside(hashlib.sha256(repr((path.name, _state(path))).encode()).hexdigest(), path.name, str(e))
        if id in seen:
            return None
        try:
            if path.is_dir():
                x, y = images.samples(path, self.size)
            elif path.suffix == ".npz":
                x, y = arrays.samples(path)
            elif path.suffix in (".csv", ".parquet"):
                x, y = table.samples(path, self.label)
            else:
                raise DataError(f"expected .npz, .csv, .parquet or a folder of class folders of pictures, got {path}")
        except (ValueError, OSError) as e:
            return SetAside(id, path.name, str(e))
        return arrival(id, path.name, x, y)


def _passed_over(name: str) -> bool:
    return name.startswith((".", "_")) or name.lower().endswith(TEMPORARY)


def _state(path: Path) -> State | None:
    """How an entry is now; None for one that is passed over, under way or gone."""
    if _passed_over(path.name):
        return None
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    if any(file.name.lower().endswith(TEMPORARY) for file in files):
        return None
    try:
        known = [(file, file.stat()) for file in files]
    except FileNotFoundError:
        return None
    return tuple((str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns) for file, stat in known)


def _content(path: Path) -> str:
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    parts = [(str(f.relative_to(path)), _content(f)) for f in sorted(path.rglob("*")) if f.is_file()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()

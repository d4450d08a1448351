"""A folder that receives files."""

import importlib.util
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ..datasets import arrays, images, table
from ..datasets.dataset import DataError
from ..storage.directories import Places
from ..storage.folder_entries import Entry, State, content, entries, looked, shown
from ..storage.limited_process import Raised, Told, Unfinished, apart
from .source import Arrival, Item, LiveSource, SetAside, arrival

LOOKS = 0.1  # seconds between two looks at what is being written
PATIENCE = 60.0  # seconds after which what is still being written is waited for no more than what has not come
REST = 10  # times as long as a look took until the next: a folder of many files is not looked through all the time
SMALL = 1 << 26  # bytes of what is looked at for being known already without another process
TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Folder(LiveSource):
    """Files .npz (x, y), .csv or .parquet, and folders of class folders of pictures, each an arrival.

    An entry counts once it has stayed as it is for `settle` seconds. Names that begin with `.` or `_`, or end as those
    of files under way do (.part, .tmp, .crdownload, ~ ...) are passed over, and a folder that holds one is not
    complete: whoever writes under such a name and renames is never read too early. Of the complete ones the first by
    name comes next. What is remembered is the content: a copy under another name is the same arrival, a file that was
    changed is another.

    Each is read in a process of its own. What cannot be read, or takes more than `memory` and `seconds`, is set aside.
    A folder that has gone is waited for.
    """

    folder: str
    label: str = "label"  # column of tables
    size: int | None = None  # pixels; scales every picture to size x size
    settle: float = 1.0
    memory: float | None = None  # GB that reading an arrival may take; a quarter of the machine's by default
    seconds: float = 600.0  # that reading an arrival may take

    def __post_init__(self):
        object.__setattr__(self, "folder", str(Path(self.folder).expanduser().absolute()))  # actors work elsewhere
        if self.seconds <= 0 or (self.memory is not None and self.memory <= 0):
            raise ValueError(f"expected memory and seconds above 0, got {self.memory} GB and {self.seconds:g} s")

    def arrivals(self, seen):
        root = Path(self.folder)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root} to follow; make it, or name another")
        waiting: dict[str, tuple[State, float, float]] = {}  # how entries were when, since when so, and since when seen
        told: dict[str, State] = {}
        while True:
            began = time.monotonic()
            found = _found(root)
            now = time.monotonic()
            rest = min(REST * (now - began), PATIENCE / 10)
            if found:  # else it has gone perhaps, and what comes back with it is known
                told = {name: state for name, state in told.items() if name in found}
            fresh = {name: entry for name, entry in found.items() if told.get(name) != entry.state}
            waiting = {name: _waits(waiting.get(name), entry.state, now) for name, entry in fresh.items()}
            ready = [fresh[name] for name, (_, since, _) in waiting.items() if now - since >= self.settle]
            for entry in ready:
                item = self._read(entry, seen)
                if looked(entry.path) == entry:  # it was not changed meanwhile
                    told[entry.path.name] = entry.state
                    if item is not None:
                        yield item
                if time.monotonic() - now >= rest:  # one may have come that is before the others
                    break
            if not ready and any(now - first < PATIENCE for _, _, first in waiting.values()):
                time.sleep(max(LOOKS, rest))
            elif not ready:
                time.sleep(rest)
                yield None

    def _read(self, entry: Entry, seen: Collection[str]) -> Item:
        """None where it is known, or gone."""
        path, id, name = entry.path, entry.unread, shown(entry.path.name)
        memory = Places().room if self.memory is None else int(self.memory * 1e9)
        if id in seen:
            return None
        if entry.problem:
            return SetAside(id, name, shown(f"{path} cannot be read: {entry.problem}"))
        if path.suffix in (*TABLES, ".npz") and entry.size > memory:
            has, may = entry.size / 1e9, memory / 1e9
            return SetAside(
                id, name, shown(f"{path} has {has:.3g} GB, and an arrival may take {may:.3g} GB; divide it")
            )
        _known(path)
        try:
            if entry.size <= SMALL:
                id = content(path)
                if id in seen:
                    return None
            for words, samples in apart(partial(self._made, path, name, seen), memory, self.seconds):
                id = words["id"]
                if "reason" in words:
                    return SetAside(**words)
                if samples:
                    return Arrival(id, name, samples[0], samples[1], tuple(words["columns"]))
        except FileNotFoundError:
            return None
        except Unfinished as e:
            more = f"folder('{self.folder}', memory=GB, seconds=N)"
            return SetAside(id, name, shown(f"{path} cannot be read: {e}; divide it, or allow more with {more}"))
        except (Raised, OSError) as e:
            return SetAside(id, name, shown(str(e) if str(path) in str(e) else f"{path} cannot be read: {e}"))
        return None

    def _made(self, path: Path, name: str, seen: Collection[str]) -> Iterator[Told]:
        """What it is remembered by, and where that is not known, the arrival."""
        id = content(path)
        if id in seen:
            return
        yield {"id": id}, ()
        columns: tuple[str, ...] = ()
        if path.is_dir():
            x, y = images.samples(path, self.size)
        elif path.suffix == ".npz":
            x, y = arrays.samples(path)
        elif path.suffix in TABLES:
            x, y, columns = table.samples(path, self.label)
        else:
            raise DataError(f"expected .npz, .csv, .parquet or a folder of class folders of pictures, got {path}")
        made = arrival(id, name, x, y, columns)
        yield ({"id": id, "columns": columns}, (made.x, made.y)) if isinstance(made, Arrival) else (asdict(made), ())


def _found(root: Path) -> dict[str, Entry]:
    """The entries of a folder; none where it cannot be looked into now, as a disk that is away."""
    try:
        return {entry.path.name: entry for entry in entries(root)}
    except OSError:
        return {}


def _waits(before: tuple[State, float, float] | None, state: State, now: float) -> tuple[State, float, float]:
    if before is None:
        return state, now, now
    return before if before[0] == state else (state, now, before[2])


def _known(path: Path) -> None:
    """Import what reads such files, once and not in every process that does."""
    needed = "pandas" if path.suffix in TABLES else "PIL.Image" if path.is_dir() else "numpy"
    if importlib.util.find_spec(needed.partition(".")[0]):  # who lacks it is told as it is read
        importlib.import_module(needed)

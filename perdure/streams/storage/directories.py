"""Where data are looked for: a folder that is given, the environment, a per-user cache, the system."""

import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...limits import memory

SHARE = 4  # of a machine's memory, a data set may take one part
SENT = "PERDURE_SENT"  # in a submitted job, the folder of what was sent along with its line
SYSTEM = ("/usr/share/datasets", "/usr/local/share/datasets")


class DataNotFound(FileNotFoundError):
    """No place has the data; the message names all that were looked at and what to do."""


@dataclass(frozen=True)
class Places:
    """Looked at in this order: `folder` (--data), $PERDURE_DATA, the per-user cache, system folders, the network."""

    folder: str | None = None
    download: bool = True
    system: tuple[str, ...] = SYSTEM

    @property
    def cache(self) -> Path:
        """Where downloads are kept. Raises ValueError, as `user_cache` does."""
        return user_cache() / "datasets"

    @property
    def maps(self) -> Path:
        """Where data that do not fit into memory are kept as they are mapped."""
        return self.cache.with_name("mapped")

    @property
    def room(self) -> int:
        """Bytes that a data set may take in memory: $PERDURE_ROOM, or a quarter of what this machine has.

        Raises ValueError where the variable is no number of bytes.
        """
        given = os.environ.get("PERDURE_ROOM")
        if given:
            return _bytes(given)
        return memory() // SHARE

    def named(self) -> list[tuple[str, Path | None]]:
        """What each place is called, and its folder where there is one."""
        environment = os.environ.get("PERDURE_DATA")
        given = [("--data", self.folder), ("$PERDURE_DATA", environment)]
        caches = [("per-user cache", folder / "datasets") for folder in known_caches()]
        kept = [*caches, *(("system folder", folder) for folder in self.system)]
        return [(name, Path(folder).expanduser() if folder else None) for name, folder in (*given, *kept)]

    def find(
        self, folders: Sequence[str], files: Sequence[str], twins: Sequence[str] = ()
    ) -> tuple[dict[str, Path] | None, list[str]]:
        """The paths of all `files` (or of them gzipped) in the first folder that has them all.

        folders: below each place, "." for the place itself, which is not looked into where it bears
        the name of one of `twins`, other data sets with files of the same names.
        Where nothing is found: None, and for every place what was seen there.
        """
        seen = []
        for name, place in self.named():
            if place is None:
                seen.append(f"{name}: not given")
                continue
            fewest: list[Path] = [place] * len(files)  # missing, in the folder that comes nearest
            for folder in (place / f for f in folders if f != "." or not _bears(place, twins)):
                found = {file: path for file in files if (path := _plain_or_gzipped(folder / file))}
                if len(found) == len(files):
                    return found, []
                fewest = min(fewest, [folder / file for file in files if file not in found], key=len)
            lacking = "not there" if len(fewest) == len(files) else f"incomplete, {fewest[0]} is missing"
            seen.append(f"{name}: {place}: {lacking if place.is_dir() else 'no such folder'}")
        return None, seen

    def locate(self, path: str) -> Path:
        """A file or folder of one's own: as it is written, or else below --data or $PERDURE_DATA; in a submitted job,
        what was sent along by this path."""
        along = [Path(os.environ[SENT], sent(path))] if SENT in os.environ else []
        bases = [Path(), *(place for name, place in self.named()[:2] if place is not None)]
        tried = [*along, *(base / Path(path).expanduser() for base in bases)]
        for candidate in tried:
            if candidate.exists():
                return candidate
        looked = ", ".join(dict.fromkeys(str(candidate.absolute()) for candidate in tried))
        raise DataNotFound(
            f"{path} was not found; looked at {looked}. Give an absolute path, or its folder as --data DIR"
        )


def sent(path: str) -> str:
    """Where what goes along with a submitted line lies there, by how the line names it.

    >>> sent("./photos/cats"), sent("/home/me/photos"), sent("../photos")
    ('photos/cats', '_root/home/me/photos', '_up/photos')
    """
    elsewhere = {"/": "_root", "..": "_up", "~": "_home"}
    return str(PurePosixPath(*(elsewhere.get(part, part) for part in PurePosixPath(path).parts)))


def user_cache() -> Path:
    """Where this user's files are written: `perdure` in $XDG_CACHE_HOME, else in ~/.cache; where there is no home or it
    cannot be written to (in a container, as a service), a folder of this user's alone among the temporary files.

    Raises ValueError where $XDG_CACHE_HOME, or the temporary folder, cannot be used; the message has the remedy.
    """
    given, home = os.environ.get("XDG_CACHE_HOME"), _home_cache()
    if home is not None and writable(home):
        return home
    if given:
        raise ValueError(
            f"XDG_CACHE_HOME is {given}, where user {os.getuid()} cannot write; name another folder with it"
        )
    folder = _temporary()
    with suppress(OSError):  # what is there, or is not, is told of below
        folder.mkdir(mode=0o700)
    if not _private(folder):
        raise ValueError(
            f"{folder} is not a folder that user {os.getuid()} alone can write to, and there is no home that can be "
            "written to; name a folder with XDG_CACHE_HOME"
        )
    return folder


def known_caches() -> list[Path]:
    """Where this user's files are looked for: in a home that cannot be written to as well."""
    home, temporary = _home_cache(), _temporary()
    return [*([home] if home is not None else []), *([temporary] if _private(temporary) else [])]


def _home_cache() -> Path | None:
    """The cache in the home of this user; None where there is no home: no HOME, and no entry of this user's number."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(given) if given else Path.home() / ".cache") / "perdure"
    except RuntimeError:
        return None


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"perdure-{os.getuid()}"


def _private(folder: Path) -> bool:
    """Whether it is a folder of this user's that nobody else can write to: names of temporary files are anybody's."""
    try:
        known = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(known.st_mode) and known.st_uid == os.getuid() and not known.st_mode & 0o022


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or it can be made in what there is of its parents."""
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _bytes(text: str) -> int:
    """What `500M` or `2.5G` says."""
    number, unit = text[:-1], text[-1:].upper()
    try:
        return int(float(number) * 1000 ** (1 + "KMGT".index(unit))) if unit in "KMGT" else int(text)
    except ValueError:
        raise ValueError(f"PERDURE_ROOM must be a number of bytes such as 500M or 2.5G, got {text!r}") from None


def _plain_or_gzipped(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def _bears(place: Path, names: Sequence[str]) -> bool:
    """Whether a folder (of a data set's raw files: the one above) is called by one of `names`, however spelled."""
    place = place.absolute()
    own = place.parent.name if place.name == "raw" else place.name
    return own.lower().replace("-", "").replace("_", "") in [name.replace("_", "") for name in names]

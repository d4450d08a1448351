"""The common image data sets, read by torchvision from wherever their files lie."""

import gzip
import shutil
import urllib.error
import urllib.request
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from zipfile import BadZipFile

from torch import Tensor

from ..storage.directories import DataNotFound, Places
from .dataset import DataError, Dataset, Part, Source

REACH = 5  # seconds to wait for a server before the network counts as away
PACKED = {".gz", ".zip"}  # left behind by a download, beside what was in them, unless it is them that are read


@dataclass(frozen=True)
class Vision(Source):
    """Files that torchvision can read, in torchvision's own layout or simply lying in a folder, gzipped or not.

    Raises DataNotFound with every place looked at and each remedy, DataError for damaged files.
    """

    name: ClassVar[str]  # in the notation, and of a folder that holds the files
    home: ClassVar[str]  # folder below torchvision's root
    package: ClassVar[str] = ""  # of Debian
    twins: ClassVar[tuple[str, ...]] = ()  # other data sets whose files are called the same

    @abstractmethod
    def files(self) -> Sequence[str]:
        """Names of the files that are needed, as torchvision calls them."""

    @abstractmethod
    def read(self, root: Path, train: bool, download: bool = False) -> Any:
        """torchvision's data set over its own layout below `root`."""

    @abstractmethod
    def urls(self) -> Sequence[str]:
        """Where torchvision downloads from, any of which will do."""

    def part(self, read: Any) -> tuple[Tensor, Tensor, Sequence[str]]:
        """Images (N, C, H, W), labels and class names from what torchvision has read."""
        return read.data[:, None], read.targets, read.classes

    def dataset(self, first: Any, second: Any) -> Dataset:
        """The data set of torchvision's one to train on and one to test on."""
        (x, y, classes), (x_test, y_test, _) = self.part(first), self.part(second)
        return Dataset(Part(x.contiguous(), y), Part(x_test.contiguous(), y_test), tuple(map(str, classes)))

    def paths(self, places: Places) -> Sequence[Path]:
        return list((self._found(places)[0] or {}).values())

    def load(self, places: Places) -> Dataset:
        found, seen = self._found(places)
        found = found or self._downloaded(places, seen)
        try:
            with _staged(found, self.home) as root:
                return self.dataset(*(self.read(root, train) for train in (True, False)))
        except DataError:
            raise
        except (AssertionError, BadZipFile, EOFError, OSError, RuntimeError, TypeError, ValueError, zlib.error) as e:
            if isinstance(e, OSError) and e.errno is not None:
                raise  # not the data but the machine: a full disk, a forbidden folder
            folder = next(iter(found.values())).parent
            why = f"{type(e).__name__}: {e}".strip(": ")
            raise DataError(f"the files of {self.name} in {folder} are damaged ({why}); fetch them anew") from e

    def _found(self, places: Places) -> tuple[dict[str, Path] | None, list[str]]:
        stem = self.home.split("/")[0]
        folders = (self.home, stem, self.name, self.name.replace("_", "-"), f"{self.name}/{self.home}", ".")
        return places.find(tuple(dict.fromkeys(folders)), self.files(), self.twins)

    def _downloaded(self, places: Places, seen: list[str]) -> dict[str, Path]:
        """The files, after a download into the per-user cache: all of them, or none."""
        away = _unreachable(self.urls()) if places.download else "switched off"
        if away:
            raise self._not_found(places, [*seen, f"download: {away}"])
        into = places.cache / self.name
        try:
            into.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=places.cache, prefix="download-") as folder:
                for train in (True, False):
                    self.read(Path(folder), train, download=True)
                for path in (Path(folder) / self.home).iterdir():
                    if path.is_file() and (path.suffix not in PACKED or path.name in self.files()):
                        path.replace(into / path.name)
        except (OSError, RuntimeError, HTTPException) as e:
            raise self._not_found(places, [*seen, f"download: failed, {e}"]) from e
        return {file: into / file for file in self.files()}

    def _not_found(self, places: Places, seen: list[str]) -> DataNotFound:
        files = self.files()
        wanted = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        remedies = [
            f"put the files into a folder and name it with --data DIR or PERDURE_DATA=DIR ({wanted}, gzipped or not)",
            *([f"apt install {self.package}"] if self.package else []),
            f"run once where there is a network: they are kept in {places.cache}",
        ]
        lines = [f"{self.name} was not found. Looked at:", *(f"  {place}" for place in seen)]
        return DataNotFound("\n".join([*lines, "What helps, any one of:", *(f"  - {remedy}" for remedy in remedies)]))


@contextmanager
def _staged(files: dict[str, Path], home: str) -> Iterator[Path]:
    """A root in torchvision's layout for a while: plain files linked, gzipped ones unpacked."""
    with TemporaryDirectory(prefix="perdure-") as root:
        folder = Path(root) / home
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            if path.suffix == ".gz":
                with gzip.open(path) as packed, (folder / name).open("wb") as plain:
                    shutil.copyfileobj(packed, plain, 1 << 20)
            else:
                (folder / name).symlink_to(path.absolute())
        yield Path(root)


def _unreachable(urls: Sequence[str]) -> str:
    """Why none of the servers answers; empty where one does. torchvision itself would wait for ever."""
    reason = ""
    for url in urls:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH).close()
        except urllib.error.HTTPError as e:
            e.close()
            return ""  # it answers; torchvision will say what is wrong
        except OSError as e:
            reason = f"no network ({getattr(e, 'reason', e)})"
        else:
            return ""
    return reason

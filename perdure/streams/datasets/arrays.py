"""Data of one's own as arrays: in a NumPy archive, or in files of their own that can be mapped."""

import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ...errors import reading
from ...limits import expect_room, size
from ..storage.memory_map import Filed, Mapped, gathered, stamp
from .custom import Labelled, classes_of, dealt, experiences_of, labels_among, picked, refuse_gaps
from .dataset import CHUNK, DataError, Dataset, Part, Source
from .placement import Draft, Holder

SAVE = "save several by name with np.savez(FILE, x=x, y=y)"
PACKED, SMALL = 1000, 100_000_000  # times that an archive of data may be packed, where it is of more bytes than these
NAMES = [f"{name}{suffix}" for name in ("x", "y", "experience") for suffix in ("", "_test")]


@dataclass(frozen=True)
class Arrays(Source):
    """A .npz file of x (N, ...) and y (N,), and where there are some x_test, y_test, experience, experience_test.

    Or a folder of x.npy, y.npy and so on, where x may be larger than memory: it is mapped then.
    x: images uint8 (N, C, H, W) or (N, H, W), or any floats, taken as they are; y: whole numbers
    from 0, or texts; experience: numbers or texts, met in sorted order (with `assigned`). Without
    x_test a share of every class is kept to test on.
    """

    file: str
    test_share: float = 0.2
    seed: int = 0  # of the choice of test samples

    def load(self, places) -> Dataset:
        path = places.locate(self.file)
        found = _folder(path, places.room) if path.is_dir() else plain_arrays(path)
        for name in ("x", "y", *(("y_test",) if "x_test" in found else ())):
            if name not in found:
                raise DataError(f"expected an array {name!r} in {path}, found {', '.join(sorted(found)) or 'none'}")
        train = _samples(found, "", path)
        holder = Holder(places, path.stem, repr((str(path.absolute()), asdict(self), _stamps(path))))
        if "x_test" not in found:
            return self._divided(train, holder)
        test = _samples(found, "_test", path, train.classes)
        parts = Part(train.x, train.y), Part(test.x, test.y)
        if "experience" not in found:
            return holder.dataset(*parts, train.classes)
        if "experience_test" not in found:
            raise DataError(f"expected an array 'experience_test' in {path}, as there are x_test and experience")
        first, order = experiences_of(found["experience"], len(train.y))
        second, _ = experiences_of(found["experience_test"], len(test.y), order)
        return holder.dataset(*parts, train.classes, (first, second))

    def paths(self, places):
        path = places.locate(self.file)
        return [path, *sorted(path.glob("*.npy"))] if path.is_dir() else [path]

    def _divided(self, whole: Labelled, holder: Holder) -> Dataset:
        x, y, classes = whole.x, whole.y, whole.classes
        rows = dealt(y, whole.experience, len(classes), self.test_share, self.seed, whole.naming)
        kind = np.uint8 if x.dtype == torch.uint8 else np.float32
        drafts = [Draft((len(r), *x.shape[1:]), kind, partial(_chunks, x, r)) for r in rows]
        train, test = (Part(some, y[r]) for some, r in zip(holder.samples(lambda: drafts), rows, strict=True))
        return holder.dataset(train, test, classes, picked(whole.experience, rows))


def _chunks(x: Tensor, rows: Tensor) -> Iterator[np.ndarray]:
    size = max(1, CHUNK // prod(x.shape[1:]))
    return (gathered(x, some).numpy() for some in rows.split(size))


def _stamps(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    return [(file.name, stamp(file)) for file in (sorted(path.glob("*.npy")) if path.is_dir() else [path])]


def _folder(path: Path, room: int) -> dict[str, np.ndarray]:
    """The arrays of a folder; x in memory where there is room for it, else as memory maps."""
    found = {}
    for file in (path / f"{name}.npy" for name in NAMES):
        if file.exists():
            remedy = "save one array in each file with np.save"
            with reading(f"{file} cannot be read as a .npy file of a plain array", remedy, DataError):
                with file.open("rb") as opened:
                    np.lib.format.read_magic(opened)  # or NumPy takes it for an archive, or for a pickle
                found[file.stem] = np.load(file, mmap_mode="r", allow_pickle=False)
    large = sum(array.nbytes for name, array in found.items() if name[0] == "x") > room
    return {name: array if large and name[0] == "x" else np.array(array) for name, array in found.items()}


def checked(x: np.ndarray, labels: np.ndarray, suffix: str, where: object) -> np.ndarray:
    """Samples (N, ...) with as many labels, as uint8 or float32, images as (N, C, H, W). Raises DataError.

    The values of mapped ones, which are read once and by parts, are for others to look at.
    """
    if x.ndim < 2 or labels.shape != x.shape[:1]:
        raise DataError(f"expected x{suffix} (N, ...) and y{suffix} (N,) in {where}, got {x.shape} and {labels.shape}")
    if x.dtype.kind == "f" and not isinstance(x, np.memmap):
        with np.errstate(over="ignore"):  # what overflows is refused in the next line
            x = x.astype(np.float32)
        refuse_gaps(x, lambda at: f"sample {at} of x{suffix} in {where}")
    elif x.dtype.kind != "f" and x.dtype != np.uint8:
        raise DataError(
            f"expected x{suffix} in {where} as uint8 or floating point, got {x.dtype}; for images in [0, 255] save "
            "x.astype('uint8'), for other numbers x.astype('float32')"
        )
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[:, None]  # grey images
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise DataError(f"expected images (N, C, H, W) in {where}, got {x.shape}; save x.transpose(0, 3, 1, 2)")
    return x


def samples(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays x and y of a .npz file, as they are."""
    found = plain_arrays(path)
    for name in ("x", "y"):
        if name not in found:
            raise DataError(f"expected an array {name!r} in {path}, found {', '.join(sorted(found)) or 'none'}")
    return found["x"], found["y"]


def plain_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file, whose sizes are looked at before anything is read. Raises DataError."""
    with reading(f"{path} cannot be read as a .npz file of plain arrays", SAVE, DataError), path.open("rb") as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path} cannot be read as a .npz file: it is a single array; {SAVE}")
        expect_room(str(path), 2 * _claimed(file, path))
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _claimed(file: IO[bytes], path: Path) -> int:
    """Bytes of all arrays together, as their headers have it. Raises DataError where the archive holds less."""
    total = 0
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as member:
                npy = np.lib.format
                first = npy.read_magic(member) == (1, 0)
                shape, _, dtype = (npy.read_array_header_1_0 if first else npy.read_array_header_2_0)(member)
            if dtype.hasobject:
                raise DataError(
                    f"{path} cannot be read as a .npz file of plain arrays: {entry.filename} holds Python objects, as "
                    "arrays of samples of unequal shapes do; these could be code and are not read"
                )
            claimed = prod(shape) * dtype.itemsize
            if claimed > entry.file_size:
                raise DataError(
                    f"{path} is damaged: the head of {entry.filename} tells of {size(claimed)}, and it has "
                    f"{size(entry.file_size)}"
                )
            total += claimed
    if total > SMALL and total > PACKED * path.stat().st_size:
        raise DataError(
            f"{path} would be {size(total)}, more than {PACKED} times as much as the file: that is no data; {SAVE}"
        )
    return total


def _samples(found: dict[str, np.ndarray], suffix: str, path: Path, classes: tuple[str, ...] | None = None) -> Labelled:
    labels = found[f"y{suffix}"]

    def naming(at: int) -> str:
        return f"sample {at} of x{suffix} in {path}"

    x = found[f"x{suffix}"]
    large = isinstance(x, np.memmap)
    if large and (x.dtype not in (np.uint8, np.float32) or not x.flags.c_contiguous):
        raise DataError(
            f"expected x{suffix} in {path}, which is larger than the memory for it, as uint8 or float32 in C order, "
            f"got {x.dtype}; save np.ascontiguousarray(x, 'float32'), images as 'uint8'"
        )
    x = checked(x, labels, suffix, path)
    y, names = classes_of(labels, naming) if classes is None else (labels_among(labels, classes, naming), classes)
    experience = None
    if f"experience{suffix}" in found and classes is None:
        experience, _ = experiences_of(found["experience"], len(y))
    if large:
        return Labelled(Mapped(Filed.of(path / f"x{suffix}.npy").shaped(*x.shape)), y, names, experience, naming)
    return Labelled(torch.from_numpy(np.ascontiguousarray(x)), y, names, experience, naming)

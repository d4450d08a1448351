"""Pictures of one's own, in a folder per class."""

import csv
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import reading
from ...limits import expect_room
from ..storage.memory_map import stamp
from .custom import dealt, experiences_of, picked
from .dataset import DataError, Dataset, Part, Source
from .placement import Draft, Holder

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}
GREY, DEEP = {"1", "L", "LA"}, {"I", "F", "I;16", "I;16B", "I;16L"}  # modes of Pillow
PIXELS = 80_000_000  # of a picture
CHUNK = 64  # pictures decoded together


@dataclass(frozen=True)
class Images(Source):
    """Pictures in a folder per class; or below sub-folders `train` and `test` that are made like that.

    All grey, or else all colour. Pictures of several sizes need `size`. Without `test` a share of
    every class is kept to test on. experience: a CSV file of lines `path/below/folder.png,experience`,
    numbers or texts that are met in sorted order (with `assigned`). Pictures that decoded do not fit
    into memory are decoded once, into a file in the per-user cache that is mapped.
    """

    folder: str
    size: int | None = None  # pixels; scales every picture to size x size
    experience: str | None = None
    test_share: float = 0.2
    seed: int = 0  # of the choice of test samples

    def __post_init__(self):
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")

    def paths(self, places):
        root = places.locate(self.folder)
        listed = [places.locate(self.experience)] if self.experience else []
        return [root, *listed, *sorted(Path(at, file) for at, _, files in os.walk(root) for file in files)]

    def load(self, places) -> Dataset:
        root = places.locate(self.folder)
        parts = [root / "train", root / "test"]
        divided = all(part.is_dir() for part in parts) and len(_folders(root)) == 2
        classes = tuple(folder.name for folder in _folders(parts[0] if divided else root))
        if len(classes) < 2:
            raise DataError(f"expected a folder per class in {parts[0] if divided else root}, found {len(classes)}")
        found = [_files(part, classes) for part in (parts if divided else [root])]
        paths = [path for part in found for path, _ in part]
        labels = torch.tensor([label for part in found for _, label in part])
        numbers = _assigned(places.locate(self.experience), root, paths) if self.experience else None
        if divided:
            rows = torch.arange(len(paths)).tensor_split([len(found[0])])
        else:
            rows = dealt(labels, numbers, len(classes), self.test_share, self.seed, lambda at: str(paths[at]))

        def drafts() -> list[Draft]:
            form = _form(paths, self.size)
            parts = [[paths[at] for at in some.tolist()] for some in rows]
            return [Draft((len(p), *form), np.uint8, partial(_pictures, p, self.size, form)) for p in parts]

        met = None if numbers is None else numbers.tolist()
        holder = Holder(places, root.name, repr((str(root.absolute()), asdict(self), met, _stamps(paths))))
        train, test = (Part(x, labels[r]) for x, r in zip(holder.samples(drafts), rows, strict=True))
        return holder.dataset(train, test, classes, picked(numbers, rows))


def samples(root: Path, size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, C, H, W) uint8 in a folder per class, and the names of their classes (N,)."""
    classes = tuple(folder.name for folder in _folders(root))
    if not classes:
        raise DataError(f"expected a folder per class in {root}, found none")
    found = _files(root, classes)
    paths = [path for path, _ in found]
    form = _form(paths, size)
    expect_room(f"{len(paths)} pictures in {root}", 2 * len(paths) * prod(form))
    pictures = np.concatenate(list(_pictures(paths, size, form)))
    return pictures, np.array([classes[label] for _, label in found])


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Every picture with its label, in a fixed order."""
    unknown = {f.name for f in _folders(folder)} - set(classes)
    if unknown:
        raise DataError(f"{folder / min(unknown)} is not one of the classes to train on: {', '.join(classes)}")
    found = []
    for label, name in enumerate(classes):
        walked = os.walk(folder / name)  # which asks nothing of the single file
        paths = sorted(Path(at, file) for at, _, files in walked for file in files if _suffix(file) in SUFFIXES)
        if not paths:
            kinds = ", ".join(sorted(SUFFIXES))
            raise DataError(f"class {name!r} has no picture: expected files ({kinds}) in {folder / name}")
        found += [(path, label) for path in paths]
    return found


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _stamps(paths: list[Path]) -> list[tuple[str, tuple[int, ...]]]:
    try:
        return [(str(path), stamp(path)) for path in paths]
    except OSError as e:
        raise DataError(f"{e.filename} is not a readable picture: {e}") from e


def _form(paths: list[Path], size: int | None) -> tuple[int, int, int]:
    """(C, H, W) of all pictures, by what is written at their heads."""
    with ThreadPoolExecutor() as threads:
        heads = list(threads.map(_head, paths))
    channels = max(head[0] for head in heads)
    if size is not None:
        return channels, size, size
    _, height, width = heads[0]
    for path, (_, h, w) in zip(paths, heads, strict=True):
        if (h, w) != (height, width):
            raise DataError(
                f"expected pictures of one size: {paths[0]} has {width} x {height} pixels, {path} has "
                f"{w} x {h}; size={min(height, width)} scales them all"
            )
    return channels, height, width


def _head(path: Path) -> tuple[int, int, int]:
    with opened(path) as image:
        return 1 if image.mode in GREY else 3, image.height, image.width


def _pictures(paths: list[Path], size: int | None, form: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """(n, C, H, W) uint8, some at a time."""
    with ThreadPoolExecutor() as threads:
        for first in range(0, len(paths), CHUNK):
            some = paths[first : first + CHUNK]
            x = np.empty((len(some), *form), np.uint8)
            for into, picture in zip(x, threads.map(lambda path: _picture(path, size), some), strict=True):
                into[:] = picture  # a grey one fills all channels
            yield x


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A picture, of which only the head has been read."""
    from PIL import Image

    broken = f"{path} is not a readable picture"
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # of what is refused below
    with reading(broken, "repair it, or take it away", DataError), Image.open(path) as image:
        if image.width * image.height > PIXELS:
            raise DataError(
                f"{path} has {image.width} x {image.height} pixels, and more than {PIXELS} are not read; "
                "make a smaller copy of it"
            )
        if image.mode in DEEP:
            raise DataError(f"{path} has more than 8 bits a channel; convert it to 8 bits")
        yield image


def _picture(path: Path, size: int | None) -> np.ndarray:
    """(C, H, W) uint8 with one channel or three."""
    from PIL import Image

    with opened(path) as image:
        picture = image.convert("L" if image.mode in GREY else "RGB")
    if size is not None:
        picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _assigned(table: Path, root: Path, paths: list[Path]) -> Tensor:
    with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = [row for row in csv.reader(file) if row]
    short = next((n for n, row in enumerate(rows) if len(row) != 2), None)
    if short is not None:
        raise DataError(f"line {short + 1} of {table} must be `path,experience`, got {','.join(rows[short])!r}")
    listed = dict(rows)
    names = [path.relative_to(root).as_posix() for path in paths]
    missing = next((name for name in names if name not in listed), None)
    if missing is not None:
        raise DataError(f"{table} does not say which experience {missing} belongs to")
    values = [listed[name] for name in names]
    whole = all(value.strip().isdecimal() for value in values)
    return experiences_of(np.array([int(v) for v in values] if whole else values), len(paths))[0]

"""Pictures of one's own, in a folder per class."""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dataset import DataError, Dataset, Part, Source
from .own import Labelled, experiences_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}
GREY, DEEP = {"1", "L", "LA"}, {"I", "F", "I;16", "I;16B", "I;16L"}  # modes of Pillow


@dataclass(frozen=True)
class Images(Source):
    """Pictures in a folder per class; or below sub-folders `train` and `test` that are made like that.

    All grey, or else all colour. Pictures of several sizes need `size`. Without `test` a share of
    every class is kept to test on. experience: a CSV file of lines `path/below/folder.png,experience`,
    numbers or texts that are met in sorted order (with `assigned`).
    """

    folder: str
    size: int | None = None  # pixels; scales every picture to size x size
    experience: str | None = None
    test_share: float = 0.2
    seed: int = 0  # of the choice of test samples

    def __post_init__(self):
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")

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
        x = _pictures(paths, self.size)
        numbers = _assigned(places.locate(self.experience), root, paths) if self.experience else None
        if not divided:
            return Labelled(x, labels, classes, numbers, lambda at: str(paths[at])).divided(self.test_share, self.seed)
        n = len(found[0])
        experience = None if numbers is None else (numbers[:n], numbers[n:])
        return Dataset(Part(x[:n], labels[:n]), Part(x[n:], labels[n:]), classes, experience)


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _files(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Every picture with its label, in a fixed order."""
    unknown = {f.name for f in _folders(folder)} - set(classes)
    if unknown:
        raise DataError(f"{folder / min(unknown)} is not one of the classes to train on: {', '.join(classes)}")
    found = []
    for label, name in enumerate(classes):
        paths = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not paths:
            kinds = ", ".join(sorted(SUFFIXES))
            raise DataError(f"class {name!r} has no picture: expected files ({kinds}) in {folder / name}")
        found += [(path, label) for path in paths]
    return found


def _pictures(paths: list[Path], size: int | None) -> Tensor:
    """(N, C, H, W) uint8."""
    with ThreadPoolExecutor() as threads:
        pictures = list(threads.map(lambda path: _picture(path, size), paths))
    channels = max(picture.shape[0] for picture in pictures)
    height, width = pictures[0].shape[1:]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape[1:] != (height, width):
            raise DataError(
                f"expected pictures of one size: {paths[0]} has {width} x {height} pixels, {path} has "
                f"{picture.shape[2]} x {picture.shape[1]}; size={min(height, width)} scales them all"
            )
    x = np.empty((len(pictures), channels, height, width), np.uint8)
    for into, picture in zip(x, pictures, strict=True):
        into[:] = picture  # a grey one fills all channels
    return torch.from_numpy(x)


def _picture(path: Path, size: int | None) -> np.ndarray:
    """(C, H, W) uint8 with one channel or three."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in DEEP:
                raise DataError(f"{path} has more than 8 bits a channel; convert it to 8 bits")
            picture = image.convert("L" if image.mode in GREY else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as e:  # SyntaxError: Pillow's word for a broken PNG
        raise DataError(f"{path} is not a readable picture: {e}") from e
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

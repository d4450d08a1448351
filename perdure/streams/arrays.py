"""Data of one's own as arrays in a NumPy archive."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .dataset import DataError, Dataset, Part, Source
from .own import Labelled, classes_of, experiences_of, labels_among, refuse_gaps


@dataclass(frozen=True)
class Arrays(Source):
    """A .npz file of x (N, ...) and y (N,), and where there are some x_test, y_test, experience, experience_test.

    x: images uint8 (N, C, H, W) or (N, H, W), or any floats, taken as they are; y: whole numbers
    from 0, or texts; experience: numbers or texts, met in sorted order (with `assigned`). Without
    x_test a share of every class is kept to test on.
    """

    file: str
    test_share: float = 0.2
    seed: int = 0  # of the choice of test samples

    def load(self, places) -> Dataset:
        path = places.locate(self.file)
        found = _read(path)
        for name in ("x", "y", *(("y_test",) if "x_test" in found else ())):
            if name not in found:
                raise DataError(f"expected an array {name!r} in {path}, found {', '.join(sorted(found)) or 'none'}")
        train = _samples(found, "", path)
        if "x_test" not in found:
            return train.divided(self.test_share, self.seed)
        test = _samples(found, "_test", path, train.classes)
        parts = Part(train.x, train.y), Part(test.x, test.y)
        if "experience" not in found:
            return Dataset(*parts, train.classes)
        if "experience_test" not in found:
            raise DataError(f"expected an array 'experience_test' in {path}, as there are x_test and experience")
        first, order = experiences_of(found["experience"], len(train.y))
        second, _ = experiences_of(found["experience_test"], len(test.y), order)
        return Dataset(*parts, train.classes, (first, second))


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array; save several by name with np.savez(FILE, x=x, y=y)")
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        objects = (
            "it holds Python objects, as arrays of samples of unequal shapes do; these could be code and are not read"
        )
        why = objects if "pickle" in str(e) else str(e)
        raise DataError(f"{path} cannot be read as a .npz file of plain arrays: {why}") from e


def _samples(found: dict[str, np.ndarray], suffix: str, path: Path, classes: tuple[str, ...] | None = None) -> Labelled:
    x, labels = found[f"x{suffix}"], found[f"y{suffix}"]

    def naming(at: int) -> str:
        return f"sample {at} of x{suffix} in {path}"

    if x.ndim < 2 or labels.shape != x.shape[:1]:
        raise DataError(f"expected x{suffix} (N, ...) and y{suffix} (N,) in {path}, got {x.shape} and {labels.shape}")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is refused in the next line
            x = x.astype(np.float32)
        refuse_gaps(x, naming)
    elif x.dtype != np.uint8:
        raise DataError(
            f"expected x{suffix} in {path} as uint8 or floating point, got {x.dtype}; for images in [0, 255] save "
            "x.astype('uint8'), for other numbers x.astype('float32')"
        )
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[:, None]  # grey images
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise DataError(f"expected images (N, C, H, W) in {path}, got {x.shape}; save x.transpose(0, 3, 1, 2)")
    y, names = classes_of(labels, naming) if classes is None else (labels_among(labels, classes, naming), classes)
    experience = None
    if f"experience{suffix}" in found and classes is None:
        experience, _ = experiences_of(found["experience"], len(y))
    return Labelled(torch.from_numpy(np.ascontiguousarray(x)), y, names, experience, naming)

"""What all data of one's own have in common: labels, experiences, and a share that is kept to test on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .dataset import DataError, Dataset, Part, stratified

Naming = Callable[[int], str]  # what the i-th sample is called in an error


@dataclass(frozen=True, eq=False)
class Labelled:
    """Samples that are not divided into training and test yet."""

    x: Tensor  # (N, ...) uint8 or float32
    y: Tensor  # (N,) int64
    classes: tuple[str, ...]
    experience: Tensor | None  # (N,) int64
    naming: Naming

    def divided(self, test_share: float, seed: int) -> Dataset:
        """A share of every class, in every experience where there are some, is kept to test on."""
        rows = dealt(self.y, self.experience, len(self.classes), test_share, seed, self.naming)
        train, test = (Part(self.x[r], self.y[r]) for r in rows)
        return Dataset(train, test, self.classes, picked(self.experience, rows))


def dealt(
    y: Tensor, experience: Tensor | None, classes: int, test_share: float, seed: int, naming: Naming
) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to test on: a share of every class in every experience."""
    return stratified(y if experience is None else experience * classes + y, test_share, seed, naming)


def picked(values: Tensor | None, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    return None if values is None else (values[rows[0]], values[rows[1]])


def classes_of(labels: np.ndarray, naming: Naming) -> tuple[Tensor, tuple[str, ...]]:
    """Labels (N,) as int64, and what the classes are called.

    Texts are sorted into classes. Numbers are classes already, from 0 without a gap.
    Raises DataError, naming the first sample at fault.
    """
    if labels.ndim != 1 or not len(labels):
        raise DataError(f"expected one label for each sample, (N,), got labels of shape {labels.shape}")
    if labels.dtype.kind in "OUS":
        names, y = np.unique(labels.astype(str), return_inverse=True)
        return torch.from_numpy(y.astype(np.int64)), tuple(names.tolist())
    y = _whole(labels, naming)
    present = np.unique(y)
    if present[0] < 0:
        at = int((y < 0).argmax())
        raise DataError(f"{naming(at)} has label {y[at]}; labels must count from 0")
    if present[-1] != len(present) - 1:
        gap = int((present != np.arange(len(present))).argmax())
        at = int((y > gap).argmax())
        raise DataError(
            f"{naming(at)} has label {y[at]}, but class {gap} has no sample; labels must count from 0 without a gap: "
            "add samples of it, or number the classes anew (texts as labels need no numbers)"
        )
    return torch.from_numpy(y), tuple(map(str, present.tolist()))


def labels_among(labels: np.ndarray, classes: tuple[str, ...], naming: Naming) -> Tensor:
    """Labels (N,) of test samples as int64, where the classes are known from training."""
    if labels.dtype.kind not in "OUS":
        labels = _whole(labels, naming)
    places = {name: place for place, name in enumerate(classes)}
    for at, label in enumerate(labels.tolist()):
        if str(label) not in places:
            raise DataError(
                f"{naming(at)} has label {label!r}, which no training sample has; known: {', '.join(classes)}"
            )
    return torch.tensor([places[str(label)] for label in labels.tolist()])


def experiences_of(values: np.ndarray, count: int, known: np.ndarray | None = None) -> tuple[Tensor, np.ndarray]:
    """Numbers or texts (N,) as experiences 0, 1, ... in sorted order, and the sorted values.

    known: the sorted values of the training samples, where these are test samples.
    """
    if values.shape != (count,):
        raise DataError(f"expected one experience for each of {count} samples, got shape {values.shape}")
    values = values.astype(str) if values.dtype.kind == "O" else values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"sample {int((~np.isfinite(values)).argmax())} has no experience")
    order = np.unique(values) if known is None else known
    place = np.searchsorted(order, values).clip(max=len(order) - 1)
    if (order[place] != values).any():
        at = int((order[place] != values).argmax())
        raise DataError(f"test sample {at} is of experience {values[at]}, which no training sample is of")
    return torch.from_numpy(place.astype(np.int64)), order


def refuse_gaps(x: np.ndarray, naming: Naming) -> None:
    """Raises DataError for the first sample of (N, ...) floats that holds NaN or an infinity."""
    bad = ~np.isfinite(x).reshape(len(x), -1).all(1)
    if bad.any():
        raise DataError(f"{naming(int(bad.argmax()))} holds NaN or an infinity; repair it or leave it out")


def _whole(labels: np.ndarray, naming: Naming) -> np.ndarray:
    y = labels.astype(np.int64) if labels.dtype.kind in "iub" else None
    if y is None:
        off = ~np.isfinite(labels) if labels.dtype.kind == "f" else np.ones(len(labels), bool)
        at = int(off.argmax())
        raise DataError(
            f"labels must be whole numbers or texts, got {labels.dtype}; {naming(at)} has label {labels[at]}"
        )
    return y

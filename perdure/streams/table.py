"""Data of one's own as a table."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .dataset import DataError, Dataset, Source
from .own import Labelled, classes_of, experiences_of


@dataclass(frozen=True)
class Table(Source):
    """A .csv or .parquet file: a column of labels, numbers in all others, which are taken as they are.

    Scale the columns before, to about the same range. A share of every class is kept to test on.
    experience: a column of numbers or texts, met in sorted order (with `assigned`).
    """

    file: str
    label: str = "label"  # column
    experience: str | None = None  # column
    ignore: tuple[str, ...] = ()  # columns
    test_share: float = 0.2
    seed: int = 0  # of the choice of test samples

    def paths(self, places):
        return [places.locate(self.file)]

    def load(self, places) -> Dataset:
        path = places.locate(self.file)
        frame = _read(path)

        def naming(at: int) -> str:
            return f"row {at} of {path} (counted from 0, below the header)"

        special = [self.label, *([self.experience] if self.experience else [])]
        for column in (*special, *self.ignore):
            _expect(column, frame, path)
        for column in special:
            if frame[column].isna().any():
                raise DataError(f"{naming(int(frame[column].isna().to_numpy().argmax()))} has no {column}")
        x = _numbers(frame.drop(columns=[*special, *self.ignore]), naming)
        y, classes = classes_of(_plain(frame[self.label]), naming)
        experience = experiences_of(_plain(frame[self.experience]), len(y))[0] if self.experience else None
        return Labelled(torch.from_numpy(x), y, classes, experience, naming).divided(self.test_share, self.seed)


def samples(path: Path, label: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Numbers (N, D) float32 and labels (N,) of a table, and what its columns of numbers are called."""
    frame = _read(path)
    _expect(label, frame, path)
    if not len(frame):
        raise DataError(f"{path} is empty: it has a header and no row")
    lacking = frame[label].isna().to_numpy()
    if lacking.any():
        raise DataError(f"row {int(lacking.argmax())} of {path} (counted from 0, below the header) has no {label}")
    features = frame.drop(columns=[label])
    x = _numbers(features, lambda at: f"row {at} of {path} (counted from 0, below the header)")
    return x, _plain(frame[label]), tuple(map(str, features.columns))


def _read(path: Path):
    import pandas as pd

    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise DataError(f"expected a .csv or a .parquet file, got {path}")
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as e:  # what pandas and pyarrow raise for a damaged file derives from these
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {e}") from e


def _expect(column: str, frame, path: Path) -> None:
    if column not in frame.columns:
        known = [str(c) for c in frame.columns]
        near = difflib.get_close_matches(column, known, 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{path} has no column {column!r}{hint}; it has {', '.join(known)}")


def _plain(column) -> np.ndarray:
    """Whole numbers as int64: pandas' own types that know missing values would come as Python objects."""
    import pandas as pd

    whole = pd.api.types.is_integer_dtype(column) or pd.api.types.is_bool_dtype(column)
    return column.to_numpy(np.int64) if whole else column.to_numpy()


def _numbers(frame, naming) -> np.ndarray:
    """All columns as (N, D) float32."""
    import pandas as pd

    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            numbers = pd.Series(pd.to_numeric(frame[column], errors="coerce"))
            at = int((numbers.isna() & frame[column].notna()).to_numpy().argmax())
            raise DataError(
                f"column {column!r} is not numeric: {naming(at)} has {frame[column].iloc[at]!r}; "
                f"turn it into numbers, or leave it out with ignore=({column!r},)"
            )
    if not len(frame.columns):
        raise DataError("expected columns of numbers beside the label, found none")
    with np.errstate(over="ignore"):  # what overflows is refused below
        x = frame.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    if not np.isfinite(x).all():
        at, column = np.argwhere(~np.isfinite(x))[0]
        raise DataError(
            f"{naming(int(at))} has NaN or an infinity in {frame.columns[column]!r}; repair it or leave it out"
        )
    return x

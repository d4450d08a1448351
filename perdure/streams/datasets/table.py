"""Data of one's own as a table."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import reading
from ...limits import expect_room
from .custom import Labelled, classes_of, experiences_of
from .dataset import DataError, Dataset, Source

PER_BYTE = 10  # bytes in memory for each byte of a CSV file, while it is read


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
    """Numbers (N, D) float32 and labels (N,) of a table, and what its columns are called. Raises DataError."""
    with reading(f"{path} cannot be read as a table", "repair it", DataError):
        return _samples(path, label)


def _samples(path: Path, label: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    frame = _read(path)
    _expect(label, frame, path)
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
    kind = path.suffix[1:]
    with reading(f"{path} cannot be read as {kind}", f"expected columns with names, as {kind}", DataError):
        expect_room(str(path), _large(path))
        frame = readers[path.suffix](path)
    if not len(frame):
        raise DataError(f"{path} is empty: it has a header and no row")
    return frame


def _large(path: Path) -> int:
    """Bytes that a table takes in memory while it is read, at most."""
    if path.suffix == ".csv":
        return PER_BYTE * path.stat().st_size
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        about = file.metadata
        groups = [about.row_group(n).total_byte_size for n in range(about.num_row_groups)]
        return max(2 * sum(groups), 16 * about.num_rows * about.num_columns)


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


def _is_number(value: Any) -> bool:
    """Whether a cell can be a number, or is empty."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return value is None
    return True


def _numbers(frame, naming) -> np.ndarray:
    """All columns as (N, D) float32."""
    import pandas as pd

    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            at = next((at for at, value in enumerate(frame[column]) if not _is_number(value)), 0)
            raise DataError(
                f"column {column!r} is not numeric: {naming(at)} has {repr(frame[column].iloc[at])[:100]}; "
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

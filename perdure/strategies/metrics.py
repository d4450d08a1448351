"""What an accuracy matrix says (Lopez-Paz & Ranzato 2017, arXiv:1706.08840; Chaudhry et al. 2018, arXiv:1801.10112).

R[i][j] is the accuracy on experience j once experience i has been learned, both from 0. A row may end
early: classes to come are shut in a class-incremental stream, so there is nothing to measure beyond j = i. NaN stands
where no test was made; a mean is over those that were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isnan, nan, sqrt

Matrix = Sequence[Sequence[float]]


def average_accuracy(matrix: Matrix) -> float:
    """ACC: mean over j <= i of R[i][j], with i the last experience learned (1706.08840, eq. 2)."""
    last = len(matrix) - 1
    return _mean(_at(matrix, last, j) for j in range(last + 1))


def backward_transfer(matrix: Matrix) -> float:
    """BWT: mean over j < i of R[i][j] - R[j][j], with i the last (1706.08840, eq. 3). NaN for one experience."""
    last = len(matrix) - 1
    return _mean(_at(matrix, last, j) - _at(matrix, j, j) for j in range(last))


def forward_transfer(matrix: Matrix, baseline: Sequence[float]) -> float:
    """FWT: mean over j > 0 of R[j - 1][j] - b_j, with b the accuracy before any learning (1706.08840, eq. 4).

    NaN where rows end at the diagonal, as they do in class-incremental streams.
    """
    pairs = range(1, len(matrix))
    if any(isnan(_at(matrix, j - 1, j)) or j >= len(baseline) for j in pairs):
        return nan
    return _mean(matrix[j - 1][j] - baseline[j] for j in pairs)


def forgetting(matrix: Matrix) -> float:
    """Mean over j < i of max_{l < i} R[l][j] - R[i][j], with i the last (1801.10112, eq. 3). NaN for one experience."""
    last, best = len(matrix) - 1, _Best()
    for row in matrix[:last]:
        best.add(row)
    return _mean(best.known[j] - _at(matrix, last, j) for j in range(min(last, len(best.known))))


def summary(matrix: Matrix, baseline: Sequence[float]) -> dict[str, float]:
    return {
        "accuracy": average_accuracy(matrix),
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "forward_transfer": forward_transfer(matrix, baseline),
    }


class Running:
    """`summary` of a matrix that grows row by row, to the same bits, in time that grows with the row alone."""

    def __init__(self, baseline: Sequence[float] = ()):
        self._baseline, self._count, self._ahead = baseline, 0, True
        self._best = _Best()
        self._learned: list[float] = []  # right after each
        self._gains: list[float] = []  # before each but the first, over the baseline

    def add(self, row: Sequence[float]) -> dict[str, float]:
        last = self._count
        forgotten = [best - now for best, now in zip(self._best.known[:last], row, strict=False)]
        moved = [now - learned for now, learned in zip(row, self._learned, strict=False)]
        told = {
            "accuracy": _mean(row[: last + 1]),
            "forgetting": _mean(forgotten),
            "backward_transfer": _mean(moved),
            "forward_transfer": _mean(self._gains) if self._ahead else nan,
        }
        self._best.add(row)
        self._learned.append(row[last] if last < len(row) else nan)
        self._count = last + 1
        if self._ahead and last + 1 < min(len(row), len(self._baseline)) and not isnan(row[last + 1]):
            self._gains.append(row[last + 1] - self._baseline[last + 1])
        else:
            self._ahead = False
        return told


class _Best:
    """The highest accuracy on each experience over rows; NaN where no test was made on it."""

    def __init__(self):
        self.known: list[float] = []

    def add(self, row: Sequence[float]) -> None:
        pairs = zip_longest(self.known, row, fillvalue=nan)
        self.known = [best if isnan(now) or best >= now else now for best, now in pairs]


def _at(matrix: Matrix, i: int, j: int) -> float:
    return matrix[i][j] if j < len(matrix[i]) else nan


def _mean(values) -> float:
    listed = [value for value in values if not isnan(value)]
    return sum(listed) / len(listed) if listed else nan


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and the half-width of its 95 % interval, by Student's t; NaN half-width for one seed."""

    mean: float
    half: float

    @staticmethod
    def of(values: Sequence[float]) -> "Interval":
        known = [v for v in values if not isnan(v)]
        if not known:
            return Interval(nan, nan)
        mean = sum(known) / len(known)
        if len(known) == 1:
            return Interval(mean, nan)
        from scipy.stats import t

        spread = sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1))
        return Interval(mean, float(t.ppf(0.975, len(known) - 1)) * spread / sqrt(len(known)))

    @staticmethod
    def of_all(values: Sequence[float]) -> "Interval":
        """As `of`, and NaN where one is: a mean over those that came to something would be of better ones."""
        return Interval(nan, nan) if any(map(isnan, values)) else Interval.of(values)

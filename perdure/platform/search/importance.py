"""How much of what differs between trials each parameter alone explains."""

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING

from .space import Choice, LogUniform, Space

if TYPE_CHECKING:
    from .trial_result import Tried


def importance(space: Space, trials: Sequence["Tried"], values: Sequence[float]) -> dict[str, float]:
    """The share of the variance of `values`, one for each trial, that each parameter explains: adjusted R².

    Of numbers the R² of a parabola, over their logarithm where that is drawn; of options that of their means. NaN where
    there are too few trials to tell. Parameters that count only together with others show little.
    """
    return {name: _adjusted(_columns(space, name, trials), values) for name in space.parameters}


def _columns(space: Space, name: str, trials: Sequence["Tried"]) -> list[list[float]]:
    """(p, N): what a trial's value is said to be a sum of, beside a constant."""
    import numpy as np

    one, told = space.parameters[name], [t.point[name] for t in trials]
    if isinstance(one, Choice):
        return [[float(text == option) for text in told] for option in sorted(set(told))[1:]]
    x = np.array([float(text) for text in told])
    x = np.log(x) if isinstance(one, LogUniform) else x
    spread = x.std() if len(x) else 0.0
    x = (x - x.mean()) / spread if spread else x * 0
    return [x.tolist(), (x**2).tolist()][: len(set(told)) - 1]


def _adjusted(columns: list[list[float]], values: Sequence[float]) -> float:
    import numpy as np

    n, p, y = len(values), len(columns), np.array(values)
    if n < p + 3 or not p or not y.std():
        return nan
    x = np.column_stack([np.ones(n), *columns])
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    share = 1 - (left @ left) / (n * y.var())
    return max(0.0, 1 - (1 - share) * (n - 1) / (n - p - 1))

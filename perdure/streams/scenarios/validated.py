"""What settings may be chosen by: samples held out of training, never those of a test (Chaudhry et al. 2019,
arXiv:1812.00420)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..datasets.dataset import DataError, Dataset
from ..experience import Experience, Lazy, Split, Stream
from ..recipe import Recipe
from .rearranged import Rearranged


@dataclass(frozen=True)
class Validated(Rearranged):
    """Tests are replaced by a share of every class of the training samples, on which nothing is learned.

    first: only the experiences up to the k-th test, for settings that are chosen before the rest is met (Chaudhry et
    al. 2019, arXiv:1812.00420); the model keeps its width. The share is held out before anything else is done to the
    samples, so that tests of `validated(online(split(digits)))`, or aims of a poisoner, come from it too. A sample that
    comes back, repeated or permuted, is held out everywhere. A class with one sample keeps it for training.
    """

    share: float = 0.1
    first: int | None = None
    seed: int = 0  # of which samples are held out

    def __post_init__(self):
        self._expect_stream()
        if not 0 < self.share < 1:
            raise ValueError(f"share must be above 0 and below 1, got {self.share}")
        if self.first is not None and self.first < 1:
            raise ValueError(f"first must be at least 1, got {self.first}")

    def arrange(self, dataset: Dataset) -> Stream:
        return self.rearranged(self._inside(self.stream).arrange(dataset))

    def rearranged(self, stream: Stream) -> Stream:
        if self.first is None:
            return stream
        if self.first > len(stream.marks):
            raise ValueError(
                f"first asks for {self.first} experiences, and the stream has {len(stream.marks)} that are tested"
            )
        count, marks = stream.marks[self.first - 1] + 1, stream.marks[: self.first]
        order = None if stream.order is None else stream.order[:count]
        cut = Lazy(count, lambda i: stream[i])
        return replace(stream, experiences=cut, order=order, tests=marks, aims=stream.aims[:count])

    def _inside(self, recipe: Recipe) -> Recipe:
        """The recipe with the share held out of the innermost stream, that over the data."""
        if isinstance(recipe, Rearranged):
            inner: Any = recipe
            return replace(inner, stream=self._inside(recipe.stream))
        return _HeldOut(recipe, self.share, self.seed)


@dataclass(frozen=True)
class _HeldOut(Rearranged):
    share: float
    seed: int

    def rearranged(self, stream: Stream) -> Stream:
        def experience(t: int) -> Experience:
            whole = stream[t]
            held = self._held(whole.train)
            if not held.any():
                raise DataError(f"experience {t} has one sample of every class: none can be held out to choose by")
            kept, held = ((held == side).nonzero().flatten() for side in (False, True))
            return replace(whole, train=whole.train.part(kept), test=whole.train.part(held))

        return replace(stream, experiences=Lazy(len(stream), experience))

    def _held(self, split: Split) -> Tensor:
        """Which samples are held out, (N,) bool: of every class those that are drawn first in the whole data."""
        y, drawn = split.y, split.drawn(torch.Generator().manual_seed(self.seed))
        held = torch.zeros_like(y, dtype=torch.bool)
        for label in y.unique():
            rows = (y == label).nonzero().flatten()
            count = min(max(round(self.share * len(rows)), 1), len(rows) - 1)
            held[rows[drawn[rows].argsort()[:count]]] = True
        return held

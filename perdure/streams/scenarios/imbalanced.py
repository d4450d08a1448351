"""Classes of unequal size (Cui et al. 2019, arXiv:1901.05555; continual: Liu et al. 2022, arXiv:2210.00266)."""

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..experience import Experience, Lazy, Stream, generator
from .rearranged import Rearranged


class Thinned(Rearranged):
    """Fewer training samples of some classes; at least one of each."""

    seed: int

    def rearranged(self, stream: Stream) -> Stream:
        shares = self._shares(stream.classes.shape[1])
        return replace(stream, experiences=Lazy(len(stream), lambda t: self._thinned(stream[t], shares)))

    @abstractmethod
    def _shares(self, classes: int) -> Tensor:
        """(C,) of each class to keep."""

    def _thinned(self, whole: Experience, shares: Tensor) -> Experience:
        rng, y = generator(self.seed, whole.index), whole.train.y.cpu()
        kept = []
        for label in y.unique():
            rows = (y == label).nonzero().flatten()
            kept.append(
                rows[torch.randperm(len(rows), generator=rng)[: max(1, round(float(shares[label]) * len(rows)))]]
            )
        return replace(whole, train=whole.train.part(torch.cat(kept).sort().values.to(whole.train.device)))


@dataclass(frozen=True)
class LongTailed(Thinned):
    """Class sizes that fall exponentially, the largest `ratio` times the smallest (Cui et al. 2019, arXiv:1901.05555).

    The k-th of C classes keeps the share ratio^(-k / (C - 1)) of its training samples. Classes fall in their
    own order, or with `shuffled` in one drawn by the seed (Liu et al. 2022, arXiv:2210.00266). Tests are whole.
    """

    ratio: float = 100.0
    shuffled: bool = True
    seed: int = 0  # of the order of classes, and of which samples stay

    def __post_init__(self):
        self._expect_stream()
        if self.ratio < 1:
            raise ValueError(f"ratio must be at least 1, got {self.ratio}")

    def _shares(self, classes: int) -> Tensor:
        shares = self.ratio ** (-torch.arange(classes) / max(1, classes - 1))
        if not self.shuffled:
            return shares
        return shares[torch.randperm(classes, generator=torch.Generator().manual_seed(self.seed))]


@dataclass(frozen=True)
class Imbalanced(Thinned):
    """Of the k-th class the k-th share of its training samples, as imbalanced(split(digits), (1, 0.1, ...)).

    At least one sample of each class stays. Tests are whole.
    """

    shares: tuple[float, ...]
    seed: int = 0  # of which samples stay

    def __post_init__(self):
        self._expect_stream(**{f"share {k}": share for k, share in enumerate(self.shares)})

    def _shares(self, classes: int) -> Tensor:
        if len(self.shares) != classes:
            raise ValueError(f"expected a share for each of {classes} classes, got {len(self.shares)}")
        return torch.tensor(self.shares)

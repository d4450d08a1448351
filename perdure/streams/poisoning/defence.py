"""A defender's answer to poison: samples that look foreign to their class are not learned from."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.dataset import Dataset
from ..experience import Experience, Lazy, Stream, pixels
from ..scenarios.rearranged import Rearranged
from .surrogate import fitted


@dataclass(frozen=True)
class Cleansed(Rearranged):
    """Another stream without a share of each class's samples: those that a network learned on the experience finds
    most foreign. Labels are all it is told.

    spectral: the largest squared projections on the first right singular vector of a class's centred features (Tran
    et al. 2018, arXiv:1811.00636, Algorithm 1). loss: the largest losses, of a network that has learned `epochs` only
    (Shen & Sanghavi 2019, arXiv:1810.11874).
    """

    by: Literal["spectral", "loss"] = "spectral"
    share: float = 0.15  # of each class; 1.5 times what is expected to be poison
    epochs: int = 5
    seed: int = 0

    def __post_init__(self):
        self._expect_stream(share=self.share)
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")

    def dropped(self, dataset: Dataset) -> dict[int, Tensor]:
        """Which samples are left out: of every experience, (n,) sorted rows of its training samples."""
        stream = self.stream.arrange(dataset)
        return {e.index: self._foreign(e, stream.classes.shape[1]).sort().values for e in stream}

    def rearranged(self, stream: Stream) -> Stream:
        def experience(t: int) -> Experience:
            whole = stream[t]
            kept = torch.ones(len(whole), dtype=torch.bool)
            kept[self._foreign(whole, stream.classes.shape[1])] = False
            return replace(whole, train=whole.train.part(kept.nonzero().flatten().to(whole.train.device)))

        return replace(stream, experiences=Lazy(len(stream), experience))

    def _foreign(self, whole: Experience, classes: int) -> Tensor:
        x, y, _ = whole.train.everything()
        x = pixels(x)
        net, parts = fitted(x, y, classes, self.seed, self.epochs), []
        with torch.no_grad():
            features = torch.cat([net.body(some) for some in x.split(1024)])
            losses = F.cross_entropy(net.readout(features), y, reduction="none")
        for label in y.unique():
            rows = (y == label).nonzero().flatten()
            score = losses[rows] if self.by == "loss" else spectral(features[rows])
            parts.append(rows[score.argsort(descending=True, stable=True)[: int(self.share * len(rows))]])
        return torch.cat(parts).cpu()


def spectral(features: Tensor) -> Tensor:
    """(N,) squared projections of centred features (N, D) on their first right singular vector."""
    centred = (features - features.mean(0)).double()
    return (centred @ torch.linalg.svd(centred, full_matrices=False).Vh[0]).square()

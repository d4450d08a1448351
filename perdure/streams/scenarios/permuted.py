"""The same data under one fixed shuffle of the pixels per task (Goodfellow et al. 2013, arXiv:1312.6211)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..datasets.dataset import Dataset
from ..experience import Protocol, Stream, generator
from ..recipe import OfData, revisited


@dataclass(frozen=True)
class Permuted(OfData):
    """All data in every task, pixels shuffled anew for each (Goodfellow et al. 2013, arXiv:1312.6211).

    The first task is not shuffled. The channels of a pixel stay together.
    """

    tasks: int = 10
    protocol: Protocol = "domain"
    seed: int = 0  # of the shuffles

    def __post_init__(self):
        self._expect(self.protocol, tasks=self.tasks)

    def arrange(self, dataset: Dataset) -> Stream:
        return revisited(dataset, self.tasks, self.protocol, lambda x, t: (x, Shuffle(self.seed, t) if t else None))


@dataclass(frozen=True)
class Shuffle:
    """A view of samples (B, ...) with their values, or of images (B, C, H, W) with their pixels, in another order."""

    seed: int
    task: int

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(2) if x.ndim == 4 else x.flatten(1)
        order = _order(self.seed, self.task, flat.shape[-1], x.device)
        return flat.index_select(-1, order).view(x.shape)


@lru_cache(maxsize=1024)
def _order(seed: int, task: int, places: int, device: torch.device) -> Tensor:
    return torch.randperm(places, generator=generator(seed, task)).to(device)

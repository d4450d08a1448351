"""Blurry boundaries (Bang et al. 2021, arXiv:2103.17230)."""

from dataclasses import dataclass, replace
from functools import cache

import torch

from ..experience import Experience, Lazy, Split, Stream, generator
from .rearranged import Rearranged, present


@dataclass(frozen=True)
class Blurry(Rearranged):
    """A share of every class appears everywhere else (Bang et al. 2021, arXiv:2103.17230).

    Of each class of each experience, `share` of the training samples is dealt out evenly to all other
    experiences. Tests stay where they were.
    """

    share: float = 0.1
    seed: int = 0  # of which samples go where

    def __post_init__(self):
        self._expect_stream(share=self.share)
        self._refuse_tasks("blurry")

    def rearranged(self, stream: Stream) -> Stream:
        count = len(stream)
        dealt = cache(lambda t: self._dealt(stream[t], count))

        def experience(t: int) -> Experience:
            return replace(stream[t], train=Split.union([stream[s].train.part(dealt(s)[t]) for s in range(count)]))

        blurred = Lazy(count, experience)
        if stream.protocol == "domain":
            return replace(stream, experiences=blurred)
        classes = present([e.train for e in blurred], stream.classes.shape[1])
        return replace(stream, experiences=blurred, classes=classes, order=None)

    def _dealt(self, experience: Experience, count: int) -> list[torch.Tensor]:
        """For every experience of the stream the samples (n,) that it gets of this one."""
        to = torch.full((len(experience),), experience.index)
        rng, y = generator(self.seed, experience.index), experience.train.y.cpu()
        others = torch.tensor([s for s in range(count) if s != experience.index], dtype=torch.int64)
        for label in y.unique() if count > 1 else ():
            rows = (y == label).nonzero().flatten()
            leaving = rows[torch.randperm(len(rows), generator=rng)[: round(self.share * len(rows))]]
            first = torch.randint(len(others), (), generator=rng)
            to[leaving] = others[(first + torch.arange(len(leaving))) % len(others)]
        return [(to == s).nonzero().flatten().to(experience.train.device) for s in range(count)]

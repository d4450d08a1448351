"""Labels that are wrong (Han et al. 2018, arXiv:1804.06872)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..experience import Experience, Lazy, Stream, generator
from .rearranged import Rearranged


@dataclass(frozen=True)
class Noisy(Rearranged):
    """A share of the training labels of every experience is wrong (Han et al. 2018, arXiv:1804.06872).

    Exactly that share, to a whole number, is turned into another class of the same experience: any
    (`symmetric`) or the next (`pair`). Tests are right.
    """

    share: float = 0.2
    kind: Literal["symmetric", "pair"] = "symmetric"
    seed: int = 0  # of which labels are wrong

    def __post_init__(self):
        self._expect_stream(share=self.share)

    def rearranged(self, stream: Stream) -> Stream:
        def experience(t: int) -> Experience:
            known = stream.classes[stream.task(t)].nonzero().flatten()
            if len(known) < 2:
                raise ValueError(f"experience {t} has one class only: there is no wrong label in it")
            return replace(stream[t], train=stream[t].train.relabelled(self._wrong(stream[t], known)))

        return replace(stream, experiences=Lazy(len(stream), experience))

    def _wrong(self, whole: Experience, known: Tensor) -> Tensor:
        """The labels (N,), a share of them another of the `known` ones."""
        rng, y = generator(self.seed, whole.index), whole.train.y.cpu()
        rows = torch.randperm(len(y), generator=rng)[: round(self.share * len(y))]
        place = torch.searchsorted(known, y[rows])
        step = torch.randint(1, len(known), place.shape, generator=rng) if self.kind == "symmetric" else 1
        y[rows] = known[(place + step) % len(known)]
        return y.to(whole.train.device)

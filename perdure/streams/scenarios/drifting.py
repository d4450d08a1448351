"""Gradual drift (Gama et al. 2014, doi:10.1145/2523813)."""

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from ..datasets.dataset import DataError
from ..experience import Experience, Lazy, Split, Stream, generator
from ..recipe import expect_experiences
from .rearranged import Rearranged, present

TRAIN, TEST = 0, 1


@dataclass(frozen=True)
class Drifting(Rearranged):
    """One experience goes over into the next little by little (gradual drift: Gama et al. 2014).

    A sample of experience t arrives at a time uniform in [t, t + 1], plus a shift uniform in
    [-width / 2, width / 2]: around each boundary the share of the next rises linearly over `width`
    experiences. Each unit of time is one experience for each of `parts`; tests drift alike.
    """

    width: float = 1.0  # of the passage, in experiences
    parts: int = 2  # experiences in place of one
    seed: int = 0  # of the times

    def __post_init__(self):
        self._expect_stream()
        self._refuse_tasks("drifting")
        if not 0 <= self.width <= 2 or self.parts < 1:
            raise ValueError(f"expected width in [0, 2] and parts >= 1, got {self.width} and {self.parts}")

    def rearranged(self, stream: Stream) -> Stream:
        count = len(stream) * self.parts
        expect_experiences(count)
        parts = cache(lambda t: [self._parts(stream[t], kind, len(stream)) for kind in (TRAIN, TEST)])
        reach = range(-2, 3)

        def split(i: int, kind: int) -> Split:
            near = [t for t in (i // self.parts + n for n in reach) if 0 <= t < len(stream)]
            pieces = [((stream[t].train, stream[t].test)[kind], parts(t)[kind] == i) for t in near]
            pieces = [whole.part(rows.nonzero().flatten().to(whole.device)) for whole, rows in pieces if rows.any()]
            if not pieces:
                raise DataError(
                    f"experience {i} of {count} has no {('training', 'test')[kind]} sample; take fewer parts"
                )
            return Split.union(pieces)

        every = Lazy(count, lambda i: Experience(i, i, split(i, TRAIN).assigned(i), split(i, TEST).assigned(i)))
        if stream.protocol == "domain":
            classes = stream.classes[:1].expand(count, -1)
            return replace(stream, experiences=every, classes=classes, order=None, tests=None, aims=())
        classes = present([e.train for e in every], stream.classes.shape[1])
        known = classes.cumsum(0).bool()
        answerable = Lazy(count, lambda i: _answerable(every[i], known[i]))
        return replace(stream, experiences=answerable, classes=classes, order=None, tests=None, aims=())

    def _parts(self, whole: Experience, kind: int, count: int) -> Tensor:
        """The experience (N,) that each sample arrives in."""
        n, rng = len((whole.train, whole.test)[kind]), generator(self.seed, 2 * whole.index + kind)
        time = whole.index + torch.rand(n, generator=rng) + self.width * (torch.rand(n, generator=rng) - 0.5)
        time = time.abs()
        time = torch.where(time > count, 2 * count - time, time)  # nothing arrives before the first or after the last
        return (time * self.parts).long().clamp(max=count * self.parts - 1)


def _answerable(whole: Experience, known: Tensor) -> Experience:
    """Without test samples of classes that no training sample has had by then."""
    rows = known[whole.test.y.cpu()].nonzero().flatten().to(whole.test.device)
    if not len(rows):
        raise DataError(f"no test sample of experience {whole.index} is of a class met by then; take fewer parts")
    return replace(whole, test=whole.test.part(rows))

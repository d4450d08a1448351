"""Experiences that come back (Hemati et al. 2023, arXiv:2301.11396)."""

from dataclasses import dataclass, replace

import torch

from ..experience import Lazy, Stream, generator
from ..recipe import expect_experiences
from .rearranged import Rearranged


@dataclass(frozen=True)
class Repeated(Rearranged):
    """All experiences several times over (repetition: Hemati et al. 2023, arXiv:2301.11396).

    The first round is in order; later rounds too, or with a `seed` each in an order of its own. An
    experience that comes back has the same samples, the same task and the same tests.
    """

    times: int = 2
    seed: int | None = None  # shuffles every round but the first

    def __post_init__(self):
        self._expect_stream()
        if self.times < 1:
            raise ValueError(f"times must be at least 1, got {self.times}")

    def rearranged(self, stream: Stream) -> Stream:
        expect_experiences(len(stream) * self.times)
        count, places = len(stream), list(range(len(stream)))
        for n in range(1, self.times):
            places += list(range(count)) if self.seed is None else _shuffled(count, generator(self.seed, n))
        again = Lazy(len(places), lambda i: replace(stream[places[i]], index=i))
        aims = tuple(stream.aims[place] if stream.aims and i < count else () for i, place in enumerate(places))
        tests = tuple(i for i, place in enumerate(places) if place in stream.marks)
        return replace(stream, experiences=again, order=tuple(map(stream.task, places)), tests=tests, aims=aims)


def _shuffled(count: int, rng: torch.Generator) -> list[int]:
    return torch.randperm(count, generator=rng).tolist()

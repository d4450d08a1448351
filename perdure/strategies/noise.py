"""torch's own random streams, one for each of several replicas, where there is only one for all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from .rng import Rng


class Noise:
    """What dropout and its like draw from: for every replica the numbers that it would meet alone."""

    def __init__(self, count: int):
        self._generators = [torch.Generator() for _ in range(count)]
        self._places: list[tuple[Rng, int, int]] = []
        self._begun = [False] * count

    def seed(self, places: Sequence[tuple[Rng, int, int]]) -> None:
        """Let each go on from a step of an experience; nothing is done before somebody draws."""
        self._places, self._begun = list(places), [False] * len(places)

    def __getitem__(self, n: int) -> torch.Generator:
        if not self._begun[n]:
            self._begun[n] = True
            root, experience, step = self._places[n]
            self._generators[n].manual_seed(root.fold(experience, "step", step).integer("torch"))
        return self._generators[n]

    @contextmanager
    def of(self, n: int) -> Iterator[None]:
        """Let torch's own stream be that of replica n for a while."""
        torch.default_generator.set_state(self[n].get_state())
        try:
            yield
        finally:
            self._generators[n].set_state(torch.default_generator.get_state())

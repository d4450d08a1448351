"""torch's own random streams, one for each of several replicas, where there is only one for all."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..numerics.rng import Rng


class Noise:
    """What dropout and its like draw from: for every replica the numbers that it would meet alone."""

    def __init__(self, count: int, device: torch.device):
        self._shared = [torch.default_generator]
        if device.type == "cuda":
            self._shared.append(torch.cuda.default_generators[device.index or 0])
        self._own = [[torch.Generator(g.device) for g in self._shared] for _ in range(count)]
        self._places: list[tuple[Rng, int, int]] = []
        self._begun = [False] * count

    def seed(self, places: Sequence[tuple[Rng, int, int]]) -> None:
        """Let each go on from a step of an experience; nothing is done before somebody draws."""
        self._places, self._begun = list(places), [False] * len(places)

    def __getitem__(self, n: int) -> torch.Generator:
        """Of replica n, on the CPU."""
        return self._streams(n)[0]

    def _streams(self, n: int) -> list[torch.Generator]:
        if not self._begun[n]:
            self._begun[n] = True
            root, experience, step = self._places[n]
            for own in self._own[n]:
                own.manual_seed(root.fold(experience, "step", step).integer("torch"))
        return self._own[n]

    @contextmanager
    def of(self, n: int) -> Iterator[None]:
        """Let torch's own streams be those of replica n for a while."""
        for shared, own in zip(self._shared, self._streams(n), strict=True):
            shared.set_state(own.get_state())
        try:
            yield
        finally:
            for shared, own in zip(self._shared, self._own[n], strict=True):
                own.set_state(shared.get_state())

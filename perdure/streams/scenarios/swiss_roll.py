"""Continual Swiss roll (after Abbasi et al. 2022, arXiv:2203.06514)."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from ...limits import expect_room
from ..datasets.dataset import Dataset, Part, Source
from ..experience import Protocol, Stream
from ..recipe import Recipe
from ..storage.directories import Places
from .assigned import Assigned


@dataclass(frozen=True)
class Rolls(Source):
    """Two interleaved spirals in the plane, one a class, in [0, 1]^2; each sample knows its section by angle."""

    sections: int = 5
    samples: int = 500  # of each class in each section, to train on; a fifth of it to test on
    turns: float = 2.0
    noise: float = 0.01  # standard deviation, of a plane of side 1
    seed: int = 0

    def __post_init__(self):
        if self.sections < 1 or self.samples < 5 or self.turns <= 0 or self.noise < 0:
            raise ValueError(f"expected sections >= 1, samples >= 5, turns > 0 and noise >= 0, got {self}")
        expect_room(f"{self.sections} sections of {self.samples} samples", 200 * self.sections * self.samples)

    def load(self, places: Places) -> Dataset:
        rng = torch.Generator().manual_seed(self.seed)
        train, test = (self._drawn(n, rng) for n in (self.samples, self.samples // 5))
        return Dataset(train[0], test[0], ("first roll", "second roll"), (train[1], test[1]))

    def _drawn(self, n: int, rng: torch.Generator) -> tuple[Part, Tensor]:
        """n samples of each class in each section, and their sections."""
        section = torch.arange(self.sections).repeat_interleave(2 * n)
        y = torch.arange(2).repeat_interleave(n).repeat(self.sections)
        along = (section + torch.rand(len(y), generator=rng)) / self.sections  # in [0, 1]
        angle, radius = pi * (0.5 + 2 * self.turns * along), 0.08 + 0.4 * along
        at = torch.stack([torch.cos(angle + pi * y), torch.sin(angle + pi * y)], 1) * radius[:, None]
        x = 0.5 + at + self.noise * torch.randn(len(y), 2, generator=rng)
        return Part(x.clamp(0, 1), y), section


@dataclass(frozen=True)
class SwissRoll(Recipe):
    """Two interleaved rolls as two classes, cut by angle into consecutive tasks: domain-incremental.

    After Abbasi et al. 2022 (arXiv:2203.06514); number of turns, noise and sizes are ours. Every run draws the
    decision surface after each task.
    """

    tasks: int = 5
    samples: int = 500  # of each class in each task, to train on
    turns: float = 2.0
    noise: float = 0.01
    seed: int = 0

    def __post_init__(self):
        self.source()

    def source(self) -> Rolls:
        return Rolls(self.tasks, self.samples, self.turns, self.noise, self.seed)

    def follows(self) -> Protocol:
        return "domain"

    def arrange(self, dataset: Dataset) -> Stream:
        return Assigned(self.source(), "domain").arrange(dataset)

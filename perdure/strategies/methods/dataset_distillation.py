"""Rehearsal on learned images, by distribution matching (Zhao & Bilen 2023, arXiv:2110.04181)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...streams.experience import Samples, Split, pixels
from ..base import Strategy
from ..blocks.memory import balanced, drawn, joined, refuse_no_room
from ..learner import Learner

REAL = 256  # samples of a class that a step looks at
WIDTHS = (400, 400)  # of the random networks
BIAS = 0.1  # standard deviation of their biases, for inputs of variance 1


class Cell(NamedTuple):
    """Images of one class that are to be learned, and what they stand for."""

    rows: Tensor  # of the memory
    source: Split | Samples
    pool: Tensor  # of the source


@dataclass(frozen=True)
class Distilled(Strategy):
    """Keep `capacity` images in all, learned so that random networks see the same mean in them as in a whole class.

    They start as real samples; `steps` of Adam on their pixels lower sum_l |mean f_l(learned) - mean f_l(real)|² /
    |mean f_l(real)|² for every class, f_l the l-th hidden layer of a perceptron with weights drawn anew at every step
    (2110.04181, eq. 6): what holds for many networks holds for that which is to learn from them. Where a class's
    images have to make room, those that stay learn to stand for all that were there.
    """

    capacity: int
    steps: int = 400
    lr: float = 0.03  # of pixels, in standard deviations of the data; falls to zero along half a cosine

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.steps < 0 or self.lr <= 0:
            raise ValueError(f"expected steps >= 0 and lr > 0, got {self.steps} and {self.lr}")

    def augment(self, learner, batch, state):
        if not state:
            return batch
        return joined(batch, drawn(state, len(batch.y), learner.rng["distilled"])[0])

    def consolidate(self, learner, experience, state):
        train, rng = experience.train, learner.rng["distilled"]
        key = torch.rand(len(train), generator=rng, dtype=torch.float64).to(train.device)
        none = train.samples(torch.zeros(0, dtype=torch.int64, device=train.device))._asdict() | {"key": key[:0]}
        past = state or none
        held = len(past["y"])
        keep = balanced(torch.cat([past["key"], key]), torch.cat([past["y"], train.y]), self.capacity)
        old, new = keep[keep < held], keep[keep >= held] - held
        fresh = train.samples(new)._asdict() | {"key": key[new]}
        memory = {k: torch.cat([past[k][old], v]) for k, v in fresh.items()}
        before = Samples(past["x"], past["y"], past["task"])
        cells = [*_smaller(before, old), *_new(train, memory["y"], len(old))]
        return memory | {"x": self._learned(learner, memory["x"], cells, rng)}

    def _learned(self, learner: Learner, start: Tensor, cells: list[Cell], rng: torch.Generator) -> Tensor:
        """`start` with pixels that were learned, in the data's own type."""
        if not cells or not self.steps:
            return start
        whole = start.dtype == torch.uint8
        x = pixels(start).clone().requires_grad_()
        centre, spread = x.detach().mean(), x.detach().std().clamp(min=1e-6)
        adam = torch.optim.Adam([x], self.lr * spread.item())
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        for step in range(self.steps):
            if step % 50 == 0:
                learner.pulse()
            real = [cell.source.batch(_some(cell.pool, rng)).x for cell in cells]
            with torch.enable_grad():
                loss = _apart((x - centre) / spread, [(part - centre) / spread for part in real], cells, rng)
                (x.grad,) = torch.autograd.grad(loss, [x])
            adam.step()
            falling.step()
            if whole:
                with torch.no_grad():
                    x.clamp_(0, 1)
        x = x.detach()
        return (255 * x).round().to(torch.uint8) if whole else x


def _new(train: Split, y: Tensor, first: int) -> Iterator[Cell]:
    """Of every class of the experience: its images in a memory of classes y, from row `first` on."""
    for label in y[first:].unique():
        rows = (y[first:] == label).nonzero().flatten() + first
        yield Cell(rows, train, (train.y == label).nonzero().flatten())


def _smaller(past: Samples, kept: Tensor) -> Iterator[Cell]:
    """Of every class of every past experience that lost some of its images, but not all: those that are kept."""
    mark = torch.stack([past.task, past.y])
    for one in mark.unique(dim=1).unbind(1):
        pool = (mark == one[:, None]).all(0).nonzero().flatten()
        rows = torch.isin(kept, pool).nonzero().flatten()
        if 0 < len(rows) < len(pool):
            yield Cell(rows, past, pool)


def _some(pool: Tensor, rng: torch.Generator) -> Tensor:
    """Rows of a pool: all, or as many as a step looks at."""
    return pool if len(pool) <= REAL else pool[torch.randint(len(pool), (REAL,), generator=rng).to(pool.device)]


def _apart(x: Tensor, real: list[Tensor], cells: list[Cell], rng: torch.Generator) -> Tensor:
    """How far apart a random network sees the means of images x (M, ...) and of real samples, cell by cell."""
    layers = [
        (torch.randn(a, b, generator=rng).mul_((2 / a) ** 0.5).to(x), (BIAS * torch.randn(b, generator=rng)).to(x))
        for a, b in pairwise((x[0].numel(), *WIDTHS))
    ]
    sizes, loss = [len(part) for part in real], torch.zeros((), device=x.device, dtype=x.dtype)
    given, wanted = x.flatten(1), torch.cat(real).flatten(1)
    for weight, bias in layers:
        given, wanted = (given @ weight + bias).relu(), (wanted @ weight + bias).relu()
        means = torch.stack([part.mean(0) for part in wanted.split(sizes)])  # (cells, width)
        told = torch.stack([given[cell.rows].mean(0) for cell in cells])
        loss = loss + ((told - means).square().sum(1) / means.square().sum(1).clamp(min=1e-12)).sum()
    return loss

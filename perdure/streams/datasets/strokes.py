"""An alphabet that nobody has written: for learning from few samples, where no collection of characters is at hand."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from ...limits import expect_room
from ..experience import generator
from ..storage.directories import Places
from .dataset import Dataset, Part, Source

LINES = 12  # that a stroke is made of
SHAKE = 0.035  # of a drawer's control points, standard deviation in units of the image's side


@dataclass(frozen=True)
class Strokes(Source):
    """Characters of two to four curved strokes, each drawn once by every drawer in a hand of its own: what Omniglot is
    for (Lake et al. 2015, doi:10.1126/science.aab3050), made up from a seed; it shares no sample with it.

    A character is a set of cubic Bézier curves, some of which go on where the last one ended. A drawer shakes their
    control points, and turns, slants, stretches and moves the whole; the pen's width is the drawer's. The last quarter
    of the drawers is tested on.
    """

    characters: int = 200
    drawers: int = 20
    size: int = 28
    seed: int = 0

    def __post_init__(self):
        if self.characters < 1 or self.drawers < 2 or self.size < 8:
            raise ValueError(
                f"expected a character, two drawers and 8 pixels at least, got {self.characters}, {self.drawers} and "
                f"{self.size}"
            )
        drawn = self.drawers * self.size**2  # pixels of a character, each held against every piece of its strokes
        needs = max(2 * self.characters * drawn, 8 * 4 * 4 * LINES * drawn)
        expect_room(f"{self.characters} characters by {self.drawers} drawers, {self.size} pixels wide", needs)

    def load(self, places: Places) -> Dataset:
        tested = max(1, self.drawers // 4)
        drawn = [self._drawn(generator(self.seed, n)) for n in range(self.characters)]  # (drawers, 1, size, size) each
        train, test = (
            Part(torch.cat([d[some] for d in drawn]), torch.arange(self.characters).repeat_interleave(count))
            for some, count in (
                (slice(0, self.drawers - tested), self.drawers - tested),
                (slice(self.drawers - tested, None), tested),
            )
        )
        return Dataset(train, test, tuple(f"character {n}" for n in range(self.characters)))

    def _drawn(self, chance: torch.Generator) -> Tensor:
        """One character by every drawer."""
        n, shape = self.drawers, _character(chance)
        points = shape + SHAKE * torch.randn((n, *shape.shape), generator=chance)  # (n, strokes, 4, 2)
        path = _curves(points).flatten(1, 2) - 0.5  # (n, strokes * (LINES + 1), 2)
        turn = 10 * pi / 180 * torch.randn(n, generator=chance)
        slant, stretch = 0.15 * torch.randn(n, generator=chance), 1 + 0.1 * torch.randn((n, 2), generator=chance)
        zero = torch.zeros(n)
        slanted = torch.stack([torch.stack([zero + 1, slant], 1), torch.stack([zero, zero + 1], 1)], 1)
        turned = torch.stack([torch.stack([turn.cos(), -turn.sin()], 1), torch.stack([turn.sin(), turn.cos()], 1)], 1)
        path = (path * stretch[:, None]) @ (turned @ slanted).mT
        path = path + 0.5 + 0.03 * torch.randn((n, 1, 2), generator=chance)
        width = 0.035 + 0.008 * torch.rand(n, generator=chance)
        whole = path.unflatten(1, (-1, LINES + 1)).double()  # so that every machine rounds to the same levels
        return _inked(whole, width.double(), self.size)


def _character(chance: torch.Generator) -> Tensor:
    """(strokes, 4, 2) control points in the unit square."""
    count = int(torch.randint(2, 5, (), generator=chance))
    points = 0.12 + 0.76 * torch.rand((count, 4, 2), generator=chance)
    goes_on = torch.rand(count, generator=chance) < 0.5
    for n in range(1, count):
        if goes_on[n]:
            points[n, 0] = points[n - 1, 3]
    return points


def _curves(points: Tensor) -> Tensor:
    """(..., LINES + 1, 2) points along cubic Bézier curves with control points (..., 4, 2)."""
    t = torch.linspace(0, 1, LINES + 1)[:, None]
    weights = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    return weights @ points


def _inked(path: Tensor, width: Tensor, size: int) -> Tensor:
    """Images (n, 1, size, size) uint8 of a pen of (n,) half-widths along paths (n, S, P, 2), edges one pixel soft."""
    middle = (torch.arange(size, dtype=path.dtype) + 0.5) / size
    pixels = torch.cartesian_prod(middle, middle).flip(1)  # x to the right, y down
    start, along = path[:, :, :-1].flatten(1, 2), path.diff(dim=2).flatten(1, 2)  # (n, L, 2) each
    # distance of a pixel p to start + s along, s in [0, 1], with every inner product a product of matrices
    length = along.square().sum(2)[:, :, None]
    ahead = along @ pixels.T - (along * start).sum(2)[:, :, None]  # (n, L, size²)
    apart = start.square().sum(2)[:, :, None] - 2 * start @ pixels.T + pixels.square().sum(1)
    s = (ahead / length.clamp(min=1e-12)).clamp(0, 1)
    far = (apart - s * (2 * ahead - s * length)).amin(1).clamp(min=0).sqrt()
    ink = (0.5 + (width[:, None] - far) * size).clamp(0, 1)
    return (255 * ink).round().to(torch.uint8).view(-1, 1, size, size)

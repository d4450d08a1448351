"""The same images at another angle in every task (Lopez-Paz & Ranzato 2017, arXiv:1706.08840)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, isfinite, radians, sin

import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.dataset import DataError, Dataset
from ..experience import Protocol, Stream
from ..recipe import OfData, revisited
from ..storage.memory_map import Mapped

CHUNK = 4096  # images rotated at a time, to bound the memory that their float copies take


@dataclass(frozen=True)
class Rotated(OfData):
    """All images in every task, turned by an angle of its own (Lopez-Paz & Ranzato 2017, arXiv:1706.08840).

    Angles rise evenly from 0 to `degrees`, counter-clockwise; with a `seed` they are drawn from that
    range. Images are turned bilinearly, when their experience is first asked for (mapped ones: when they are seen).
    """

    tasks: int = 5
    protocol: Protocol = "domain"
    degrees: float = 180.0
    seed: int | None = None  # draws the angles

    def __post_init__(self):
        self._expect(self.protocol, tasks=self.tasks)
        if not isfinite(self.degrees):
            raise ValueError(f"degrees must be a finite number, got {self.degrees}")

    @property
    def angles(self) -> tuple[float, ...]:
        if self.seed is None:
            return tuple(torch.linspace(0, self.degrees, self.tasks, dtype=torch.float64).tolist())
        generator = torch.Generator().manual_seed(self.seed)
        return tuple((self.degrees * torch.rand(self.tasks, generator=generator, dtype=torch.float64)).tolist())

    def arrange(self, dataset: Dataset) -> Stream:
        if dataset.train.x.ndim != 4:
            raise DataError(f"expected images (N, C, H, W) to rotate, got samples {tuple(dataset.train.x.shape[1:])}")
        return revisited(dataset, self.tasks, self.protocol, self._look)

    def _look(self, x: Tensor, task: int) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
        if isinstance(x, Mapped):  # turned whenever it is seen: no memory would hold the copy
            return x, partial(rotate, degrees=self.angles[task])
        return rotate(x, self.angles[task]), None


def rotate(x: Tensor, degrees: float) -> Tensor:
    """Images (N, C, H, W) turned counter-clockwise about their centre, zero where nothing was; same dtype."""
    if degrees == 0:
        return x
    (height, width), angle = x.shape[2:], radians(degrees)
    # from the turned image's coordinates in [-1, 1] to the original's; the ratios keep pixels square
    rows = [[cos(angle), -sin(angle) * height / width, 0], [sin(angle) * width / height, cos(angle), 0]]
    grid = F.affine_grid(torch.tensor([rows], device=x.device), [1, 1, height, width], align_corners=False)
    turned = torch.empty_like(x)
    for into, images in zip(turned.split(CHUNK), x.split(CHUNK), strict=True):
        at = grid.expand(len(images), -1, -1, -1)
        out = F.grid_sample(images.float(), at, mode="bilinear", padding_mode="zeros", align_corners=False)
        into.copy_(out.round_().clamp_(0, 255) if x.dtype == torch.uint8 else out)
    return turned

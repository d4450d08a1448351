"""Transfer and interference between tasks (Riemer et al. 2019, arXiv:1810.11910)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...streams.experience import Samples
from ..base import Strategy
from ..blocks.gradients import loss_gradient


@dataclass(frozen=True)
class Interference(Strategy):
    """Reports the cosines between the gradients of all experiences met so far, at every milestone.

    Above 0 a step for one helps the other (transfer), below 0 it harms it (interference). It changes
    nothing that is learned: `naive + interference`.
    """

    recalls = None
    samples: int = 256  # of each experience, kept to take its gradient

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    def consolidate(self, learner, experience, state):
        some = experience.train.draw(self.samples, learner.rng["interference"])
        return (*state, some._asdict()) if state else (some._asdict(),)

    def describe(self, learner, state):
        with learner.resting():
            rows = []
            for part in state:
                some = Samples(part["x"], part["y"], part["task"])
                batch = some.batch(torch.arange(len(some.y), device=some.y.device))
                rows.append(F.normalize(loss_gradient(learner, batch, list(learner.params)), dim=0))
        cosines = torch.stack(rows) @ torch.stack(rows).T
        count = len(rows)
        return {f"cosine/{i + 1:02d}/{j + 1:02d}": cosines[i, j].item() for i in range(count) for j in range(i)}

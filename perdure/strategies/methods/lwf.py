"""Learning without forgetting, by distillation (Li & Hoiem 2016, arXiv:1606.09282)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..base import Strategy
from ..blocks.features import outputs_of
from ..learner import SHUT


@dataclass(frozen=True)
class Distillation(Strategy):
    """Answer the new inputs as the learner of before would have, on the classes of before.

    Adds strength * T^2 * sum_h KL(softmax(old_h / T) || softmax(new_h / T)), over the heads h that were
    open before (one in a class- or domain-incremental stream, one per past task in a task-incremental
    one), averaged over the batch. T^2 keeps the gradient's size independent of the temperature T.
    """

    recalls = False
    still = True
    strength: float = 1.0
    temperature: float = 2.0

    def __post_init__(self):
        if self.strength < 0 or self.temperature <= 0:
            raise ValueError(f"expected strength >= 0 and temperature > 0, got {self.strength}, {self.temperature}")

    def penalty(self, learner, batch, outputs, state):
        if not state:
            return 0.0
        with torch.no_grad(), learner.resting():
            before = learner.outputs(batch.x, batch.task, state["model"])
        shut = ~state["heads"][:, None, :]  # (H, 1, C)
        old = F.log_softmax((before / self.temperature).masked_fill(shut, SHUT), -1)  # (H, B, C)
        new = F.log_softmax((outputs / self.temperature).masked_fill(shut, SHUT), -1)
        each = (old.exp() * (old - new)).sum(-1).sum(0)  # (B,)
        return self.strength * self.temperature**2 * (batch.weight * each).sum() / batch.weight.sum()

    def consolidate(self, learner, experience, state):
        if learner.heads is None:
            heads = torch.ones(1, outputs_of(learner, experience), dtype=torch.bool, device=learner.device)
        elif learner.protocol == "task":
            here = learner.heads[experience.task : experience.task + 1]
            heads = torch.cat([state["heads"], here]) if state else here.clone()
        else:
            heads = learner.heads[:1].clone()
        return {"model": learner.snapshot(), "heads": heads}

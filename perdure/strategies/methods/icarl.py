"""iCaRL: herding, distillation, and the nearest mean as classifier (Rebuffi et al. 2017, arXiv:1611.07725)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...streams.experience import Samples
from ..base import Strategy
from ..blocks.features import all_features, features
from ..blocks.memory import drawn, joined, refuse_no_room, remembered
from ..learner import SHUT


@dataclass(frozen=True)
class ICaRL(Strategy):
    """Remember each class by samples near its mean, and answer with the class whose mean is nearest.

    Old samples are mixed into every batch, and the old learner's answers are kept by binary cross-entropy
    on the classes of before (eq. 2, its second half; the first half is the learner's own loss). Features
    and means have length one. A class without a sample in the memory has no mean and is never answered: give it as
    many samples as the stream has classes, or more.
    """

    still = True
    capacity: int
    strength: float = 1.0  # of distillation

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.strength < 0:
            raise ValueError(f"strength must not be negative, got {self.strength}")

    def augment(self, learner, batch, state):
        if not state:
            return batch
        return joined(batch, drawn(state["memory"], len(batch.y), learner.rng["icarl"])[0])

    def penalty(self, learner, batch, outputs, state):
        if not state:
            return 0.0
        with torch.no_grad(), learner.resting():
            before = learner.outputs(batch.x, batch.task, state["model"]).sigmoid()
        each = F.binary_cross_entropy_with_logits(outputs, before, reduction="none")
        return self.strength * (each * state["known"]).sum(1).mean()

    def consolidate(self, learner, experience, state):
        past = state["memory"] if state else {}
        memory = remembered(past, learner, experience, self.capacity, "herding", learner.rng["icarl"])
        seen, outputs = all_features(learner, Samples(memory["x"], memory["y"], memory["task"]))
        member = F.one_hot(memory["y"], outputs.shape[1]).to(seen)  # (M, C)
        means = F.normalize(member.T @ F.normalize(seen))
        return {"memory": memory, "model": learner.snapshot(), "means": means, "known": member.any(0)}

    def answer(self, learner, batch, outputs, state):
        if not state:
            return outputs
        seen, _ = features(learner, batch.x, batch.task)
        nearness = 2 * F.normalize(seen) @ state["means"].T  # - |f - mean|^2, less what is common
        return nearness.masked_fill(~state["known"], SHUT)

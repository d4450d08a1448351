"""Prototypical networks (Snell et al. 2017, arXiv:1703.05175)."""

from dataclasses import dataclass

import torch
from torch.func import grad_and_value

from .base import MetaLearner


@dataclass(frozen=True)
class ProtoNets(MetaLearner):
    """The model embeds; a class is the mean of its support there, and queries go to the nearest, by logits
    -|f(x) - c_k|² (eq. 2). No weight is moved for a task. embedding: the model's outputs.
    """

    embedding: int = 64
    lr = 0.0
    steps = 0

    def __post_init__(self):
        if self.embedding < 1:
            raise ValueError(f"embedding must be at least 1, got {self.embedding}")

    def width(self, outputs, classes):
        if classes is None:
            raise ValueError("prototypes are of classes, and these tasks ask for values; take maml or its like")
        return self.embedding

    def adapted(self, loss, learned, x, y, steps=None):
        return dict(learned["weights"])

    def answers(self, loss, learned, x, y, queries, steps=None):
        support, query = (loss.outputs(learned["weights"], samples) for samples in (x, queries))
        assert loss.classes
        of = (y[:, None] == torch.arange(loss.classes, device=y.device)).to(support.dtype)  # (K, C)
        prototypes = (of.T @ support) / of.sum(0)[:, None]
        return -(query[:, None] - prototypes).square().sum(2)

    def told(self, loss, learned, task):
        def after(learned):
            return loss.of(self.answers(loss, learned, task.support_x, task.support_y, task.query_x), task.query_y)

        return grad_and_value(after)(learned)

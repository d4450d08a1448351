"""Rehearsal on learned images (Wang et al. 2018, arXiv:1811.10959; Zhao et al. 2021, arXiv:2006.05929)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..streams.experience import Samples, pixels
from . import team
from .base import State, Strategy
from .learner import Learner
from .memory import balanced, drawn, joined, refuse_no_room

NOISE = 0.1  # of the weights, relative to a layer's spread: images must fit a neighbourhood of models


@dataclass(frozen=True)
class Distilled(Strategy):
    """Keep `capacity` images in all that were learned to give the gradients that a class's real images give.

    They start as real samples of the class; `steps` of Adam on their pixels lower
    sum_l 1 - cos(grad_l L(learned), grad_l L(real)) over layers l (2006.05929, eq. 9), at weights near
    the learner's own.
    """

    capacity: int
    steps: int = 40
    lr: float = 0.02  # in pixels of [0, 1]

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
        past = state or {"y": train.y[:0], "key": key[:0]}
        held = len(past["y"])
        keep = balanced(torch.cat([past["key"], key]), torch.cat([past["y"], train.y]), self.capacity)
        old, new = keep[keep < held], keep[keep >= held] - held
        start = train.samples(new)
        learned = self._learned(learner, train, start, rng) if len(new) else start.x
        fresh = {"x": learned, "y": start.y, "task": start.task, "key": torch.rand(len(new), generator=rng).to(key)}
        return {k: torch.cat([state[k][old], v]) for k, v in fresh.items()} if state else fresh

    def _learned(self, learner: Learner, train, start: Samples, rng: torch.Generator) -> Tensor:
        """`start` with pixels that were learned, in the data's own type."""
        whole = start.x.dtype == torch.uint8
        x = pixels(start.x).clone().requires_grad_()
        adam = torch.optim.Adam([x], self.lr)
        labels = start.y.unique()
        with learner.resting(), torch.enable_grad():
            for _ in range(self.steps):
                params = _near(learner, rng)
                loss = torch.zeros((), device=x.device)
                for label in labels:
                    mine = start.y == label
                    rows = (train.y == label).nonzero().flatten()
                    real = train.batch(rows[torch.randint(len(rows), (128,), generator=rng).to(rows.device)])
                    wanted = _gradients(learner, params, real.x, real.y, real.task, False)
                    given = _gradients(learner, params, x[mine], start.y[mine], start.task[mine], True)
                    loss = loss + sum(
                        1 - F.cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in zip(given, wanted, strict=True)
                    )
                (x.grad,) = torch.autograd.grad(loss, [x])
                adam.step()
                if whole:
                    with torch.no_grad():
                        x.clamp_(0, 1)
        x = x.detach()
        return (255 * x).round().to(torch.uint8) if whole else x


def _near(learner: Learner, rng: torch.Generator) -> State:
    noise = {k: torch.randn(p.shape, generator=rng).to(p) for k, p in learner.params.items()}
    spread = {k: p.detach().std() if p.numel() > 1 else 0.0 for k, p in learner.params.items()}
    return {k: (p.detach() + NOISE * spread[k] * noise[k]).requires_grad_() for k, p in learner.params.items()}


def _gradients(learner: Learner, params: State, x: Tensor, y: Tensor, task: Tensor, keep: bool) -> tuple[Tensor, ...]:
    loss = F.cross_entropy(learner.logits(x, task, params), y)
    found = torch.autograd.grad(loss, list(params.values()), create_graph=keep)
    return tuple(team.mean(dict(zip(params, found, strict=True))).values())

"""Look-ahead meta-learning for online streams (Gupta et al. 2020, arXiv:2007.13904)."""

from dataclasses import dataclass

import torch

from ...streams.experience import Batch
from ..base import Grads, Strategy
from ..blocks.gradients import flat, gradients
from ..blocks.memory import drawn, joined, refuse_no_room, remembered
from ..blocks.split_model import buffer_name
from ..training.optimizers import SGD


@dataclass(frozen=True)
class LaMAML(Strategy):
    """Step only where a few steps on new samples help old and new ones alike, every weight at a rate that it learns.

    Every batch is looked ahead on: `inner` steps of rates a, one for each weight, on a part of it each. The gradient g
    at the weights there, on the batch and a draw from a memory of `capacity` samples, moves the rates by
    rate * g * (the sum of the inner gradients), and the weights that were before by -max(0, a) g: algorithm 1 with
    first-order derivatives, as in the authors' experiments. The rates lie in buffers of the model.

    The optimizer multiplies the step: sgd(1) makes the paper's. Name it first in a sum: stages before it see the
    weights that were looked ahead to, those after it the ones that are moved, and the step itself.
    """

    capacity: int
    lr: float = 0.1  # rates in the beginning
    rate: float = 0.1  # of learning the rates
    inner: int = 5  # steps ahead, or as many as a batch has samples
    replay: int | None = None  # remembered samples in a draw; as many as new ones by default
    clip: float = 2.0  # the longest that a gradient may be

    def __post_init__(self):
        refuse_no_room(self.capacity)
        if self.lr <= 0 or self.rate < 0 or self.clip <= 0:
            raise ValueError(f"expected lr and clip > 0 and rate >= 0, got {self.lr}, {self.clip} and {self.rate}")
        if self.inner < 1 or (self.replay is not None and self.replay < 1):
            raise ValueError(f"inner and replay must be at least 1, got {self.inner} and {self.replay}")

    def init(self, learner):
        if not isinstance(learner.optimizer, SGD):
            raise ValueError("la_maml learns a rate for every weight, which other optimizers would rescale; use sgd(1)")
        for name, p in learner.params.items():
            learner.model.register_buffer(_buffer(name), torch.full_like(p, self.lr))
        return {}

    def augment(self, learner, batch, state):
        start = {k: p.detach().clone() for k, p in learner.params.items()}
        summed = {k: torch.zeros_like(p) for k, p in start.items()}
        parts = min(self.inner, len(batch.y))
        for some in map(Batch._make, zip(*(v.tensor_split(parts) for v in batch), strict=True)):
            loss = learner.loss(learner.outputs(some.x, some.task), some)
            for name, g in _clipped(gradients(loss, learner, list(start)), self.clip).items():
                summed[name] += g
                with torch.no_grad():
                    learner.params[name].sub_(learner.model.get_buffer(_buffer(name)) * g)
        learner.scratch["la_maml"] = start, summed
        if not state:
            return batch
        past, _ = drawn(state, self.replay or len(batch.y), learner.rng["la_maml"])
        return joined(batch, past)

    @torch.no_grad()
    def steer(self, learner, grads, state):
        start, summed = learner.scratch.pop("la_maml")
        for name, p in learner.params.items():
            p.copy_(start[name])
        steps = {}
        for name, g in _clipped(grads, self.clip).items():
            rates = learner.model.get_buffer(_buffer(name))
            rates.addcmul_(g, summed[name], value=self.rate)
            steps[name] = rates.clamp(min=0) * g
        return steps

    def consolidate(self, learner, experience, state):
        return remembered(state, learner, experience, self.capacity, "reservoir", learner.rng["la_maml"])

    def describe(self, learner, state):
        rates = torch.cat([learner.model.get_buffer(_buffer(name)).flatten() for name in learner.params])
        return {"rate/mean": rates.mean().item(), "rate/resting": (rates <= 0).double().mean().item()}


def _clipped(grads: Grads, most: float) -> Grads:
    length = flat(grads).norm()
    return {name: g * (most / length.clamp(min=most)) for name, g in grads.items()}


def _buffer(name: str) -> str:
    return buffer_name("la_maml", name)

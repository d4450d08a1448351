"""Experience replay: every batch carries remembered samples along (Chaudhry et al. 2019, arXiv:1902.10486)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..streams.experience import Batch, Samples
from .base import Strategy

Selection = Literal["balanced", "reservoir"]


@dataclass(frozen=True)
class Rehearsal(Strategy):
    """Keep `capacity` real samples in all, and join draws from them to every batch.

    Every sample met gets a random key once, and those with the smallest keys are kept: of everything
    (`reservoir`, uniform over all samples met, as Vitter 1985), or of each class up to its quota
    (`balanced`). Keys make the choice independent of batches and of the order of arrival.
    """

    capacity: int
    selection: Selection = "balanced"
    replay: int | None = None  # remembered samples in a batch; as many as new ones by default

    def __post_init__(self):
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")
        if self.replay is not None and self.replay < 1:
            raise ValueError(f"replay must be at least 1, got {self.replay}")

    def augment(self, learner, batch, state):
        if not state:
            return batch
        memory = Samples(state["x"], state["y"], state["task"])
        wanted = self.replay or len(batch.y)
        draw = torch.randint(len(memory.y), (wanted,), generator=learner.rng["rehearsal"])
        return joined(batch, memory.batch(draw.to(batch.y.device)))

    def consolidate(self, learner, experience, state):
        train, choose = experience.train, _smallest if self.selection == "reservoir" else _balanced
        key = torch.rand(len(train), generator=learner.rng["rehearsal"], dtype=torch.float64).to(train.device)
        old = len(state["key"]) if state else 0
        if state:
            key = torch.cat([state["key"], key])
        keep = choose(key, torch.cat([state["y"], train.y]) if state else train.y, self.capacity)
        held, fresh = keep[keep < old], keep[keep >= old]
        memory = train.samples(fresh - old)._asdict() | {"key": key[fresh]}
        return {k: torch.cat([state[k][held], v]) for k, v in memory.items()} if state else memory


def joined(*batches: Batch) -> Batch:
    return Batch(*map(torch.cat, zip(*batches, strict=True)))


def _smallest(key: Tensor, y: Tensor, capacity: int) -> Tensor:
    return key.argsort()[:capacity]


def _balanced(key: Tensor, y: Tensor, capacity: int) -> Tensor:
    """The rows to keep: the smallest keys of every class, as evenly as the classes' sizes allow."""
    order = key.argsort()
    order = order[y[order].argsort(stable=True)]  # by class, then by key
    _, counts = y[order].unique_consecutive(return_counts=True)
    quotas = _quotas(counts.tolist(), capacity)
    parts = order.split(counts.tolist())
    return torch.cat([part[:quota] for part, quota in zip(parts, quotas, strict=True)])


def _quotas(counts: list[int], capacity: int) -> list[int]:
    """As equal as possible, none above its count, `capacity` in all if there are as many."""
    left, waiting = capacity, sorted(counts)
    for n, count in enumerate(waiting):
        level, rest = divmod(left, len(waiting) - n)
        if count > level:
            break
        left -= count
    else:
        return counts
    larger = [c for c, count in enumerate(counts) if count > level][:rest]
    return [min(count, level) + (c in larger) for c, count in enumerate(counts)]

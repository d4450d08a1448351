"""Rehearsal from dreams instead of memory (Shin et al. 2017, arXiv:1705.08690; van de Ven et al. 2020)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..streams.experience import Samples
from .base import State, Strategy
from .features import all_features, head
from .generators.base import Data, Generator, seeded
from .generators.networks import adam, batches, descend, perceptron
from .learner import Learner
from .memory import drawn, joined
from .rng import Rng

CHUNK = 2000  # dreams drawn at once


@dataclass(frozen=True)
class GenerativeReplay(Strategy):
    """Learn a generator beside the learner, and join its dreams of the past to every batch.

    After each experience the generator goes on from where it was, on the new samples and on its own dreams of
    the old, as many of every class; then a pool of dreams is drawn once, for the next experience. Dreams bear the
    condition that they were asked for (`condition`), or what the learner of now makes of them: its answer
    (`hard`), or all of its answers, told again at a temperature T by T² KL(old || new) (`soft`).
    On a task-incremental stream a dream is of the task that it was asked for; a generator that knows no
    conditions has a small classifier sort its dreams into tasks.
    """

    generator: Generator
    labels: Literal["condition", "hard", "soft"] | None = None  # by default the condition where there is one, else soft
    pool: int = 10000  # dreams of the past, drawn once for each experience
    replay: int | None = None  # dreams in a batch; as many as new samples by default
    share: float | None = None  # of the loss, that dreams have; by default that of the experiences past
    temperature: float = 2.0  # of soft labels

    def __post_init__(self):
        if self.pool < 2 or (self.replay is not None and self.replay < 1) or self.temperature <= 0:
            raise ValueError(
                "expected pool >= 2, replay >= 1 and temperature > 0, got "
                f"{self.pool}, {self.replay} and {self.temperature}"
            )
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"share must be between 0 and 1, got {self.share}")
        if self.labels == "condition" and not self.generator.conditional:
            raise ValueError("labels='condition' needs a generator that knows conditions, as cvae or diffusion")

    def augment(self, learner, batch, state):
        if not state or self._labels == "soft":
            return batch
        past, _ = drawn(state["pool"], self.replay or len(batch.y), learner.rng["dreams"])
        heavier = self._weight(state) * batch.weight.sum() / len(past.y)
        return joined(batch, past._replace(weight=past.weight * heavier))

    def penalty(self, learner, batch, outputs, state):
        if not state or self._labels != "soft":
            return 0.0
        past, at = drawn(state["pool"], self.replay or len(batch.y), learner.rng["dreams"])
        old = F.log_softmax(state["pool"]["outputs"][at] / self.temperature, 1)
        new = F.log_softmax(learner.logits(past.x, past.task) / self.temperature, 1)
        return self._weight(state) * self.temperature**2 * (old.exp() * (old - new)).sum(1).mean()

    def consolidate(self, learner, experience, state):
        rng, count = learner.rng.fold("generator"), head(learner.model).out_features
        tasks = len(learner.heads) if learner.protocol == "task" and learner.heads is not None else 1
        data = self._data(experience.train.everything(), state, tasks, count, rng["mix"])
        start = state["generator"] if state else None
        fitted = self.generator.fit(data, rng, start, tasks * count, lambda progress: learner.pulse())
        pool = self._pool(learner, fitted, data, experience.task, tasks, count, rng)
        return {"generator": fitted, "pool": pool, "met": state["met"] + 1 if state else 1}

    def carried(self, state):
        """The generator; the pool is drawn from it."""
        return {"generator": state["generator"]} if state else state

    def describe(self, learner, state):
        """The entropy of the dreams' classes, in nats: log K where K classes are dreamt equally often."""
        share = state["pool"]["y"].bincount().double() / len(state["pool"]["y"])
        return {"dreams/entropy": torch.special.entr(share).sum().item()}

    @property
    def _labels(self) -> str:
        return self.labels or ("condition" if self.generator.conditional else "soft")

    def _weight(self, state: State) -> float:
        """Of the dreams' loss, beside that of the new samples."""
        return state["met"] if self.share is None else self.share / (1 - self.share)

    def _data(self, real: Samples, state: State, tasks: int, count: int, rng: torch.Generator) -> Data:
        """New samples, and as many dreams for every experience past."""
        y = real.task * count + real.y if tasks > 1 else real.y
        if not state:
            return Data(real.x, y)
        pool = state["pool"]
        at = torch.randint(len(pool["y"]), (len(y) * state["met"],), generator=rng).to(y.device)
        dreamt = torch.arange(len(y) + len(at), device=y.device) >= len(y)
        return Data(torch.cat([real.x, pool["x"][at]]), torch.cat([y, pool["condition"][at]]), dreamt)

    def _pool(
        self, learner: Learner, fitted: State, data: Data, here: int, tasks: int, count: int, rng: Rng
    ) -> dict[str, Tensor]:
        """Dreams as they are stored, with what they were asked for and what the learner answers."""
        seen = fitted["seen"].nonzero().flatten()
        asked = seen.repeat(-(-self.pool // len(seen)))[: self.pool] if self.generator.conditional else None
        x = torch.cat(list(self._dreams(learner, fitted, asked, rng)))
        if asked is None and tasks > 1:
            asked = _sorted(data, x, len(fitted["seen"]), rng)
        task = asked // count if asked is not None and tasks > 1 else torch.full((len(x),), here, device=x.device)
        stored = (255 * x).round().to(torch.uint8) if data.x.dtype == torch.uint8 else x
        outputs = learner.masked(all_features(learner, Samples(stored, task, task))[1], task)
        y = asked % count if asked is not None and self._labels == "condition" else outputs.argmax(1)
        return {"x": stored, "y": y, "task": task, "condition": y if asked is None else asked, "outputs": outputs}

    def _dreams(self, learner: Learner, fitted: State, asked: Tensor | None, rng: Rng) -> Iterator[Tensor]:
        for n, first in enumerate(range(0, self.pool, CHUNK)):
            size = min(CHUNK, self.pool - first)
            part = None if asked is None else asked[first : first + size]
            yield self.generator.sample(fitted, size, rng.fold("dreams", n), part)
            learner.pulse()


def _sorted(data: Data, x: Tensor, conditions: int, rng: Rng) -> Tensor:
    """The conditions (N,) that a small classifier, trained on `data`, takes dreams x for."""
    with seeded(rng.integer("sorter")), torch.enable_grad():
        net = perceptron(x[0].numel(), 256, conditions).to(x.device)
        optimizer = adam(net, 1e-3)
        for _, (real, y, _) in zip(range(500), batches(data, 128, rng.fold("sorter")), strict=False):
            descend(optimizer, F.cross_entropy(net(real), y))
        return net(x.flatten(1)).argmax(1)

"""Rehearsal from dreams instead of memory (Shin et al. 2017, arXiv:1705.08690; van de Ven et al. 2020)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from ...streams.experience import Batch, Samples
from ..base import State, Strategy
from ..blocks.features import outputs_of
from ..blocks.memory import drawn, joined
from ..blocks.split_model import parted, passed
from ..generators.base import Data, Generator, seeded
from ..generators.networks import adam, batches, descend, perceptron
from ..generators.variational import GatedVAE
from ..learner import Learner
from ..numerics.rng import Rng
from ..training.requirements import expect_rest

SORTER_STEPS = 500  # of the classifier that tells which condition a dream is of
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

    layer: the layer whose input is dreamt, counted from 0, the samples themselves (latent replay: Pellegrini et
    al. 2020, arXiv:1912.01100). The layers before it rest once an experience has been learned; or, with
    `hold`, they learn on, and hold * E|φ(x) - φ_old(x)|² / E|φ_old(x)|² keeps their features φ near where they were.
    """

    generator: Generator
    labels: Literal["condition", "hard", "soft"] = "soft"
    pool: int = 10000  # dreams of the past, drawn once for each experience
    replay: int | None = None  # dreams in a batch; as many as new samples by default
    share: float | None = None  # of the loss, that dreams have; by default that of the experiences past
    temperature: float = 2.0  # of soft labels
    layer: int = 0
    hold: float | None = None

    def __post_init__(self):
        if self.pool < 2 or (self.replay is not None and self.replay < 1) or self.temperature <= 0:
            raise ValueError(
                "expected pool >= 2, replay >= 1 and temperature > 0, got "
                f"{self.pool}, {self.replay} and {self.temperature}"
            )
        if self.layer < 0 or (self.hold is not None and (self.hold < 0 or not self.layer)):
            raise ValueError(f"expected layer >= 0, and hold >= 0 only with a layer, got {self.layer} and {self.hold}")
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"share must be between 0 and 1, got {self.share}")
        if self.labels == "condition" and not self.generator.conditional:
            raise ValueError("labels='condition' needs a generator that knows conditions, as cvae or diffusion")

    def init(self, learner):
        if self.layer:
            early, _ = parted(learner.model, self.layer)
            if self.hold is None:
                expect_rest(learner, early, "a generative replay of hidden features")
        return {}

    def augment(self, learner, batch, state):
        if not state or self.layer or self.labels == "soft":
            return batch
        past, _ = self._drawn(learner, batch, state)
        heavier = self._weight(state) * batch.weight.sum() / len(past.y)
        return joined(batch, past._replace(weight=past.weight * heavier))

    def penalty(self, learner, batch, outputs, state):
        if not state:
            return 0.0
        loss = self.hold * self._moved(learner, batch, state) if self.hold else 0.0
        if self.labels == "soft":
            past, at = self._drawn(learner, batch, state)
            old = F.log_softmax(state["pool"]["outputs"][at] / self.temperature, 1)
            new = F.log_softmax(learner.masked(self._answered(learner, past), past.task) / self.temperature, 1)
            told = self.temperature**2 * (old.exp() * (old - new)).sum(1).mean()
        elif self.layer:
            past, _ = self._drawn(learner, batch, state)
            told = learner.loss(self._answered(learner, past), past)
        else:
            return loss  # dreams are in the batch
        return loss + self._weight(state) * told

    def steer(self, learner, grads, state):
        if not state or not self.layer or self.hold is not None:
            return grads
        early = {id(p) for p in parted(learner.model, self.layer)[0].parameters()}
        return {k: torch.zeros_like(g) if id(learner.params[k]) in early else g for k, g in grads.items()}

    def consolidate(self, learner, experience, state):
        rng, count = learner.rng.fold("generator"), outputs_of(learner, experience)
        tasks = len(learner.heads) if learner.protocol == "task" and learner.heads is not None else 1
        early, late = parted(learner.model, self.layer)
        real = experience.train.everything()
        if self.layer:
            real = real._replace(x=passed(learner, early, real))
        unit = state["unit"] if state else real.x.square().mean().sqrt().item() if self.layer else 1.0
        data = self._data(real, state, unit, tasks, count, rng["mix"])
        start = state["generator"] if state else None
        fitted = self.generator.fit(data, rng, start, tasks * count, lambda progress: learner.pulse())
        x, asked = self._dreams(learner, fitted, data, unit, tasks, rng)
        task = (
            asked // count if asked is not None and tasks > 1 else torch.full((len(x),), experience.task).to(x.device)
        )
        outputs = learner.masked(passed(learner, late, Samples(x, task, task)), task)
        y = asked % count if asked is not None and self.labels == "condition" else outputs.argmax(1)
        pool = {"x": x, "y": y, "task": task, "condition": y if asked is None else asked, "outputs": outputs}
        after = {"generator": fitted, "pool": pool, "met": state["met"] + 1 if state else 1, "unit": unit}
        return after if self.hold is None else after | {"early": _copied(early)}

    def carried(self, state):
        """The generator, and the layers that features are held by; the pool is drawn from it."""
        return {k: v for k, v in state.items() if k != "pool"}

    def describe(self, learner, state):
        """The entropy of the dreams' classes, in nats: log K where K classes are dreamt equally often."""
        share = state["pool"]["y"].bincount().double() / len(state["pool"]["y"])
        return {"dreams/entropy": torch.special.entr(share).sum().item()}

    def _weight(self, state: State) -> float:
        """Of the dreams' loss, beside that of the new samples."""
        return state["met"] if self.share is None else self.share / (1 - self.share)

    def _drawn(self, learner: Learner, batch: Batch, state: State) -> tuple[Batch, Tensor]:
        return drawn(state["pool"], self.replay or len(batch.y), learner.rng["dreams"])

    def _answered(self, learner: Learner, dreams: Batch) -> Tensor:
        if not self.layer:
            return learner.outputs(dreams.x, dreams.task)
        learner.task = dreams.task
        return parted(learner.model, self.layer)[1](dreams.x)

    def _moved(self, learner: Learner, batch: Batch, state: State) -> Tensor:
        """How far new samples' features are from where the early layers of before had them, per their size."""
        early, _ = parted(learner.model, self.layer)
        learner.task = batch.task
        with learner.resting():
            with torch.no_grad():
                before = functional_call(early, state["early"], (batch.x,))
            return (early(batch.x) - before).square().mean() / before.square().mean()

    def _data(self, real: Samples, state: State, unit: float, tasks: int, count: int, rng: torch.Generator) -> Data:
        """New samples, and as many dreams for every experience past; hidden features in units of their size."""
        x, y = real.x, real.task * count + real.y if tasks > 1 else real.y
        dreamt = None
        if state:
            pool = state["pool"]
            at = torch.randint(len(pool["y"]), (len(y) * state["met"],), generator=rng).to(y.device)
            x, y = torch.cat([x, pool["x"][at]]), torch.cat([y, pool["condition"][at]])
            dreamt = torch.arange(len(y), device=y.device) >= len(real.y)
        return Data(x / unit if self.layer else x, y, dreamt)

    def _dreams(
        self, learner: Learner, fitted: State, data: Data, unit: float, tasks: int, rng: Rng
    ) -> tuple[Tensor, Tensor | None]:
        """A pool of dreams as samples are stored, and the conditions (N,) that they are of, where that matters."""
        seen = fitted["seen"].nonzero().flatten()
        asked = seen.repeat(-(-self.pool // len(seen)))[: self.pool] if self.generator.conditional else None
        parts = []
        for n, first in enumerate(range(0, self.pool, CHUNK)):
            size = min(CHUNK, self.pool - first)
            part = None if asked is None else asked[first : first + size]
            parts.append(self.generator.sample(fitted, size, rng.fold("dreams", n), part))
            learner.pulse()
        x = torch.cat(parts)
        if asked is None and tasks > 1:
            asked = _sorted(data, x, len(fitted["seen"]), rng)
        if self.layer:
            x = x.clamp(data.x.min().item(), data.x.max().item()) * unit
        return ((255 * x).round().to(torch.uint8) if data.x.dtype == torch.uint8 else x), asked


@dataclass(frozen=True)
class BrainInspiredReplay(GenerativeReplay):
    """Replay of hidden features, dreamt by class through gates, with the learner's own answers (van de Ven et al.
    2020, doi:10.1038/s41467-020-17866-2).

    Their generator and learner are one network with feedback connections; here they are two.
    """

    generator: Generator = GatedVAE(bounds=None, likelihood="gaussian", noise=0.3)  # noqa: RUF009
    layer: int = 1


def _sorted(data: Data, x: Tensor, conditions: int, rng: Rng) -> Tensor:
    """The conditions (N,) that a small classifier, trained on `data`, takes dreams x for."""
    with seeded(rng.integer("sorter")), torch.enable_grad():
        net = perceptron(x[0].numel(), 256, conditions).to(x.device)
        optimizer = adam(net, 1e-3)
        for _, (real, y, _) in zip(range(SORTER_STEPS), batches(data, 128, rng.fold("sorter")), strict=False):
            descend(optimizer, F.cross_entropy(net(real), y))
        return net(x.flatten(1)).argmax(1)


def _copied(layers: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in layers.state_dict().items()}

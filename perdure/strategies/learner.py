"""The thing that learns: a model, the optimizer it is given, its random streams and its open heads."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.func import functional_call

from ..streams.experience import Batch
from .distributed import collectives
from .models import modes
from .numerics.rng import Rng


def silent(phase: str) -> None:
    """What hears of phases where nobody asks for them."""


Params = Mapping[str, Tensor]
Precision = Literal["float32", "bfloat16"]
SHUT = -1e9  # logit of a class outside the head; finite, so that p * log p stays 0


def idle() -> None: ...


@dataclass
class Learner:
    model: nn.Module
    optimizer: Callable[..., optim.Optimizer]  # called anew after every mark of the stream, unless its `keep` is true
    rng: Rng
    heads: Tensor | None = None  # (T, C) bool; None leaves every class open
    protocol: str = "class"  # of the stream that is being learned
    pulse: Callable[[], object] = idle  # called during long work between steps, to show that there is life
    precision: Precision = "float32"  # of what layers multiply; weights, losses and steps stay in float32
    compiled: Callable[[Tensor], Tensor] | None = None  # the model, for training; itself by default
    parts: int = 1  # that a batch is passed through in, one after the other
    workers: int = 1  # that are going to share the work; several are a `team` once they are at it
    phase: Callable[[str], object] = silent  # told of every phase of the run that begins, as `phases.PHASES` names them
    uncaptured: str = ""  # why the steps of the experience under way are not captured, where they are not
    progress: float = 0.0  # share of the experience's steps that are done once the one under way is
    scratch: dict[str, Any] = field(default_factory=dict)  # what stages leave for later in a step, or for its replays
    task: Tensor = field(init=False)  # (B,) of the samples whose forward pass is under way; gates ask for it
    params: dict[str, nn.Parameter] = field(init=False)  # that are learned: not those with requires_grad=False

    def __post_init__(self):
        self.params = {k: p for k, p in self.model.named_parameters() if p.requires_grad}

    def outputs(self, x: Tensor, task: Tensor, params: Params | None = None) -> Tensor:
        """(B, ...) inputs to (B, C) logits before any head is shut, under other parameters when given.

        Several workers pass a slice each through the model, and all get all.
        """
        return collectives.spread(partial(self._answers, params), x, task)

    def masked(self, outputs: Tensor, task: Tensor) -> Tensor:
        """(B, C) outputs with the classes shut that samples of (B,) tasks may not answer with."""
        return outputs if self.heads is None else outputs.masked_fill(~self.heads[task], SHUT)

    def logits(self, x: Tensor, task: Tensor, params: Params | None = None) -> Tensor:
        """(B, ...) inputs of (B,) tasks to (B, C) logits, shut classes at -1e9."""
        return self.masked(self.outputs(x, task, params), task)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Weighted mean cross-entropy of (B, C) outputs, a () tensor."""
        each = F.cross_entropy(self.masked(outputs, batch.task), batch.y, reduction="none")
        return (batch.weight * each).sum() / batch.weight.sum()

    def snapshot(self) -> dict[str, Tensor]:
        """A detached copy of every parameter and buffer."""
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _answers(self, params: Params | None, x: Tensor, task: Tensor) -> Tensor:
        self.task = task
        if self.precision == "float32":
            return self._through(params, x)
        with torch.autocast(x.device.type, torch.bfloat16):
            told = self._through(params, x)
        return told.float()

    def _through(self, params: Params | None, x: Tensor) -> Tensor:
        if params is not None:
            return functional_call(self.model, dict(params), (x,))
        return self.compiled(x) if self.compiled is not None and self.model.training else self.model(x)

    @property
    def keeps_optimizer(self) -> bool:
        return getattr(self.optimizer, "keep", False)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Evaluation mode for a while: no dropout, and batch statistics stay as they are."""
        with modes.resting(self.model):
            yield

    def train(self) -> None:
        """Training mode, but for frozen layers, which rest."""
        modes.to_training(self.model)

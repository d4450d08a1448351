"""Context-dependent gating (Masse et al. 2018, arXiv:1802.01569)."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..base import Strategy
from ..models.winners import Winners
from ..training.requirements import expect_tasks


@dataclass(frozen=True)
class ContextGating(Strategy):
    """Let every task use a random share of the hidden units, and keep the others silent for it.

    Needs the task of every sample, in tests too. Gates hang on the activations (ReLU, winners) of the
    model, are drawn from the seed, and cost no state.
    """

    recalls = False
    closed: float = 0.8  # share of units that are silent for a task

    def __post_init__(self):
        if not 0 <= self.closed < 1:
            raise ValueError(f"closed must be in [0, 1), got {self.closed}")

    def init(self, learner):
        expect_tasks(learner, "xdg")
        assert learner.heads is not None  # a task-incremental stream has a table of them
        tasks, tables, layers = len(learner.heads), {}, dict(learner.model.named_modules())
        draws = {name: learner.rng.fold(name)["xdg"] for name, m in layers.items() if isinstance(m, nn.ReLU | Winners)}

        def gated(name: str, module: nn.Module, given: tuple, out: Tensor) -> Tensor:
            place = name, out.shape[1]  # an activation may stand behind several layers
            if place not in tables:
                units = torch.rand(tasks, out.shape[1], generator=draws[name]).argsort(1)
                tables[place] = (units >= round(self.closed * out.shape[1])).to(out)  # (T, U)
            open_ = tables[place][learner.task]
            return out * open_.view(*open_.shape, *[1] * (out.dim() - 2))

        for name in draws:
            layers[name].register_forward_hook(partial(gated, name))
        return {}

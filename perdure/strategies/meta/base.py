"""A meta-learner is frozen hyperparameters plus pure functions over what it has learned."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ...streams.episodes import Episodes

Params = dict[str, Tensor]
Loss = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]  # of weights, on x (n, ...) and y (n, ...): ()

# layers whose gradients of gradients vmap gets wrong where they have weights (pytorch/functorch issue 534)
WRONG_TOGETHER = (nn.modules.batchnorm._NormBase, nn.LayerNorm)


@dataclass(frozen=True, eq=False)
class Told:
    """What T tasks say: a gradient for the outer optimizer, and how every task went."""

    gradient: dict[str, Params]  # of everything that is learned, the mean over the tasks that went well
    losses: Tensor  # (T,) on the queries, after adapting
    finite: Tensor  # (T,) bool: the others are left out of the mean


class MetaLearner(ABC):
    """Subclasses are frozen dataclasses. What is learned are weights by name, in parts by name: {"weights": ...}."""

    lr: float
    steps: int

    def init(self, weights: Params) -> dict[str, Params]:
        """What is learned, before any of it is: the model's weights to start from, and whatever else."""
        return {"weights": weights}

    @abstractmethod
    def adapted(self, loss: Loss, learned: dict[str, Params], x: Tensor, y: Tensor, steps: int | None = None) -> Params:
        """The weights for one task, after `steps` steps on its support x (K, ...) and y (K, ...)."""

    @abstractmethod
    def told(self, loss: Loss, learned: dict[str, Params], task: Episodes) -> tuple[dict[str, Params], Tensor]:
        """The gradient of one task (tensors without T), and its loss on the queries, ()."""

    def gradient(self, loss: Loss, learned: dict[str, Params], tasks: Episodes, together: bool = True) -> Told:
        """The mean gradient of T tasks. together: by vmap; or one after the other, which comes to the same.

        Tasks whose loss or gradient is not finite are left out, and told of; where none is left the gradient is 0.
        """
        if together:
            parts, losses = vmap(lambda *task: self.told(loss, learned, Episodes._make(task)), randomness="different")(
                *tasks
            )
        else:
            every = [self.told(loss, learned, Episodes._make(task)) for task in zip(*tasks, strict=True)]
            losses = torch.stack([one for _, one in every])
            parts = {k: {n: torch.stack([g[k][n] for g, _ in every]) for n in v} for k, v in every[0][0].items()}
        finite = losses.isfinite()
        for part in parts.values():
            for each in part.values():
                finite = finite & each.flatten(1).isfinite().all(1)
        return Told({k: {n: _mean(g, finite) for n, g in v.items()} for k, v in parts.items()}, losses.detach(), finite)


def task_loss(model: nn.Module, of: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss of a model's outputs (n, ...) against y under any weights, as task_loss(net, F.cross_entropy)."""
    return lambda weights, x, y: of(functional_call(model, dict(weights), (x,)), y)


def weights_of(model: nn.Module) -> Params:
    """The model's weights to start from, detached copies. Raises ValueError for layers that remember batches."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
            raise ValueError(
                f"{name} ({type(module).__name__}) keeps running statistics, which tasks would mix; build it with "
                "track_running_stats=False: every task is then normalised by its own batches"
            )
    return {k: v.detach().clone() for k, v in model.named_parameters()}


def goes_together(model: nn.Module) -> bool:
    """Whether vmap over tasks gets this model's gradients of gradients right: not where a normalisation has weights,
    which are then to be learned one task after the other.
    """
    return not any(isinstance(m, WRONG_TOGETHER) and m.weight is not None for m in model.modules())


def _mean(each: Tensor, finite: Tensor) -> Tensor:
    """Over the finite of T, of (T, ...); zeros where there is none."""
    wide = finite.view(-1, *[1] * (each.dim() - 1))
    return torch.where(wide, each, 0.0).sum(0) / finite.sum().clamp(min=1)

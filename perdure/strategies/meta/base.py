"""A meta-learner is frozen hyperparameters plus pure functions over what it has learned."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ...streams.episodes import Episodes
from ..models.modes import frozen, learning, resting
from .batched_mlp import Outputs, batched
from .losses import Aligned
from .usage import Order, known_order

Params = dict[str, Tensor]
# layers whose gradients of gradients vmap gets wrong where they have weights (pytorch/functorch issue 534)
WRONG_TOGETHER = (nn.modules.batchnorm._NormBase, nn.LayerNorm)


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The loss of a model under any weights, on x (n, ...) against y (n, ...): ().

    Raises ValueError, with both shapes, for y that are neither like the outputs nor a class for each sample: they would
    be broadcast.
    """

    outputs: Callable[[Mapping[str, Tensor], Tensor], Tensor]  # of weights, on x (n, ...): (n, ...)
    of: Callable[[Tensor, Tensor], Tensor]  # outputs against y
    classes: int | None = None  # that y tell apart; None where they are values
    together: bool = True  # whether tasks are learned together, by vmap, or one after the other
    batched: Outputs | None = None  # `outputs` of T sets of weights, where that is known without vmap
    model: nn.Module | None = None  # whose outputs they are
    order: Order | None = None  # in which the model uses its weights; that of their names where it is not known

    def __post_init__(self):
        object.__setattr__(self, "of", Aligned.around(self.of, None if self.classes is None else True))

    def learning(self) -> AbstractContextManager:
        """The model in training mode, as in meta-learning: but for frozen layers, which rest."""
        if self.model is None or torch.compiler.is_compiling():  # whoever compiles sets the mode before
            return nullcontext()
        return learning(self.model)

    def resting(self) -> AbstractContextManager:
        """The model in evaluation mode, as in tests."""
        return nullcontext() if self.model is None else resting(self.model)

    def __call__(self, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return self.of(self.outputs(weights, x), y)

    def each(self, weights: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """The losses (T,) under T sets of weights (T, ...), on x (T, n, ...) against y (T, n, ...)."""
        if self.batched is None:
            return vmap(self, randomness="different")(weights, x, y)
        return vmap(self.of)(self.batched(weights, x), y)


@dataclass(frozen=True, eq=False)
class Told:
    """What T tasks say: a gradient for the outer optimizer, and how every task went."""

    total: dict[str, Params]  # gradients of everything that is learned, the sum over the tasks that went well
    losses: Tensor  # (T,) on the queries, after adapting
    finite: Tensor  # (T,) bool: the others are left out of the sum

    @property
    def gradient(self) -> dict[str, Params]:
        """The mean over the tasks that went well; 0 where there is none."""
        count = self.finite.sum().clamp(min=1)
        return {k: {n: g / count for n, g in part.items()} for k, part in self.total.items()}

    @staticmethod
    def joined(parts: Sequence["Told"]) -> "Told":
        """What the parts of a meta-batch say together, added up in their order."""
        total = parts[0].total
        for one in parts[1:]:
            total = {k: {n: g + one.total[k][n] for n, g in part.items()} for k, part in total.items()}
        losses, finite = (torch.cat([getattr(one, name) for one in parts]) for name in ("losses", "finite"))
        return Told(total, losses, finite)


class MetaLearner(ABC):
    """Subclasses are frozen dataclasses. What is learned are weights by name, in parts by name: {"weights": ...}.

    Frozen weights (requires_grad=False) are not among them: neither a task nor the outer optimizer moves them.
    While it meta-learns, the model is in training mode on support and queries alike; in tests (validation and test
    tasks, `adapt`) it is in evaluation mode on both, so that a task's answers are the same every time.

    | layer | training: support, queries | tests: support, queries |
    |---|---|---|
    | dropout and its kin | on, drawn anew for every task and step | off |
    | normalisation by the batch, without running statistics | by the task's own samples of the pass | the same |
    | normalisation with running statistics | refused, but where frozen: by those, which stay | the same |
    | layer and group normalisation | no difference | no difference |
    | k-winners, and heterogeneous dropout of them | refused: they count wins in buffers | refused |
    """

    outer: ClassVar[str] = "adam"  # the outer optimizer, where none is asked for
    lr: float
    steps: int

    def init(self, weights: Params, chance: torch.Generator) -> dict[str, Params]:
        """What is learned, before any of it is: the model's weights to start from, and whatever else.

        Raises ValueError where it cannot learn such weights.
        """
        return {"weights": weights}

    def width(self, outputs: int, classes: int | None) -> int:
        """How many outputs the model must have, for tasks that ask for `outputs`. Raises ValueError."""
        return outputs

    @abstractmethod
    def adapted(
        self, loss: TaskLoss, learned: dict[str, Params], x: Tensor, y: Tensor, steps: int | None = None
    ) -> Params:
        """The weights for one task, after `steps` steps on its support x (K, ...) and y (K, ...).

        In the mode that the model is in: who asks sets it, by `loss.learning()` or `loss.resting()`. So do `answers`
        and `told`.
        """

    def answers(
        self,
        loss: TaskLoss,
        learned: dict[str, Params],
        x: Tensor,
        y: Tensor,
        queries: Tensor,
        steps: int | None = None,
    ) -> Tensor:
        """Outputs on the queries (Q, ...) of one task, whose support is x (K, ...) and y (K, ...)."""
        return loss.outputs(self.adapted(loss, learned, x, y, steps), queries)

    @abstractmethod
    def told(self, loss: TaskLoss, learned: dict[str, Params], task: Episodes) -> tuple[dict[str, Params], Tensor]:
        """The gradient of one task (tensors without T), and its loss on the queries, ()."""

    def gradient(self, loss: TaskLoss, learned: dict[str, Params], tasks: Episodes) -> Told:
        """The gradients of T tasks, together or one after the other, which comes to the same.

        Tasks whose loss or gradient is not finite are left out, and told of.
        """
        with loss.learning():
            if loss.together:
                together = vmap(lambda *task: self.told(loss, learned, Episodes._make(task)), randomness="different")
                return summed(*together(*tasks))
            every = [self.told(loss, learned, Episodes._make(task)) for task in zip(*tasks, strict=True)]
        losses = torch.stack([one for _, one in every])
        parts = {k: {n: torch.stack([g[k][n] for g, _ in every]) for n in v} for k, v in every[0][0].items()}
        return summed(parts, losses)


def summed(parts: dict[str, Params], losses: Tensor) -> Told:
    """What T tasks say, of their gradients (T, ...) and losses (T,)."""
    told = losses.detach()
    for part in parts.values():
        for each in part.values():
            told = told + each.reshape(len(each), -1).sum(1)  # not finite where one number of it is not
    finite = told.isfinite()
    return Told({k: {n: _sum(g, finite) for n, g in v.items()} for k, v in parts.items()}, losses.detach(), finite)


def task_loss(model: nn.Module, of: Callable[[Tensor, Tensor], Tensor], classes: int | None = None) -> TaskLoss:
    """The loss of a model's outputs (n, ...) against y, as task_loss(net, F.cross_entropy, 5)."""

    def outputs(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, dict(weights), (x,))

    return TaskLoss(outputs, of, classes, goes_together(model), batched(model), model, known_order(model))


def weights_of(model: nn.Module) -> Params:
    """The model's weights to start from, detached copies, without those that are frozen.

    Raises ValueError for layers that remember batches, and where all weights are frozen.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats and not frozen(module):
            raise ValueError(
                f"{name} ({type(module).__name__}) keeps running statistics, which tasks would mix; build it with "
                "track_running_stats=False: every task is then normalised by its own batches; or freeze its weights: "
                "it then goes by its running statistics, and leaves them as they are"
            )
    weights = {k: v.detach().clone() for k, v in model.named_parameters() if v.requires_grad}
    if not weights:
        raise ValueError(
            "every weight of the model is frozen (requires_grad=False), so that nothing can be learned; leave those of "
            "one layer at least to be learned"
        )
    return weights


def still_of(model: nn.Module) -> Params:
    """What of a model's state is not learned: frozen weights, and buffers; detached copies."""
    learned = {k for k, v in model.named_parameters() if v.requires_grad}
    return {k: v.detach().clone() for k, v in model.state_dict().items() if k not in learned}


def goes_together(model: nn.Module) -> bool:
    """Whether tasks are learned together, by vmap, rather than one after the other.

    Not where that is slower: on a CPU, convolutions whose weights differ from task to task (`benchmarks/meta.py`). A
    rule rather than a stopwatch, for the two ways round differently and a run must come out the same every time.
    """
    convolutions = [m.weight for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    slow = any(weight.requires_grad and weight.device.type == "cpu" for weight in convolutions)
    return exact_together(model) and not slow


def exact_together(model: nn.Module) -> bool:
    """Whether vmap gets a model's gradients of gradients right: not where a normalisation has weights."""
    return not any(isinstance(m, WRONG_TOGETHER) and m.weight is not None for m in model.modules())


def _sum(each: Tensor, finite: Tensor) -> Tensor:
    """Over the finite of T, of (T, ...); zeros where there is none."""
    return torch.where(finite.view(-1, *[1] * (each.dim() - 1)), each, 0.0).sum(0)

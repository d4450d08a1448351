"""Meta-learning by gradients through gradient steps (Finn et al. 2017, arXiv:1703.03400), and its kin."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from typing import ClassVar, Literal

import torch
from torch import Tensor, autograd
from torch.func import grad, grad_and_value

from ...streams.episodes import Episodes
from .base import MetaLearner, Params, TaskLoss, Told, summed


@dataclass(frozen=True)
class MAML(MetaLearner):
    """Weights from which `steps` gradient steps on a task's support leave the least loss on its queries (Finn et al.
    2017, arXiv:1703.03400, eq. 1): g = (I - lr H_support) ... (I - lr H_support) ∇L_query at the adapted weights.

    order=1 leaves the Hessians out (section 5.2 there): g = ∇L_query at the adapted weights.
    """

    lr: float = 0.01
    steps: int = 1
    order: Literal[1, 2] = 2

    def __post_init__(self):
        refuse_no_steps(self.lr, self.steps)
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order}")

    def adapted(self, loss, learned, x, y, steps=None):
        def slopes(own: Params, rest: Params) -> Params:
            return grad(lambda p: loss({**rest, **p}, x, y))(own)

        names = self.moving(loss, learned["weights"], x)
        return self._moved(learned, names, self.steps if steps is None else steps, slopes)

    def _moved(
        self,
        learned: dict[str, Params],
        names: tuple[str, ...],
        steps: int,
        slopes: Callable[[Params, Params], Params],
    ) -> Params:
        """The weights after so many steps of those of these names. slopes: of those that move, beside the rest."""
        weights = dict(learned["weights"])
        for step in range(steps):
            rest = {k: v for k, v in weights.items() if k not in names}
            own = {k: weights[k] for k in names}
            slope = slopes(own, rest)
            if self.order == 1:
                slope = {k: g.detach() for k, g in slope.items()}
            weights |= {k: v - self.rate(learned, k, step) * slope[k] for k, v in own.items()}
        return weights

    def told(self, loss, learned, task):
        def after(learned):
            return loss.of(self.answers(loss, learned, task.support_x, task.support_y, task.query_x), task.query_y)

        return grad_and_value(after)(learned)

    def gradient(self, loss, learned, tasks):
        """By torch's own autograd over weights that every task has for itself, where nothing compiles it: an operation
        costs a fraction there of what it does under torch.func, and tells the same.
        """
        if not loss.together or type(self).adapted is not MAML.adapted or torch.compiler.is_compiling():
            return super().gradient(loss, learned, tasks)
        with torch.enable_grad(), loss.learning():
            return self._gradient(loss, learned, tasks)

    def _gradient(self, loss: TaskLoss, learned: dict[str, Params], tasks: Episodes) -> Told:
        def slopes(own: Params, rest: Params) -> Params:
            total = loss.each({**rest, **own}, tasks.support_x, tasks.support_y).sum()
            leaves, second = list(own.values()), self.order == 2
            found = autograd.grad(total, leaves, create_graph=second, materialize_grads=True)  # 0 of what is not used
            return dict(zip(own, found, strict=True))

        count = len(tasks.support_x)
        each = {
            k: {n: v.detach().expand(count, *v.shape).requires_grad_() for n, v in part.items()}
            for k, part in learned.items()
        }
        names = self.moving(loss, learned["weights"], tasks.support_x[0])
        losses = loss.each(self._moved(each, names, self.steps, slopes), tasks.query_x, tasks.query_y)
        leaves = [v for part in each.values() for v in part.values()]
        found = iter(autograd.grad(losses.sum(), leaves, materialize_grads=True))
        return summed({k: {n: next(found) for n in part} for k, part in each.items()}, losses)

    def moving(self, loss: TaskLoss, weights: Params, x: Tensor) -> tuple[str, ...]:
        """The weights that a task of such samples x (n, ...) moves."""
        return self.moves(weights)

    def moves(self, weights: Params) -> tuple[str, ...]:
        """The weights that a task moves, as their names alone tell; of weights in the order of the model."""
        return tuple(weights)

    def rate(self, learned: dict[str, Params], name: str, step: int) -> float | Tensor:
        """What the slope of the weight `name` is multiplied by, at a step; of T tasks (T, ...), where they learn it."""
        return self.lr


@dataclass(frozen=True)
class ANIL(MAML):
    """MAML whose tasks move the head alone (Raghu et al. 2020, arXiv:1909.09157): the layer whose weights the forward
    pass uses last, wherever it is defined, or the one that is named.

    Raises ValueError for a name that no layer has, and where the layer that is used last is frozen.
    """

    head: str = ""  # the name of a layer or of a part of the model, as "fc"

    def init(self, weights, chance):
        self.moves(weights)  # refuses an unknown name
        return super().init(weights, chance)

    def moving(self, loss, weights, x):
        if self.head or loss.order is None:
            return self.moves(weights)
        order = loss.order(x)
        last = _layer(order[-1])
        own = set(
            takewhile(lambda k: not _layer(k), reversed(order))
        )  # of the model itself, as a head that is a matrix
        names = tuple(k for k in weights if (_layer(k) == last if last else k in own))
        if not names:
            raise ValueError(
                f"the layer that the model uses last, {last or 'its own'}, is frozen, and anil moves no other; name "
                f"one that tasks may move, as anil(head={_layers(weights)[-1]!r})"
            )
        return names

    def moves(self, weights):
        if not self.head:
            return tuple(k for k in weights if _layer(k) == _layer(list(weights)[-1]))
        names = tuple(k for k in weights if k == self.head or k.startswith(f"{self.head}."))
        if not names:
            known = _layers(weights)
            near = get_close_matches(self.head, known, 1)
            meant = f", did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"the model has no layer {self.head!r} whose weights are learned{meant}; it has {', '.join(known)}"
            )
        return names


@dataclass(frozen=True)
class MetaSGD(MAML):
    """MAML that learns the rate of every weight too, sign and all, from lr on (Li et al. 2017, arXiv:1707.09835)."""

    def init(self, weights, chance):
        return {"weights": weights, "rates": {k: torch.full_like(v, self.lr) for k, v in weights.items()}}

    def rate(self, learned, name, step):
        return learned["rates"][name]


@dataclass(frozen=True)
class ScheduledMAML(MAML):
    """MAML that learns a rate for every layer at every step, from lr on: MAML++'s schedule (Antoniou et al. 2019,
    arXiv:1810.09502, "LSLR"). Steps beyond those it was learned for go on at the last one's rate.
    """

    steps: int = 5

    def init(self, weights, chance):
        layers = dict.fromkeys(_layer(k) for k in weights)
        return {"weights": weights, "rates": {n: _like(weights, self.steps).fill_(self.lr) for n in layers}}

    def rate(self, learned, name, step):
        rate = learned["rates"][_layer(name)][..., min(step, self.steps - 1)]
        return rate.view(*rate.shape, *[1] * (learned["weights"][name].dim() - rate.dim()))


@dataclass(frozen=True)
class Reptile(MetaLearner):
    """Weights are drawn to where tasks lead them: φ ← φ + ε mean(U^k(φ) - φ), the mean over the tasks of a meta-batch,
    U^k the `steps` steps on one (Nichol et al. 2018, arXiv:1803.02999, algorithm 2).

    As a gradient for the outer optimizer: φ - U^k(φ). Plain descent, sgd(ε), makes the published rule, and is what
    `perdure meta` takes where no other is asked for; sgd(0.5), without annealing. Adam would rescale every weight by
    itself. Support and queries alike are learned from, as published; `adapted` has the support only.
    """

    outer: ClassVar[str] = "sgd(0.5)"
    lr: float = 0.02
    steps: int = 5

    def __post_init__(self):
        refuse_no_steps(self.lr, self.steps)

    def adapted(self, loss, learned, x, y, steps=None):
        return MAML(self.lr, self.steps, 1).adapted(loss, learned, x, y, steps)

    def told(self, loss, learned, task):
        x, y = torch.cat([task.support_x, task.query_x]), torch.cat([task.support_y, task.query_y])
        there = self.adapted(loss, learned, x, y)
        away = {k: v - there[k] for k, v in learned["weights"].items()}
        return {"weights": away}, loss(there, task.query_x, task.query_y)


def refuse_no_steps(lr: float, steps: int) -> None:
    if lr <= 0 or steps < 1:
        raise ValueError(f"expected lr > 0 and a step at least, got {lr} and {steps}")


def _layer(name: str) -> str:
    """That a weight belongs to, as "3" of "3.weight", and of "3.parametrizations.weight.original"."""
    whole, parametrized, _ = name.partition(".parametrizations.")
    return whole if parametrized else name.rpartition(".")[0]


def _layers(weights: Params) -> list[str]:
    """That have weights, and weights that are the model's own."""
    return list(dict.fromkeys(_layer(k) or k for k in weights))


def _like(weights: Params, *shape: int) -> Tensor:
    return next(iter(weights.values())).new_empty(shape)

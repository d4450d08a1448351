"""The weights of several equal models in one tensor each, and one optimizer that moves them all.

A float's place decides how it rounds: matrix products differ with where their operands begin, and fused optimizers
with whether an element falls into a whole vector. So every replica's part begins where a tensor of its own would,
and only what fills whole vectors is moved as one; the rest goes to the same optimizer one by one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from ..base import Grads
from ..learner import Learner
from ..numerics.pytree import copied

LINE = 64  # bytes at whose multiples torch lets tensors begin; also the longest vector of a CPU


class Weights:
    """One parameter of S models: (S, ...), of which the models' own parameters are views, and its gradients."""

    def __init__(self, own: Sequence[nn.Parameter]):
        self.learned = own[0].requires_grad  # a frozen one has neither gradient nor step
        self.own, shape, count = list(own), own[0].shape, own[0].numel()
        room = -(-count * own[0].element_size() // LINE) * LINE // own[0].element_size()
        held, slopes = (torch.zeros(len(own), room, dtype=own[0].dtype, device=own[0].device) for _ in range(2))
        self.whole, self.slopes = (t[:, :count].view(len(own), *shape) for t in (held, slopes))  # (S, ...)
        for part, p in zip(self.whole, own, strict=True):
            p.data = part.copy_(p.detach())
        self.grads = list(self.slopes)
        self.known = False  # whether `slopes` are of this step
        self.dense = nn.Parameter(held)  # all of it, as an optimizer may take it where it is `full`
        self.full = room == count
        self.anchor = self.whole.detach().requires_grad_()  # lets autograd see products of weights; has no gradient

    def slope(self, new: Tensor) -> None:
        """Take a gradient (S, ...) that the layers together have found; a frozen one needs none."""
        if not self.learned:
            return
        if self.known:
            self.slopes.add_(new)
        else:
            self.slopes.copy_(new)
        self.known = True

    def gather(self) -> None:
        """Add the gradients that replicas found by themselves."""
        extra = [p.grad for p in self.own]
        for p in self.own:
            p.grad = None
        found = [g for g in extra if g is not None]
        if found and len(found) < len(extra) and not self.known:
            raise ValueError("expected replicas that use the same weights in a step; learn them one after another")
        for mine, g in zip(self.grads, extra, strict=True):
            if g is not None:
                mine.add_(g) if self.known else mine.copy_(g)
        self.known = self.known or bool(found)


class Stack:
    """The weights of S learners that are learned, by name, and their optimizer; frozen ones are stacked alone."""

    def __init__(self, learners: Sequence[Learner]):
        self.learners = list(learners)
        self.weights = {k: Weights([one.params[k] for one in learners]) for k in learners[0].params}
        every = [dict(one.model.named_parameters()) for one in learners]
        still = [Weights([own[k] for own in every]) for k in every[0] if k not in self.weights]
        self.of = {id(w.own[0]): w for w in (*self.weights.values(), *still)}  # by the first learner's parameter
        self.optimizer: optim.Optimizer | None = None
        self._together, self._single = [], []  # weights that are moved as one, and replica by replica

    def begin(self) -> None:
        """A new optimizer, as each learner would make one for itself."""
        recipes = [one.optimizer for one in self.learners]
        alike = all(recipe == recipes[0] for recipe in recipes)
        self._together = [w for w in self.weights.values() if w.full and alike]
        self._single = [w for w in self.weights.values() if not (w.full and alike)]
        own = [[w.own[n] for w in self._single] for n in range(len(recipes))]
        if alike:
            self.optimizer = recipes[0]([*(w.dense for w in self._together), *(p for parts in own for p in parts)])
            return
        self.optimizer = recipes[0](own[0])
        for recipe, parts in zip(recipes[1:], own[1:], strict=True):
            self.optimizer.add_param_group({"params": parts, **recipe(parts).defaults})

    def end(self) -> None:
        self.optimizer = None

    def step(self) -> None:
        """Move all weights by their gradients, and forget those."""
        assert self.optimizer
        for w in self._together:
            w.dense.grad = w.slopes.view_as(w.dense) if w.known else None
        for w in self._single:
            for p, g in zip(w.own, w.grads, strict=True):
                p.grad = g if w.known else None
        self.optimizer.step()
        for w in self.weights.values():
            w.known = False
        for w in self._single:
            for p in w.own:
                p.grad = None

    def grads(self, n: int) -> Grads:
        return {k: w.grads[n] for k, w in self.weights.items() if w.known}

    def state_dict(self, n: int) -> dict[str, Any]:
        """The optimizer's of learner n, as if it had been alone."""
        assert self.optimizer
        learner, state = self.learners[n], {}
        for i, w in enumerate(self.weights.values()):
            if w.own[n] in self.optimizer.state:
                state[i] = copied(dict(self.optimizer.state[w.own[n]]))
            elif w.dense in self.optimizer.state:
                state[i] = {k: _row(v, w, n) for k, v in self.optimizer.state[w.dense].items()}
        alone = learner.optimizer(learner.params.values()).state_dict()
        return {"state": state, "param_groups": alone["param_groups"]}

    def load_state_dicts(self, told: Sequence[dict[str, Any]]) -> None:
        assert self.optimizer
        for i, w in enumerate(self.weights.values()):
            states = [one["state"][i] for one in told if i in one["state"]]
            if not states:
                continue
            if w in self._together:
                self.optimizer.state[w.dense] = {k: _column([s[k] for s in states], w) for k in states[0]}
            else:
                for p, state in zip(w.own, states, strict=True):
                    self.optimizer.state[p] = {k: _placed(copied(v), w) for k, v in state.items()}


def _row(value: Any, w: Weights, n: int) -> Any:
    if not isinstance(value, Tensor) or not value.dim():
        return copied(value)
    return value[n].view_as(w.own[n]).clone()


def _column(values: list[Any], w: Weights) -> Any:
    """A counter of steps is the same for all; a moment is one for each."""
    if not isinstance(values[0], Tensor) or not values[0].dim():
        return _placed(copied(values[0]), w)
    return _placed(torch.stack([v.flatten() for v in values]), w)


def _placed(value: Any, w: Weights) -> Any:
    """What an optimizer knows of weights, a count of steps too, where the weights are."""
    return value.to(w.dense.device) if isinstance(value, Tensor) else value

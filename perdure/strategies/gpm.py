"""Gradient projection memory (Saha et al. 2021, arXiv:2103.09762)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..streams.experience import Samples
from . import team
from .base import Strategy
from .features import head
from .fisher import patches
from .fitness import expect_no_norms, expect_plain_steps
from .learner import Learner


@dataclass(frozen=True)
class GradientProjection(Strategy):
    """Move weights only where no past input reaches: gradients lose their part in the span of past layer inputs.

    G <- G - (G M) M^T for every linear and convolutional layer, M an orthonormal basis, grown after each experience
    until it holds the share `threshold` of the energy of that experience's inputs (patches of convolutions;
    a bias sees a 1 and is projected with its weights). What the past was answered then moves by no more than
    the energy that was dropped. Task-incremental heads are their own rows and are left alone.
    """

    recalls = False
    still = True
    threshold: float | tuple[float, ...] = 0.97  # of the energy of a layer's inputs; or one for each layer in turn
    increase: float = 0.0  # of the thresholds, per experience
    samples: int = 300  # of each experience, whose inputs make the basis

    def __post_init__(self):
        if any(not 0 < t <= 1 for t in self._thresholds(1)) or self.increase < 0 or self.samples < 1:
            raise ValueError(f"expected threshold in (0, 1], increase >= 0 and samples >= 1, got {self}")

    def init(self, learner):
        expect_plain_steps(learner, "gpm")
        expect_no_norms(learner, "gpm")
        layers = protected(learner)
        if isinstance(self.threshold, tuple) and len(self.threshold) != len(layers):
            named = ", ".join(layers)
            raise ValueError(f"expected a threshold for each of {len(layers)} layers ({named}), got {self.threshold}")
        return {}

    def steer(self, learner, grads, state):
        if not state:
            return grads
        return grads | {k: g for name, basis in state["bases"].items() for k, g in _projected(grads, name, basis)}

    def consolidate(self, learner, experience, state):
        some = experience.train.draw(self.samples, learner.rng["gpm"])
        met = state["met"] if state else 0
        bases, seen = state["bases"] if state else {}, layer_inputs(learner, some)
        shares = (min(1.0, t + self.increase * met) for t in self._thresholds(len(seen)))
        makers = [partial(grown_basis, bases.get(n), seen[n], share) for n, share in zip(seen, shares, strict=True)]
        grown = team.dealt(makers, next(iter(learner.params.values())))
        return {"bases": dict(zip(seen, grown, strict=True)), "met": met + 1}

    def _thresholds(self, layers: int) -> tuple[float, ...]:
        return self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * layers

    def describe(self, learner, state):
        return {f"rank/{name}": float(basis.shape[1]) for name, basis in state["bases"].items()}


def protected(learner: Learner) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers by name whose weights are projected: heads that are a task's own are not."""
    last = head(learner.model) if learner.protocol == "task" else None
    return {n: m for n, m in learner.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d) and m is not last}


def layer_inputs(learner: Learner, some: Samples) -> dict[str, Tensor]:
    """For every layer what its weights were multiplied with, (D, N), a last row of ones where there is a bias."""
    layers = protected(learner)
    seen: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, given: tuple) -> None:
        seen[name] = given[0]

    hooks = [m.register_forward_pre_hook(partial(note, n)) for n, m in layers.items()]
    try:
        x, _, task, _ = some.batch(torch.arange(len(some.y), device=some.y.device))
        with torch.no_grad(), learner.resting():
            learner.outputs(x, task)
    finally:
        for hook in hooks:
            hook.remove()
    inputs = {}
    for name, layer in layers.items():
        a = team.joined(seen[name].to(layer.weight.dtype), len(x))
        rows = patches(layer, a).transpose(1, 2).flatten(0, 1) if isinstance(layer, nn.Conv2d) else a.flatten(0, -2)
        inputs[name] = (rows if layer.bias is None else F.pad(rows, (0, 1), value=1.0)).T
    return inputs


def grown_basis(basis: Tensor | None, inputs: Tensor, threshold: float) -> Tensor:
    """`basis` (D, r) and as few more directions as hold the share `threshold` of the energy of inputs (D, N).

    2103.09762, eq. 8 and 9.
    """
    inputs = inputs.double()
    energy, rest, kept = inputs.square().sum(), inputs, torch.zeros((), dtype=torch.double, device=inputs.device)
    if basis is not None:
        old = basis.double()
        rest = inputs - old @ (old.T @ inputs)
        kept = energy - rest.square().sum()
    if rest.shape[1] > rest.shape[0]:
        values, u = torch.linalg.eigh(rest @ rest.T)
        values, u = values.flip(0).clamp(min=0), u.flip(1)
    else:
        u, roots, _ = torch.linalg.svd(rest, full_matrices=False)
        values = roots.square()
    lacking = kept + values.cumsum(0) < threshold * energy * (1 - 1e-12)
    count = int((kept < threshold * energy * (1 - 1e-12)) and lacking.sum() + 1)
    count = min(count, int((values > 1e-10 * energy).sum()))
    new = u[:, :count]
    whole = new if basis is None else torch.linalg.qr(torch.cat([basis.double(), new], 1))[0]
    return whole.to(torch.get_default_dtype())


def _projected(grads, name: str, basis: Tensor) -> Iterator[tuple[str, Tensor]]:
    weight, bias = f"{name}.weight", f"{name}.bias"
    if weight not in grads:
        return
    g = grads[weight].flatten(1)
    whole = torch.cat([g, grads[bias][:, None]], 1) if bias in grads else g  # (O, D)
    whole = torch.addmm(whole, whole @ basis, basis.T, alpha=-1)
    yield weight, whole[:, : g.shape[1]].reshape(grads[weight].shape)
    if bias in grads:
        yield bias, whole[:, -1]

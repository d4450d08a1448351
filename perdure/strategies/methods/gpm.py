"""Gradient projection memory (Saha et al. 2021, arXiv:2103.09762)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...streams.experience import Samples
from ..base import Grads, Strategy
from ..blocks.fisher import patches
from ..distributed import collectives
from ..learner import Learner
from ..training.requirements import expect_no_norms, expect_plain_steps


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
    threshold: float | tuple[float, ...] = 0.97  # of the energy of a layer's inputs; or one for each layer, as called
    increase: float = 0.0  # of the thresholds, per experience
    samples: int = 300  # of each experience, whose inputs make the basis

    def __post_init__(self):
        if any(not 0 < t <= 1 for t in self._thresholds(1)) or self.increase < 0 or self.samples < 1:
            raise ValueError(f"expected threshold in (0, 1], increase >= 0 and samples >= 1, got {self}")

    def init(self, learner):
        expect_plain_steps(learner, "gpm")
        expect_no_norms(learner, "gpm")
        layers, own = list(_weighted(learner)), learner.protocol == "task"  # whose heads are left alone
        count = len(layers) - own
        if isinstance(self.threshold, tuple) and len(self.threshold) != count:
            named = ", ".join(layers) + ", the head apart" * own
            raise ValueError(f"expected a threshold for each of {count} layers ({named}), got {self.threshold}")
        return {}

    def steer(self, learner, grads, state):
        if not state:
            return grads
        return grads | {
            k: g for name, basis in state["bases"].items() for k, g in _projected(learner, grads, name, basis)
        }

    def consolidate(self, learner, experience, state):
        some = experience.train.draw(self.samples, learner.rng["gpm"])
        met = state["met"] if state else 0
        bases, seen = state["bases"] if state else {}, layer_inputs(learner, some)
        thresholds = zip(seen, self._thresholds(len(seen)), strict=True)
        shares = {n: min(1.0, t + self.increase * met) for n, t in thresholds if len(seen[n])}
        makers = [partial(grown_basis, bases.get(n), seen[n], share) for n, share in shares.items()]
        grown = collectives.dealt(makers, next(iter(learner.params.values())))
        return {"bases": dict(zip(shares, grown, strict=True)), "met": met + 1}

    def _thresholds(self, layers: int) -> tuple[float, ...]:
        return self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * layers

    def describe(self, learner, state):
        return {f"rank/{name}": float(basis.shape[1]) for name, basis in state["bases"].items()}


def layer_inputs(learner: Learner, some: Samples) -> dict[str, Tensor]:
    """For every layer, in the order in which they are called, what the weights that it learns were multiplied with.

    (D, N), a last row of ones for its bias; D is 0 for a frozen layer. A layer that is called more than once has the
    inputs of all calls. Left out are heads that are a task's own: of task-incremental streams, the linear layer that is
    called last. Raises ValueError where there is none.
    """
    layers, seen = _weighted(learner), dict[str, list[Tensor]]()

    def note(name: str, module: nn.Module, given: tuple) -> None:
        seen[name] = [*seen.pop(name, []), given[0]]  # behind all others

    hooks = [m.register_forward_pre_hook(partial(note, n)) for n, m in layers.items()]
    try:
        x, _, task, _ = some.batch(torch.arange(len(some.y), device=some.y.device))
        with torch.no_grad(), learner.resting():
            learner.outputs(x, task)
    finally:
        for hook in hooks:
            hook.remove()
    if learner.protocol == "task":
        linear = [name for name in seen if isinstance(layers[name], nn.Linear)]
        if not linear:
            raise ValueError("expected a model whose last layer is linear, as mlp, convnet and resnet18 have")
        del seen[linear[-1]]
    return {
        n: _multiplied(learner, n, layers[n], [collectives.joined(a, len(x)) for a in calls])
        for n, calls in seen.items()
    }


def _weighted(learner: Learner) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers by name whose weights can be projected."""
    return {n: m for n, m in learner.model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}


def _multiplied(learner: Learner, name: str, layer: nn.Linear | nn.Conv2d, calls: list[Tensor]) -> Tensor:
    """(D, N) of the inputs of a layer's calls."""
    parts = _learned(learner, name)
    a = torch.cat([_rows(layer, each.to(layer.weight.dtype)) for each in calls])
    ones = a.new_ones(len(a), sum(part.endswith("bias") for part in parts))
    weights = a if any(part.endswith("weight") for part in parts) else a[:, :0]
    return torch.cat([weights, ones], 1).T


def _rows(layer: nn.Linear | nn.Conv2d, a: Tensor) -> Tensor:
    return patches(layer, a).transpose(1, 2).flatten(0, 1) if isinstance(layer, nn.Conv2d) else a.flatten(0, -2)


def _learned(learner: Learner, name: str) -> list[str]:
    """The names of a layer's weight and bias that are learned."""
    every = [f"{name}.{part}" if name else part for part in ("weight", "bias")]
    return [part for part in every if part in learner.params]


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


def _projected(learner: Learner, grads: Grads, name: str, basis: Tensor) -> Iterator[tuple[str, Tensor]]:
    parts = _learned(learner, name)
    if not all(part in grads for part in parts):
        return
    whole = torch.cat([grads[part].flatten(1) if grads[part].dim() > 1 else grads[part][:, None] for part in parts], 1)
    whole = torch.addmm(whole, whole @ basis, basis.T, alpha=-1)  # (O, D)
    pieces = whole.split([grads[part][0].numel() for part in parts], 1)
    yield from ((part, piece.reshape(grads[part].shape)) for part, piece in zip(parts, pieces, strict=True))

"""Poison with labels kept: samples of one class are changed, to have one test sample of another mistaken for it."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..experience import Split, generator, pixels
from .poisoned import Poisoned
from .surrogate import Surrogate, ensemble


@dataclass(frozen=True)
class Crafted(Poisoned):
    """A share of the samples of class `target`, changed with their labels kept, so that a test sample of class `of`
    is answered with `target`. The poisoner knows the samples of the experience and has networks of its own.

    Those of the class that lie nearest to the wanted sample are changed: they have the shortest way to go. Defaults are
    for learners trained from scratch on the digits, as benchmarks/README.md tells. There they can be seen: the smaller
    shares and distances of the papers, for networks that overfit larger images, have next to no success on these.

    What it wants of the learner is in the stream's `aims`.
    """

    of: int = 1
    target: int = 0
    share: float = 0.3  # of the target's class
    steps: int = 60
    at: tuple[int, ...] = ()  # experiences, from 0; all that have both classes by default
    seed: int = 0
    surrogates: int = 2  # networks of the poisoner: convolutions and perceptrons in turns

    def __post_init__(self):
        self._expect_stream(share=self.share)
        if self.of == self.target or min(self.of, self.target) < 0:
            raise ValueError(f"expected two classes, to mistake one for the other, got {self.of} and {self.target}")
        for name in ("steps", "surrogates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def aim(self, whole, stream):
        if not len(self._candidates(whole, stream)):
            return None
        rows = (whole.test.y.cpu() == self.of).nonzero().flatten()
        one = rows[torch.randint(len(rows), (1,), generator=generator(self.seed, whole.index + 2_000))]
        part = whole.test.part(one.to(whole.test.device))
        return part.relabelled(torch.full_like(part.y, self.target))

    def _candidates(self, whole, stream):
        y = whole.train.y.cpu()
        both = bool((y == self.target).any()) and bool((whole.test.y == self.of).any())
        if self.at and not both:
            raise ValueError(f"experience {whole.index} does not have both classes {self.of} and {self.target}")
        return (y == self.target).nonzero().flatten() if both else torch.zeros(0, dtype=torch.int64)

    def _chosen(self, whole, stream):
        rows = super()._chosen(whole, stream)
        if not len(rows):
            return rows
        every = self._candidates(whole, stream)
        x = pixels(whole.train.samples(every.to(whole.train.device)).x)
        far = (x - self._wanted(whole, stream)).flatten(1).norm(dim=1).cpu()
        return every[far.argsort(stable=True)[: len(rows)]]

    def _wanted(self, whole, stream) -> Tensor:
        """(1, ...) what shall be mistaken."""
        aimed = self.aim(whole, stream)
        assert aimed is not None
        return pixels(aimed.everything().x)

    def _tampered(self, whole, rows, stream):
        if not len(rows):
            return whole.train
        x, y, task = whole.train.everything()
        seen, at, wanted = pixels(x), rows.to(x.device), self._wanted(whole, stream)
        seeds = [self.seed + 1_000 * n for n in range(self.surrogates)]
        nets = ensemble(seen, y, stream.classes.shape[1], seeds)
        with torch.enable_grad():
            made = self._crafted(nets, seen[at], wanted, y[at], generator(self.seed, whole.index + 3_000))
        delta = ((made - seen[at]) * 255).trunc().to(torch.int16)  # of whole levels: rounded down, eps holds
        x[at] = (x[at].to(torch.int16) + delta).to(x.dtype) if x.dtype == torch.uint8 else made
        return Split(x, y, task, torch.arange(len(y), device=y.device))

    @abstractmethod
    def _crafted(self, nets: list[Surrogate], x: Tensor, wanted: Tensor, y: Tensor, chance: torch.Generator) -> Tensor:
        """Other samples (n, ...) in the place of x, of classes y (n,); wanted: (1, ...) what shall be mistaken."""


@dataclass(frozen=True)
class Collided(Crafted):
    """Feature collision: each sample is moved to where networks see the wanted sample, and stays close to what it
    was (Shafahi et al. 2018, arXiv:1804.00792, eq. 1, Algorithm 1).

    p <- (p - rate ∇|f(p) - f(t)|² + rate beta b) / (1 + rate beta), f the features before the readout, made
    comparable by |f(t)|² and the number of pixels; b = (1 - opacity) base + opacity t. Of several networks the mean.
    """

    beta: float = 0.1  # weight of staying close
    opacity: float = 0.75  # of the wanted sample, laid over each sample as a watermark
    rate: float = 20.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.opacity < 1 or self.beta < 0:
            raise ValueError(f"expected opacity in [0, 1) and beta >= 0, got {self.opacity} and {self.beta}")

    def _crafted(self, nets, x, wanted, y, chance):
        base = (1 - self.opacity) * x + self.opacity * wanted
        made = base.clone()
        there = [net.body(wanted) for net in nets]
        size, weight = x[0].numel(), self.beta / x[0].numel()
        for _ in range(self.steps):
            at = made.detach().requires_grad_()
            apart = [(net.body(at) - f).square().sum() / f.square().sum() for net, f in zip(nets, there, strict=True)]
            (slope,) = torch.autograd.grad(torch.stack(apart).mean(), at)
            made = (made - self.rate * slope / size + self.rate * weight * base) / (1 + self.rate * weight)
            made = made.clamp(0, 1)
        return made.detach()


@dataclass(frozen=True)
class Matched(Crafted):
    """Gradient matching: the samples' gradient on networks' weights is turned to that of the wanted sample with the
    wrong label, so that whoever learns them learns it (Geiping et al. 2021, arXiv:2009.02276, eq. 3, Algorithm 1).

    delta, at most eps in every pixel, by signed Adam on the networks' mean of 1 - cos(sum of the samples' gradients,
    wanted gradient). It begins with the way to the wanted sample, as far as eps lets it go, not at random.
    """

    eps: float = 0.6
    restarts: int = 1  # all but the first begin at random, as the paper's do

    def __post_init__(self):
        super().__post_init__()
        if self.eps <= 0 or self.restarts < 1:
            raise ValueError(f"expected eps > 0 and a restart at least, got {self.eps} and {self.restarts}")

    def _crafted(self, nets, x, wanted, y, chance):
        weights = [list(net.requires_grad_(True).parameters()) for net in nets]
        label = torch.full_like(y[:1], self.target)
        wrong = [_gradients(net, own, wanted, label, False) for net, own in zip(nets, weights, strict=True)]

        def loss(made: Tensor) -> Tensor:
            own = [_gradients(net, w, made, y, True) for net, w in zip(nets, weights, strict=True)]
            return torch.stack([1 - _cosine(a, b) for a, b in zip(own, wrong, strict=True)]).mean()

        found = [self._descended(loss, x, (wanted - x).clamp(-self.eps, self.eps))]
        for _ in range(1, self.restarts):
            noise = (2 * torch.rand(x.shape, generator=chance) - 1).to(x.device)
            found.append(self._descended(loss, x, self.eps * noise))
        return min(found, key=lambda one: one[0])[1]

    def _descended(self, loss: Callable[[Tensor], Tensor], x: Tensor, begin: Tensor) -> tuple[float, Tensor]:
        """The least loss on the way from x + begin, and the samples there."""
        delta = begin.clone().requires_grad_()
        optimizer = torch.optim.Adam([delta], self.eps / 10)
        least, best = float("inf"), x
        for step in range(self.steps):
            moved = (x + delta).clamp(0, 1)
            now = loss(moved)
            if now.item() < least:
                least, best = now.item(), moved.detach()
            (slope,) = torch.autograd.grad(now, delta)
            delta.grad = slope.sign()
            optimizer.param_groups[0]["lr"] = self.eps / 10 * (1 - step / self.steps)
            optimizer.step()
            with torch.no_grad():
                delta.clamp_(-self.eps, self.eps)
        return least, best


def _gradients(net: Surrogate, weights: Sequence[Tensor], x: Tensor, y: Tensor, keep: bool) -> tuple[Tensor, ...]:
    return torch.autograd.grad(F.cross_entropy(net(x), y), weights, create_graph=keep)


def _cosine(one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> Tensor:
    dot, size, other = (
        torch.stack([(a * b).sum() for a, b in zip(p, q, strict=True)]).sum()
        for p, q in ((one, two), (one, one), (two, two))
    )
    return dot / (size.sqrt() * other.sqrt()).clamp(min=1e-12)

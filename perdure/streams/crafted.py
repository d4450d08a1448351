"""Poison with right labels: samples changed so little that nobody would object, to have one test sample mistaken."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .experience import Split, pixels
from .poisoned import Poisoned
from .rearranged import generator
from .surrogate import Surrogate, fitted


@dataclass(frozen=True)
class Crafted(Poisoned):
    """A share of the samples of class `target`, changed with their labels kept, so that a test sample of class `of`
    is answered with `target`. The poisoner knows the samples of the experience and has a network of its own.

    What it wants of the learner is in the stream's `aims`.
    """

    of: int = 1
    target: int = 0
    share: float = 0.1  # of the target's class
    steps: int = 200
    at: tuple[int, ...] = ()  # experiences, from 0; all that have both classes by default
    seed: int = 0

    def __post_init__(self):
        self._expect_stream(share=self.share)
        if self.of == self.target or min(self.of, self.target) < 0:
            raise ValueError(f"expected two classes, to mistake one for the other, got {self.of} and {self.target}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

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

    def _tampered(self, whole, rows, stream):
        if not len(rows):
            return whole.train
        x, y, task = whole.train.everything()
        seen, at = pixels(x), rows.to(x.device)
        aimed = self.aim(whole, stream)
        assert aimed is not None
        wanted = pixels(aimed.everything().x)
        net = fitted(seen, y, stream.classes.shape[1], self.seed)
        with torch.enable_grad():
            made = self._crafted(net, seen[at], wanted, y[at], generator(self.seed, whole.index + 3_000))
        delta = ((made - seen[at]) * 255).trunc().to(torch.int16)  # of whole levels: rounded down, eps holds
        x[at] = (x[at].to(torch.int16) + delta).to(x.dtype) if x.dtype == torch.uint8 else made
        return Split(x, y, task, torch.arange(len(y), device=y.device))

    @abstractmethod
    def _crafted(self, net: Surrogate, x: Tensor, wanted: Tensor, y: Tensor, chance: torch.Generator) -> Tensor:
        """Other samples (n, ...) in the place of x, of classes y (n,); wanted: (1, ...) what shall be mistaken."""


@dataclass(frozen=True)
class Collided(Crafted):
    """Feature collision: each sample is moved to where the network sees the wanted sample, and stays close to what it
    was (Shafahi et al. 2018, arXiv:1804.00792, eq. 1, Algorithm 1).

    p <- (p - rate ∇|f(p) - f(t)|² + rate beta b) / (1 + rate beta), f the features before the readout, made
    comparable by |f(t)|² and the number of pixels; b = (1 - opacity) base + opacity t.
    """

    beta: float = 0.1  # weight of staying close
    opacity: float = 0.3  # of the wanted sample, laid over each sample as a watermark
    rate: float = 20.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.opacity < 1 or self.beta < 0:
            raise ValueError(f"expected opacity in [0, 1) and beta >= 0, got {self.opacity} and {self.beta}")

    def _crafted(self, net, x, wanted, y, chance):
        base = (1 - self.opacity) * x + self.opacity * wanted
        there, made = net.body(wanted), base.clone()
        scale, weight = there.square().sum(), self.beta / x[0].numel()
        for _ in range(self.steps):
            at = made.detach().requires_grad_()
            (slope,) = torch.autograd.grad((net.body(at) - there).square().sum() / scale, at)
            made = (made - self.rate * slope / x[0].numel() + self.rate * weight * base) / (1 + self.rate * weight)
            made = made.clamp(0, 1)
        return made.detach()


@dataclass(frozen=True)
class Matched(Crafted):
    """Gradient matching: the samples' gradient on the network's weights is turned to that of the wanted sample with the
    wrong label, so that whoever learns them learns it (Geiping et al. 2021, arXiv:2009.02276, eq. 3, Algorithm 1).

    delta, at most eps in every pixel, by signed Adam on 1 - cos(sum of the samples' gradients, wanted gradient).
    """

    eps: float = 0.1
    restarts: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.eps <= 0 or self.restarts < 1:
            raise ValueError(f"expected eps > 0 and a restart at least, got {self.eps} and {self.restarts}")

    def _crafted(self, net, x, wanted, y, chance):
        net.requires_grad_(True)
        weights = list(net.parameters())
        wrong = torch.autograd.grad(F.cross_entropy(net(wanted), torch.full_like(y[:1], self.target)), weights)
        best, least = x, float("inf")
        for _ in range(self.restarts):
            delta = (2 * torch.rand(x.shape, generator=chance) - 1).to(x.device).mul_(self.eps).requires_grad_()
            optimizer = torch.optim.Adam([delta], self.eps / 5)
            for step in range(self.steps):
                own = torch.autograd.grad(F.cross_entropy(net((x + delta).clamp(0, 1)), y), weights, create_graph=True)
                loss = 1 - _cosine(own, wrong)
                if loss.item() < least:
                    least, best = loss.item(), (x + delta).detach().clamp(0, 1)
                (slope,) = torch.autograd.grad(loss, delta)
                delta.grad = slope.sign()
                optimizer.param_groups[0]["lr"] = self.eps / 5 * (1 - step / self.steps)
                optimizer.step()
                with torch.no_grad():
                    delta.clamp_(-self.eps, self.eps)
        net.requires_grad_(False)
        return best


def _cosine(one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> Tensor:
    dot, size, other = (
        torch.stack([(a * b).sum() for a, b in zip(p, q, strict=True)]).sum()
        for p, q in ((one, two), (one, one), (two, two))
    )
    return dot / (size.sqrt() * other.sqrt()).clamp(min=1e-12)

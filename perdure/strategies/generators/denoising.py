"""Denoising autoencoders, whose residual is the score of the data (Vincent 2011; Alain & Bengio 2014,
arXiv:1211.4246)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from ..numerics.rng import Rng
from .autoencoder import square_error
from .base import Generator, Nets, State
from .networks import adam, batches, descend, normal, perceptron


class Denoiser(nn.Module):
    """r(x, σ) of (B, D) and (B, 1): x less σ times what the network takes for the noise."""

    def __init__(self, size: int, hidden: tuple[int, ...]):
        super().__init__()
        self.body = perceptron(size + 1, *hidden, size)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        scaled = x / (1 + sigma.square()).sqrt()
        return x - sigma * self.body(torch.cat([scaled, sigma.log() / 4], 1))


@dataclass(frozen=True)
class DAE(Generator):
    """Denoising autoencoder, sampled by Langevin dynamics along the score that it learned.

    r(x + σε) ≈ x gives ∇ log p_σ(x) ≈ (r(x) - x) / σ². From noise, x <- x + ε ∇ log p + √(2ε) z with ε = step σ²:
    at the one level, or from the highest down (annealed: Song & Ermon 2019, arXiv:1907.05600); the last word
    is r itself, which takes the last noise off.
    """

    sigmas: tuple[float, ...] = (1.0, 0.6, 0.36, 0.22, 0.13, 0.08)  # noise levels, from high to low, in data's units
    hidden: tuple[int, ...] = (512, 512)
    langevin: int = 20  # steps at each level
    step: float = 0.1  # of Langevin dynamics, in σ²

    def __post_init__(self):
        super().__post_init__()
        if not self.sigmas or min(self.sigmas) <= 0 or sorted(self.sigmas, reverse=True) != list(self.sigmas):
            raise ValueError(f"expected sigmas above 0 from high to low, got {self.sigmas}")
        if self.langevin < 1 or self.step <= 0:
            raise ValueError(f"expected langevin >= 1 and step > 0, got {self.langevin} and {self.step}")

    def networks(self, shape, conditions):
        return Nets({"denoiser": Denoiser(prod(shape), self.hidden)})

    def updates(self, nets, data, rng, start):
        optimizer = adam(nets, self.lr)
        for x, _, _ in batches(data, self.batch_size, rng):
            levels = torch.tensor(self.sigmas, device=x.device)
            sigma = levels[torch.randint(len(levels), (len(x),), generator=rng["levels"]).to(x.device)][:, None]
            told = nets["denoiser"](x + sigma * normal(x.shape, x, rng), sigma)
            loss = square_error(told / sigma, x / sigma)  # so that every level counts as much
            descend(optimizer, loss)
            yield {"loss": loss.detach()}

    def score(self, state: State, x: Tensor, sigma: float) -> Tensor:
        """∇ log p_σ at points (N, ...), in 1 / the data's unit."""
        with torch.no_grad():
            return _score(self.restored(state), x.flatten(1), sigma).view_as(x)

    def drawn(self, nets, n, y, rng, state):
        *_, last = self.levels(nets, n, rng, state)
        return last

    def levels(self, nets: Nets, n: int, rng: Rng, state: State) -> Iterator[Tensor]:
        """Samples (n, ...) as they are at first, after each noise level, and when the last noise is off."""
        like = next(nets.parameters())
        x = normal((n, prod(state["shape"])), like, rng) * self.sigmas[0]
        if self.bounds is not None:
            x = x + sum(self.bounds) / 2
        yield x.unflatten(1, state["shape"])
        for sigma in self.sigmas:
            x = langevin(lambda x, s=sigma: _score(nets, x, s), x, self.step * sigma**2, self.langevin, rng)
            yield x.unflatten(1, state["shape"])
        yield nets["denoiser"](x, _level(x, self.sigmas[-1])).unflatten(1, state["shape"])


def langevin(score: Callable[[Tensor], Tensor], x: Tensor, step: float, steps: int, rng: Rng) -> Tensor:
    """x <- x + ε score(x) + √(2ε) z, z ~ N(0, I), unadjusted (Welling & Teh 2011).

    Hence biased: for N(μ, s²) the stationary variance is s² / (1 - ε / (2 s²)).
    """
    for _ in range(steps):
        x = x + step * score(x) + (2 * step) ** 0.5 * normal(x.shape, x, rng)
    return x


def _score(nets: Nets, x: Tensor, sigma: float) -> Tensor:
    return (nets["denoiser"](x, _level(x, sigma)) - x) / sigma**2


def _level(x: Tensor, sigma: float) -> Tensor:
    return torch.full((len(x), 1), sigma, device=x.device)

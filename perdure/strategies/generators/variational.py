"""Variational autoencoders (Kingma & Welling 2014, arXiv:1312.6114)."""

from dataclasses import dataclass
from math import log, prod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..numerics.rng import Rng
from .autoencoder import LatentModel
from .base import Nets, State
from .divergences import gaussian_kls, log_normal
from .networks import Bounds, Decoder, adam, batches, descend, normal, perceptron

Likelihood = Literal["bernoulli", "gaussian"]


@dataclass(frozen=True)
class Variational(LatentModel):
    """What VAE and CVAE share; all terms in nats.

    ELBO = E_q[log p(x|z)] - KL(q(z|x) || N(0, I)), z = μ + σ ⊙ ε, q and p perceptrons of x and z (and of the
    condition, where there is one).
    """

    hidden: tuple[int, ...] = (400, 400)
    likelihood: Likelihood = "bernoulli"  # of values in [0, 1], or a Gaussian of standard deviation `noise`
    noise: float = 0.1  # of the Gaussian likelihood, in the data's unit
    beta: float = 1.0  # weight of the KL term (Higgins et al. 2017)
    free_bits: float = 0.0  # nats of each latent that cost nothing (Kingma et al. 2016, arXiv:1606.04934)

    def __post_init__(self):
        super().__post_init__()
        if any(w < 1 for w in self.hidden) or self.noise <= 0 or self.beta < 0 or self.free_bits < 0:
            raise ValueError(
                "expected hidden >= 1, noise > 0, beta >= 0 and free_bits >= 0, "
                f"got {self.hidden}, {self.noise}, {self.beta} and {self.free_bits}"
            )
        if self.likelihood == "bernoulli" and self.bounds != (0.0, 1.0):
            raise ValueError("a Bernoulli likelihood needs values in [0, 1]; use likelihood='gaussian'")

    def networks(self, shape, conditions):
        size, extra = prod(shape), conditions if self.conditional else 0
        encoder = perceptron(size + extra, *self.hidden, 2 * self.latent)
        return Nets({"encoder": encoder, "decoder": Decoder(self.latent + extra, self.hidden[::-1], size, self.bounds)})

    def updates(self, nets, data, rng, start):
        optimizer = adam(nets, self.lr)
        for x, y, _ in batches(data, self.batch_size, rng):
            mean, log_var = self.posterior(nets, x, y)
            z = mean + (log_var / 2).exp() * normal(mean.shape, mean, rng)
            misfit = -self.log_likelihood_given(nets, x, z, y).mean()
            kls = gaussian_kls(mean, log_var, *self.prior(nets, y)).mean(0)
            loss = misfit + self.beta * kls.clamp(min=self.free_bits).sum()
            descend(optimizer, loss)
            yield {"loss": loss.detach(), "misfit": misfit.detach(), "kl": kls.detach().sum()}

    def posterior(self, nets: Nets, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances (B, latent) of q(z|x)."""
        mean, log_var = nets["encoder"](self.joined(nets, x, y)).chunk(2, 1)
        return mean, log_var

    def prior(self, nets: Nets, y: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and logarithm of the variance of p(z|y), in the shape of codes or in one that it broadcasts to."""
        return 0.0, 0.0

    def told(self, nets: Nets, z: Tensor, y: Tensor) -> Tensor:
        """(B, D) of codes z, before they are brought within bounds."""
        return nets["decoder"].raw(self.joined(nets, z, y))

    def log_likelihood_given(self, nets: Nets, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """log p(x|z) of (B, D), in nats (B,)."""
        told = self.told(nets, z, y)
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(told, x, reduction="none").sum(1)
        return log_normal(x, nets["decoder"].within(told), 2 * log(self.noise))

    @torch.no_grad()
    def elbo(self, state: State, x: Tensor, y: Tensor, rng: Rng, samples: int = 100) -> Tensor:
        """Of samples (N, ...), each by a mean over so many z, in nats (N,)."""
        return torch.stack(list(self._weights(state, x, y, rng, samples))).mean(0)

    @torch.no_grad()
    def log_likelihood(self, state: State, x: Tensor, y: Tensor, rng: Rng, samples: int = 500) -> Tensor:
        """log p(x) ≈ log 1/S Σ p(x|z) p(z) / q(z|x), z from q (Burda et al. 2016, arXiv:1509.00519), in nats (N,).

        A lower bound on average, tight as S grows; never below the ELBO, on average.
        """
        return torch.stack(list(self._weights(state, x, y, rng, samples))).logsumexp(0) - log(samples)

    def encoded(self, nets, x, y):
        return self.posterior(nets, x, y)[0]

    def decoded(self, nets, z, y):
        return nets["decoder"].within(self.told(nets, z, y))

    def drawn(self, nets, n, y, rng, state):
        mean, log_var = (torch.as_tensor(part) for part in self.prior(nets, y))
        z = mean + (log_var / 2).exp() * self.codes(n, nets, rng)
        return self.decoded(nets, z, y).unflatten(1, state["shape"])

    def _weights(self, state, x, y, rng, samples):
        nets = self.restored(state)
        x = x.flatten(1)
        mean, log_var = self.posterior(nets, x, y)
        for _ in range(samples):
            z = mean + (log_var / 2).exp() * normal(mean.shape, mean, rng)
            yield (
                self.log_likelihood_given(nets, x, z, y)
                + log_normal(z, *self.prior(nets, y))
                - log_normal(z, mean, log_var)
            )

    def joined(self, nets: Nets, part: Tensor, y: Tensor) -> Tensor:
        """Followed by the condition, one-hot."""
        if not self.conditional:
            return part
        conditions = nets["decoder"].body[0].in_features - self.latent
        return torch.cat([part, F.one_hot(y, conditions).to(part)], 1)


@dataclass(frozen=True)
class VAE(Variational):
    """Variational autoencoder: codes are uncertain, and held near N(0, I), from which samples are decoded."""


@dataclass(frozen=True)
class CVAE(Variational):
    """Variational autoencoder given the class, so that samples of a class can be asked for (Sohn et al. 2015)."""

    conditional: ClassVar[bool] = True


class GatedDecoder(Decoder):
    """A decoder whose every hidden unit is silent for a share of the conditions, drawn once."""

    gates: Tensor  # (K, H) bool, of all hidden units

    def __init__(self, latent: int, hidden: tuple[int, ...], size: int, bounds: Bounds, conditions: int, closed: float):
        super().__init__(latent, hidden, size, bounds)
        self.register_buffer("gates", torch.rand(conditions, sum(hidden)) >= closed)

    def gated(self, z: Tensor, y: Tensor) -> Tensor:
        """The raw (B, D) of codes z (B, L) under conditions y (B,)."""
        *layers, last = (layer for layer in self.body if isinstance(layer, nn.Linear))
        for layer, gate in zip(layers, self.gates[y].split([layer.out_features for layer in layers], 1), strict=True):
            z = layer(z).relu() * gate
        return last(z)


@dataclass(frozen=True)
class GatedVAE(Variational):
    """Every class has a Gaussian of its own among the codes, learned with the rest, and its own part of the decoder.

    p(z|y) = N(μ_y, σ_y²); units of the decoder's hidden layers are gated by the class that is asked for. The
    generator of brain-inspired replay (van de Ven et al. 2020, doi:10.1038/s41467-020-17866-2, eqs. 8 to 10).
    """

    conditional: ClassVar[bool] = True

    closed: float = 0.6  # share of the decoder's hidden units that a class does without

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.closed < 1:
            raise ValueError(f"closed must be in [0, 1), got {self.closed}")

    def networks(self, shape, conditions):
        decoder = GatedDecoder(self.latent, self.hidden[::-1], prod(shape), self.bounds, conditions, self.closed)
        encoder = perceptron(prod(shape), *self.hidden, 2 * self.latent)
        return Nets({"encoder": encoder, "decoder": decoder, "prior": Modes(conditions, self.latent)})

    def prior(self, nets, y):
        return nets["prior"](y)

    def told(self, nets, z, y):
        return nets["decoder"].gated(z, y)

    def joined(self, nets, part, y):
        return part


class Modes(nn.Module):
    """A Gaussian for each condition, apart from each other from the start."""

    def __init__(self, conditions: int, latent: int):
        super().__init__()
        self.mean = nn.Parameter(torch.randn(conditions, latent))
        self.log_var = nn.Parameter(torch.zeros(conditions, latent))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean[y], self.log_var[y]

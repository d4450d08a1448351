"""Variational autoencoders (Kingma & Welling 2014, arXiv:1312.6114)."""

from dataclasses import dataclass
from math import log, prod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..rng import Rng
from .autoencoder import LatentModel
from .base import Nets, State
from .divergences import gaussian_kls, log_normal
from .networks import Decoder, adam, batches, descend, normal, perceptron

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
            misfit, kls = -self.log_likelihood_given(nets, x, z, y).mean(), gaussian_kls(mean, log_var).mean(0)
            loss = misfit + self.beta * kls.clamp(min=self.free_bits).sum()
            descend(optimizer, loss)
            yield {"loss": loss.detach(), "misfit": misfit.detach(), "kl": kls.detach().sum()}

    def posterior(self, nets: Nets, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances (B, latent) of q(z|x)."""
        mean, log_var = nets["encoder"](self._joined(nets, x, y)).chunk(2, 1)
        return mean, log_var

    def log_likelihood_given(self, nets: Nets, x: Tensor, z: Tensor, y: Tensor) -> Tensor:
        """log p(x|z) of (B, D), in nats (B,)."""
        z = self._joined(nets, z, y)
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(nets["decoder"].raw(z), x, reduction="none").sum(1)
        return log_normal(x, nets["decoder"](z), 2 * log(self.noise))

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
        return nets["decoder"](self._joined(nets, z, y))

    def _weights(self, state, x, y, rng, samples):
        nets = self.restored(state)
        x = x.flatten(1)
        mean, log_var = self.posterior(nets, x, y)
        for _ in range(samples):
            z = mean + (log_var / 2).exp() * normal(mean.shape, mean, rng)
            yield self.log_likelihood_given(nets, x, z, y) + log_normal(z) - log_normal(z, mean, log_var)

    def _joined(self, nets: Nets, part: Tensor, y: Tensor) -> Tensor:
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

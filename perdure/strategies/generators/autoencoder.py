"""Autoencoders (Hinton & Salakhutdinov 2006; linear ones: Baldi & Hornik 1989)."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from ..numerics.rng import Rng
from .base import Data, Generator, Nets
from .networks import Decoder, adam, batches, descend, in_order, normal, perceptron, refuse_unlike
from .principal import principal


@dataclass(frozen=True)
class LatentModel(Generator):
    """An encoder to codes (N, latent) and a decoder back; what codes are drawn from is for others to say."""

    latent: int = 16

    def __post_init__(self):
        super().__post_init__()
        if self.latent < 1:
            raise ValueError(f"latent must be at least 1, got {self.latent}")

    def encoded(self, nets: Nets, x: Tensor, y: Tensor) -> Tensor:
        """(N, latent) codes of samples (N, D)."""
        return nets["encoder"](x)

    def decoded(self, nets: Nets, z: Tensor, y: Tensor) -> Tensor:
        """(N, D) samples of codes (N, latent)."""
        return nets["decoder"](z)

    def codes(self, n: int, nets: Nets, rng) -> Tensor:
        """(n, latent), from the prior N(0, I)."""
        return normal((n, self.latent), next(nets.parameters()), rng)

    def drawn(self, nets, n, y, rng, state):
        return self.decoded(nets, self.codes(n, nets, rng), y).unflatten(1, state["shape"])


@dataclass(frozen=True)
class DeepLatentModel(LatentModel):
    """Encoder and decoder are perceptrons, the decoder's widths those of the encoder from back to front."""

    hidden: tuple[int, ...] = (400, 400)

    def __post_init__(self):
        super().__post_init__()
        if any(w < 1 for w in self.hidden):
            raise ValueError(f"hidden widths must be at least 1, got {self.hidden}")

    def networks(self, shape, conditions):
        encoder = perceptron(prod(shape), *self.hidden, self.latent)
        return Nets({"encoder": encoder, "decoder": Decoder(self.latent, self.hidden[::-1], prod(shape), self.bounds)})


class Spread(nn.Module):
    """The Gaussian that codes turned out to have: mean (L,) and a root (L, L) of their covariance."""

    mean: Tensor
    root: Tensor

    def __init__(self, latent: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("root", torch.eye(latent))

    def take(self, codes: Tensor) -> None:
        values, vectors = torch.linalg.eigh(torch.cov(codes.T.double()).reshape(codes.shape[1], -1))
        self.mean.copy_(codes.mean(0))
        self.root.copy_(vectors * values.clamp(min=0).sqrt())

    def forward(self, noise: Tensor) -> Tensor:
        return self.mean + noise @ self.root.T


class SpreadCodes(LatentModel):
    """Codes are drawn from the Gaussian that those of the data have, once fitted."""

    def finished(self, nets, data, rng):
        nets["spread"].take(torch.cat([self.encoded(nets, b.x, b.y) for b in in_order(data)]))

    def codes(self, n, nets, rng):
        return nets["spread"](super().codes(n, nets, rng))


@dataclass(frozen=True)
class Autoencoder(SpreadCodes, DeepLatentModel):
    """A short code from which the sample can be told again: min E|x - ψ(φ(x))|², φ and ψ perceptrons.

    Samples are decoded draws from the Gaussian that the data's codes have.
    """

    def networks(self, shape, conditions):
        return Nets({**super().networks(shape, conditions), "spread": Spread(self.latent)})

    def updates(self, nets, data, rng, start):
        optimizer = adam(nets, self.lr)
        for x, y, _ in batches(data, self.batch_size, rng):
            loss = square_error(self.decoded(nets, self.encoded(nets, x, y), y), x)
            descend(optimizer, loss)
            yield {"loss": loss.detach()}


class Centre(nn.Module):
    mean: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))


@dataclass(frozen=True)
class LinearAutoencoder(SpreadCodes):
    """Principal component analysis: encoder and decoder are matrices, min E|x - BAx|² over centred x.

    The minimisers are those whose B spans the `latent` axes of most variance, with A the projection on them; the
    error is the sum of the variances dropped (Baldi & Hornik 1989, fact 4). Of these, it is the orthonormal one nearest
    to the first weights, hence with a `start` nearest to the one before: codes keep their meaning where they can.
    It is solved in closed form: `steps`, `batch_size` and `lr` have no say, and there is nothing to `hold`.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.hold:
            raise ValueError("linear_autoencoder is solved for the data alone and cannot hold samples; use autoencoder")

    def networks(self, shape, conditions):
        size = prod(shape)
        encoder, decoder = nn.Linear(size, self.latent, bias=False), nn.Linear(self.latent, size, bias=False)
        return Nets({"centre": Centre(size), "encoder": encoder, "decoder": decoder, "spread": Spread(self.latent)})

    def encoded(self, nets, x, y):
        return nets["encoder"](x - nets["centre"].mean)

    def decoded(self, nets, z, y):
        return nets["decoder"](z) + nets["centre"].mean

    @torch.no_grad()
    def _solved(self, nets: Nets, data: Data, rng: Rng) -> Tensor:
        """Write the solution into the networks; () what is left of the variance."""
        found = principal(lambda: (b.x.double() for b in in_order(data)), self.latent, rng["axes"])
        nearest, _, basis = torch.linalg.svd(found.axes.T @ nets["decoder"].weight.double(), full_matrices=False)
        axes = found.axes @ nearest @ basis  # (D, latent)
        nets["centre"].mean.copy_(found.mean)
        nets["decoder"].weight.copy_(axes)
        nets["encoder"].weight.copy_(axes.T)
        return found.dropped.float()

    def updates(self, nets, data, rng, start):
        yield {"loss": self._solved(nets, data, rng)}


def square_error(told: Tensor, x: Tensor) -> Tensor:
    """Summed over the dimensions of (B, D), mean over the batch."""
    refuse_unlike(told, x)
    return (told - x).square().sum(1).mean()

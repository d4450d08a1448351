"""Denoising diffusion (Ho et al. 2020, arXiv:2006.11239), by class with classifier-free guidance (Ho & Salimans 2022,
arXiv:2207.12598)."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..numerics.rng import Rng
from .autoencoder import Spread, square_error
from .base import Data, Generator, Nets, State
from .denoisers import Perceptron, UNet
from .networks import Decoder, adam, batches, descend, in_order, normal, perceptron, refuse_unlike
from .schedules import (
    Schedule,
    ancestral_step,
    ddim_step,
    from_noise,
    from_sample,
    from_velocity,
    kept_signal,
    noised,
    velocity,
)

READ = {"noise": from_noise, "velocity": from_velocity, "sample": from_sample}
HEAVIEST = 20.0  # weight of a sample's error, where hardly any noise is left


@dataclass(frozen=True)
class Diffusion(Generator):
    """Noise is taken off little by little, by a network that has learned to tell it from data.

    x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε; min E|ε - ε_θ(x_t, t, y)|², or the same of the velocity v = √ᾱ_t ε - √(1 - ᾱ_t) x_0,
    or of x_0 itself weighted by 1 / (1 - ᾱ_t), at most 20: then the error is that of v, and a narrow network
    need not carry noise through (Salimans & Ho 2022, arXiv:2202.00512, section 4). Where values have bounds, x_0 is
    told by its logit and judged by cross-entropy: its best answer is E[x_0 | x_t] as well, and it reaches the
    bounds (black stays black), where many pixels of images lie.
    Samples go back from N(0, I) by ancestral steps or by DDIM's, with an average of the weights of late
    steps. With a guidance w above 0, the network's word is (1 + w) that given y, less w that given none.

    latent: the width of an autoencoder's code in which all this happens (latent diffusion: Rombach et al. 2022,
    arXiv:2112.10752); 0 for the samples themselves.
    """

    conditional: ClassVar[bool] = True

    times: int = 200  # T
    schedule: Schedule = "cosine"
    predict: Literal["noise", "velocity", "sample"] = "sample"
    sampler: Literal["ddim", "ancestral"] = "ddim"
    sampling_steps: int = 25  # of DDIM; ancestral sampling takes all T
    guidance: float = 0.0
    unconditional: float = 0.1  # share of samples learned without their condition
    ema: float = 0.995  # of the weights, per step
    network: Literal["mlp", "unet"] = "mlp"
    width: int = 512  # of the network: units of a layer, or channels of the first convolution
    depth: int = 3  # layers of the perceptron
    latent: int = 0

    def __post_init__(self):
        super().__post_init__()
        steps = self.sampling_steps if self.sampler == "ddim" else 1
        if not 1 <= steps <= self.times or self.width < 1 or self.depth < 1 or self.latent < 0:
            raise ValueError(
                "expected 1 <= sampling_steps <= times, width >= 1, depth >= 1 and latent >= 0, got "
                f"{self.sampling_steps}, {self.times}, {self.width}, {self.depth} and {self.latent}"
            )
        if not 0 <= self.unconditional <= 1 or not 0 <= self.ema < 1 or self.guidance < 0:
            raise ValueError(
                "expected unconditional in [0, 1], ema in [0, 1) and guidance >= 0, got "
                f"{self.unconditional}, {self.ema} and {self.guidance}"
            )
        if self.network == "unet" and (self.latent or self.width % 8):
            raise ValueError("a U-Net works on images themselves (latent=0), with a width that 8 divides")
        if self.guidance and not self.unconditional:
            raise ValueError("guidance needs a network that also learned without conditions: unconditional > 0")

    def networks(self, shape, conditions):
        size = self.latent or prod(shape)
        if self.network == "unet":
            denoiser = UNet(shape, conditions, self.width)
        else:
            denoiser = Perceptron(size, conditions, self.width, self.depth)
        nets = Nets({"denoiser": denoiser})
        if self.latent:
            nets["encoder"] = perceptron(prod(shape), 400, self.latent)
            nets["decoder"] = Decoder(self.latent, (400,), prod(shape), self.bounds)
            nets["spread"] = Spread(self.latent)
        return nets

    def updates(self, nets, data, rng, start):
        """With `start`, what the network of before said of dreamt samples is what is to be said of them again
        (distillation), not what noise was really added."""
        if self.latent:
            yield from self._coded(nets, data, rng)
            with torch.no_grad():
                data = data._replace(x=torch.cat([self._inside(nets, b.x) for b in in_order(data)]))
        kept = kept_signal(self.schedule, self.times).to(data.x.device, torch.float32)
        conditions = nets["denoiser"].moment.condition.num_embeddings - 1
        teacher = None if start is None else self.restored(start)["denoiser"]
        nets["average"] = deepcopy(nets["denoiser"]).requires_grad_(False)
        optimizer = adam(nets["denoiser"], self.lr)
        for x, y, dreamt in batches(data, self.batch_size, rng):
            x = x if self.latent else self._inside(nets, x)
            at = torch.randint(1, self.times + 1, (len(x),), generator=rng["times"]).to(x.device)
            free = torch.rand(len(x), generator=rng["conditions"]).to(x.device) < self.unconditional
            y = y.masked_fill(free, conditions)
            noise, share = normal(x.shape, x, rng), kept[at][:, None]
            seen = noised(x, noise, share)
            wanted = noise if self.predict == "noise" else x
            if self.predict == "velocity":
                wanted = velocity(x, noise, share)
            if teacher is not None and dreamt is not None:
                with torch.no_grad():
                    told = self._within(teacher(seen, at / self.times, y))
                wanted = torch.where(dreamt[:, None], told, wanted)
            error = self._error(nets["denoiser"](seen, at / self.times, y), wanted).mean(1)
            if self.predict == "sample":
                error = error / (1 - share[:, 0]).clamp(min=1 / HEAVIEST)
            loss = error.mean()
            descend(optimizer, loss)
            self._averaged(nets)
            yield {"loss": loss.detach()}

    def finished(self, nets, data, rng):
        """The average is what stays."""
        nets["denoiser"] = nets.pop("average")

    def drawn(self, nets, n, y, rng, state):
        *_, x = self._walk(nets, n, y, rng, state)
        return self._outside(nets, x).unflatten(1, state["shape"])

    def path(
        self, nets: Nets, n: int, y: Tensor, rng: Rng, state: State, noise: Tensor | None = None
    ) -> Iterator[Tensor]:
        """What samples (n, ...) look like on their way back from noise, at every step.

        noise: (n, D) to begin with, D the width of a sample or of its code; drawn by default.
        """
        for x in self._walk(nets, n, y, rng, state, noise):
            yield self._outside(nets, x).unflatten(1, state["shape"])

    def _walk(
        self, nets: Nets, n: int, y: Tensor, rng: Rng, state: State, noise: Tensor | None = None
    ) -> Iterator[Tensor]:
        """The same as the denoiser sees it, (n, D)."""
        size = self.latent or prod(state["shape"])
        x = normal((n, size), next(nets.parameters()), rng) if noise is None else noise
        kept = kept_signal(self.schedule, self.times).to(x)
        kinds, at = y.unique(return_inverse=True)  # so that time and condition are reckoned once for each
        for now, before in self._steps():
            clean, left = self._believed(nets, x, now, kinds, at, kept[now])
            if self.sampler == "ddim":
                x = ddim_step(clean, left, kept[now], kept[before])
            else:
                fresh = normal(x.shape, x, rng) if before else torch.zeros_like(x)
                x = ancestral_step(x, clean, kept[now], kept[before], fresh)
            yield x

    def _steps(self) -> list[tuple[int, int]]:
        """From which time to which."""
        count = self.times if self.sampler == "ancestral" else self.sampling_steps
        at = [round(self.times * k / count) for k in range(count, -1, -1)]
        return list(pairwise(at))

    def _believed(
        self, nets: Nets, x: Tensor, now: int, kinds: Tensor, at: Tensor, kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The x_0 and ε of x_t of conditions kinds[at] that the network believes in; x_0 within bounds."""
        time, net = torch.full((len(kinds),), now / self.times, device=x.device), nets["denoiser"]
        told = net(x, time, kinds, at)
        if self.guidance:
            none = torch.full_like(kinds, net.moment.condition.num_embeddings - 1)
            told = (1 + self.guidance) * told - self.guidance * net(x, time, none, at)
        clean, noise = READ[self.predict](x, self._within(told), kept)
        if self.bounds is not None and not self.latent:
            clean = clean.clamp(-1, 1)
            noise = (x - kept.sqrt() * clean) / (1 - kept).sqrt()
        return clean, noise

    @property
    def _bounded(self) -> bool:
        """Whether the network's word is the logit of a sample."""
        return self.predict == "sample" and self.bounds is not None and not self.latent

    def _within(self, told: Tensor) -> Tensor:
        return (told / 2).tanh() if self._bounded else told  # 2 σ(told) - 1

    def _error(self, told: Tensor, wanted: Tensor) -> Tensor:
        refuse_unlike(told, wanted)
        if self._bounded:
            return F.binary_cross_entropy_with_logits(told, (1 + wanted) / 2, reduction="none")
        return (told - wanted).square()

    def _coded(self, nets: Nets, data: Data, rng: Rng):
        """Learn the code first, in half of all steps."""
        optimizer = adam(Nets({"encoder": nets["encoder"], "decoder": nets["decoder"]}), self.lr)
        for _, (x, *_) in zip(range(self.steps // 2), batches(data, self.batch_size, rng.fold("code")), strict=False):
            loss = square_error(nets["decoder"](nets["encoder"](x)), x)
            descend(optimizer, loss)
            yield {"loss": loss.detach()}
        with torch.no_grad():
            nets["spread"].take(torch.cat([nets["encoder"](b.x) for b in in_order(data)]))

    def _inside(self, nets: Nets, x: Tensor) -> Tensor:
        """(B, D) samples as the denoiser sees them: in [-1, 1], or codes of variance 1."""
        if self.latent:
            spread = nets["spread"]
            return torch.linalg.solve(spread.root, (nets["encoder"](x) - spread.mean).T).T
        if self.bounds is None:
            return x
        return 2 * (x - self.bounds[0]) / (self.bounds[1] - self.bounds[0]) - 1

    def _outside(self, nets: Nets, x: Tensor) -> Tensor:
        if self.latent:
            return nets["decoder"](nets["spread"](x))
        if self.bounds is None:
            return x
        return self.bounds[0] + (x + 1) / 2 * (self.bounds[1] - self.bounds[0])

    @torch.no_grad()
    def _averaged(self, nets: Nets) -> None:
        for late, now in zip(nets["average"].parameters(), nets["denoiser"].parameters(), strict=True):
            late.lerp_(now, 1 - self.ema)

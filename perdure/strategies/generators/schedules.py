"""Noise schedules, and the steps back along them (Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, 2010.02502)."""

from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["linear", "cosine"]
Variance = Literal["beta", "posterior"]


def kept_signal(schedule: Schedule, steps: int) -> Tensor:
    """ᾱ_0 .. ᾱ_T, the share of the signal's variance that is left at every step: (T + 1,) from 1 down, double.

    `linear`: β from 1e-4 to 0.02 at a thousand steps, more at fewer (2006.11239, section 4); `cosine`: Nichol &
    Dhariwal 2021, arXiv:2102.09672, eq. 17, β at most 0.999.
    """
    if schedule == "linear":
        betas = torch.linspace(1e-4, 0.02, steps, dtype=torch.double) * (1000 / steps)
    else:
        at = torch.arange(steps + 1, dtype=torch.double) / steps
        f = torch.cos((at + 0.008) / 1.008 * torch.pi / 2).square()
        betas = 1 - f[1:] / f[:-1]
    alphas = 1 - betas.clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.double), alphas.cumprod(0)])


def noised(x: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε, ᾱ_t = kept broadcast to x (2006.11239, eq. 4)."""
    return kept.sqrt() * x + (1 - kept).sqrt() * noise


def velocity(x: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """v = √ᾱ ε - √(1 - ᾱ) x_0 (Salimans & Ho 2022, arXiv:2202.00512)."""
    return kept.sqrt() * noise - (1 - kept).sqrt() * x


def from_velocity(x: Tensor, v: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and ε of x_t and v."""
    return kept.sqrt() * x - (1 - kept).sqrt() * v, kept.sqrt() * v + (1 - kept).sqrt() * x


def from_noise(x: Tensor, noise: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and ε of x_t and ε."""
    return (x - (1 - kept).sqrt() * noise) / kept.sqrt(), noise


def from_sample(x: Tensor, clean: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and ε of x_t and x_0."""
    return clean, (x - kept.sqrt() * clean) / (1 - kept).sqrt()


def ancestral_step(
    x: Tensor, clean: Tensor, kept: Tensor, before: Tensor, fresh: Tensor, variance: Variance = "beta"
) -> Tensor:
    """x_{t-1} from x_t and the x_0 that is believed in: the mean of q(x_{t-1} | x_t, x_0), and noise `fresh`.

    kept, before: ᾱ_t and ᾱ_{t-1}. With x_0 from ε this is (x_t - (1 - α_t) / √(1 - ᾱ_t) ε) / √α_t + σ_t z
    (2006.11239, eq. 7 and algorithm 2), σ_t² = β_t or β̃_t = β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t).
    """
    alpha = kept / before
    mean = before.sqrt() * (1 - alpha) / (1 - kept) * clean + alpha.sqrt() * (1 - before) / (1 - kept) * x
    spread = (1 - alpha) if variance == "beta" else (1 - alpha) * (1 - before) / (1 - kept)
    return mean + spread.sqrt() * fresh


def ddim_step(
    clean: Tensor, noise: Tensor, kept: Tensor, before: Tensor, fresh: Tensor | None = None, eta: float = 0.0
) -> Tensor:
    """x at an earlier step, from the x_0 and ε that are believed in (2010.02502, eq. 12).

    kept, before: ᾱ of the step and of the earlier one; eta = 0 adds no noise, 1 as much as an ancestral step.
    """
    sigma = eta * ((1 - before) / (1 - kept) * (1 - kept / before)).sqrt()
    x = before.sqrt() * clean + (1 - before - sigma.square()).sqrt() * noise
    return x if fresh is None else x + sigma * fresh

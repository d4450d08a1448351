"""How far apart two distributions are: known by formula, or by samples of each.

Where samples are compared, rows are samples: x (N, D), y (M, D), float, in whatever unit the data have. Shapes that do
not go together so, and would be broadcast, are refused.
"""

from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

LOG2 = log(2)  # nats: the JSD of distributions that share nothing


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) = sum p log(p / q) of categoricals (..., K), in nats; infinite where q = 0 < p. Not symmetric."""
    _refuse_others("categories", p.shape[-1:], q.shape[-1:])
    return torch.where(p > 0, p * (p.log() - q.log()), torch.zeros_like(p)).sum(-1)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, I)) of (..., D), in nats: ½ Σ(μ² + σ² - log σ² - 1)
    (Kingma & Welling 2014, arXiv:1312.6114, appendix B)."""
    return gaussian_kls(mean, log_var).sum(-1)


def gaussian_kls(
    mean: Tensor, log_var: Tensor, to_mean: Tensor | float = 0.0, to_log_var: Tensor | float = 0.0
) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(to_mean, exp(to_log_var))) for each of the D dimensions."""
    to_log_var = torch.as_tensor(to_log_var, dtype=mean.dtype, device=mean.device)
    return 0.5 * (((mean - to_mean).square() + log_var.exp()) / to_log_var.exp() + to_log_var - log_var - 1)


def jsd(p: Tensor, q: Tensor) -> Tensor:
    """½ KL(p || m) + ½ KL(q || m), m = ½(p + q), of categoricals (..., K): in [0, log 2] nats, symmetric (Lin 1991)."""
    _refuse_others("categories", p.shape[-1:], q.shape[-1:])
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def adversarial_jsd(real: Tensor, fake: Tensor) -> Tensor:
    """JSD in nats as a discriminator tells it, from its logits (N,) on real samples and (M,) on fake ones.

    V = E_real[log η] + E_fake[log(1 - η)] is at most 2 JSD - 2 log 2, so ½(V + 2 log 2) is a lower bound, reached
    by the best η; V = -2 log 2 says that it cannot tell (Goodfellow et al. 2014, arXiv:1406.2661, theorem 1).
    """
    return (adversarial_value(real, fake) + 2 * LOG2) / 2


def adversarial_value(real: Tensor, fake: Tensor) -> Tensor:
    """V = E_real[log η] + E_fake[log(1 - η)], nats, from logits."""
    return F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean()


def wasserstein_1d(x: Tensor, y: Tensor, p: int = 1) -> Tensor:
    """W_p^p of samples (..., N) and (..., M) of a line, exact: ∫|F⁻¹ - G⁻¹|^p over quantiles, by sorting.

    The p-th power of the distance, in the data's unit to the power p; for p = 1 the distance itself.
    """
    _refuse_others("samples but for their number", x.shape[:-1], y.shape[:-1])
    x, y = x.sort(-1).values, y.sort(-1).values
    n, m = x.shape[-1], y.shape[-1]
    if n == m:
        return (x - y).abs().pow(p).mean(-1)
    # between neighbouring steps of either quantile function both are constant
    steps = torch.cat(
        [torch.arange(1, n, device=x.device) * m, torch.arange(1, m, device=x.device) * n, x.new_zeros(1)]
    )
    steps = torch.cat([steps.sort().values, steps.new_full((1,), n * m)])
    width = steps.diff() / (n * m)
    at = steps[:-1].long()
    return (width * (x[..., at // m] - y[..., at // n]).abs().pow(p)).sum(-1)


def cramer_1d(x: Tensor, y: Tensor) -> Tensor:
    """∫(F - G)² of samples (..., N) and (..., M) of a line, exact, in the data's unit (Székely 2003)."""
    _refuse_others("samples but for their number", x.shape[:-1], y.shape[:-1])
    both, order = torch.cat([x, y], -1).sort(-1)
    step = torch.cat([torch.full_like(x, 1 / x.shape[-1]), torch.full_like(y, -1 / y.shape[-1])], -1)
    gap = step.gather(-1, order).cumsum(-1)[..., :-1]
    return (gap.square() * both.diff(dim=-1)).sum(-1)


def sliced_wasserstein(x: Tensor, y: Tensor, slices: int = 64, p: int = 2, generator=None) -> Tensor:
    """Mean over random directions of W_p^p of the projections (Bonneel et al. 2015, eq. 8), () tensor."""
    return wasserstein_1d(*_projected(x, y, slices, generator), p).mean()


def sliced_cramer(x: Tensor, y: Tensor, slices: int = 64, generator=None) -> Tensor:
    """Mean over random directions of ∫(F - G)² of the projections (Kolouri et al. 2020, definition 1), () tensor."""
    return cramer_1d(*_projected(x, y, slices, generator)).mean()


def mmd(x: Tensor, y: Tensor, widths: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0), imq: bool = True) -> Tensor:
    """Squared maximum mean discrepancy, unbiased, so it can be below zero (Gretton et al. 2012, lemma 6), () tensor.

    Kernel: a sum over scales C = width * 2D of C / (C + |a - b|²) (inverse multiquadratics: Tolstikhin et al. 2018,
    arXiv:1711.01558, section 4), or of exp(-|a - b|² / C); C is meant for samples of about unit variance.
    """

    def kernel(square: Tensor) -> Tensor:
        scales = [width * 2 * x.shape[1] for width in widths]
        return torch.stack([c / (c + square) if imq else (-square / c).exp() for c in scales]).sum(0)

    def within(a: Tensor) -> Tensor:
        n = len(a)
        return (kernel(_square_distances(a, a).fill_diagonal_(0)).sum() - n * len(widths)) / (n * (n - 1))

    return within(x) + within(y) - 2 * kernel(_square_distances(x, y)).mean()


def frechet(x: Tensor, y: Tensor) -> Tensor:
    """|μ_x - μ_y|² + tr(Σ_x + Σ_y - 2(Σ_x Σ_y)^½), of Gaussians fitted to features (Heusel et al. 2017,
    arXiv:1706.08500, eq. 6), () tensor. Computed in double precision."""
    _refuse_others("dimensions", x.shape[1:], y.shape[1:])
    x, y = x.double(), y.double()
    a, b = torch.cov(x.T).reshape(x.shape[1], -1), torch.cov(y.T).reshape(x.shape[1], -1)
    values, vectors = torch.linalg.eigh(a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # (Σ_x Σ_y)^½ has the trace of (Σ_x^½ Σ_y Σ_x^½)^½
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return (x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross


def log_normal(x: Tensor, mean: Tensor | float = 0.0, log_var: Tensor | float = 0.0) -> Tensor:
    """log N(x; mean, exp(log_var)) of (..., D), summed over D, in nats."""
    log_var = torch.as_tensor(log_var, dtype=x.dtype, device=x.device)
    return -0.5 * ((x - mean).square() / log_var.exp() + log_var + log(2 * pi)).expand_as(x).sum(-1)


def _refuse_others(what: str, one: torch.Size, other: torch.Size) -> None:
    if one != other:
        raise ValueError(
            f"expected the same {what} of both, got {tuple(one)} and {tuple(other)}, which do not go together"
        )


def _square_distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) by the Gram matrix: a root at zero would have no gradient."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def _projected(x: Tensor, y: Tensor, slices: int, generator) -> tuple[Tensor, Tensor]:
    """(slices, N) and (slices, M) along directions drawn uniformly from the sphere."""
    directions = torch.randn(slices, x.shape[1], generator=generator).to(x)
    directions = F.normalize(directions, dim=1)
    return directions @ x.T, directions @ y.T

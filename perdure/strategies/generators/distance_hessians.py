"""How fast a distance between old and new outputs grows as single weights move: the diagonal of its Hessian.

For whatever answers with a tensor (N, D): a classifier's logits, a layer's features, a regressor's values, the samples
of a generator (Kolouri et al. 2020; Gretton et al. 2012; Martens 2020, arXiv:1412.1193).
"""

from collections.abc import Callable, Iterator, Mapping
from math import pi
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distributed import collectives

Distance = Literal["kl", "wasserstein", "sliced_cramer", "mmd"]


def diagonal_hessian(
    outputs: Tensor,
    params: Mapping[str, Tensor],
    distance: Distance,
    rng: torch.Generator,
    probes: int = 64,
) -> dict[str, Tensor]:
    """H_ii of d(f(w), f(w*)) at w = w*, one for every weight, from outputs f(w*) (N, D) that hang on `params`.

    All these Hessians are E_u (d <u, f> / dw_i)² over random u (N, D), estimated by `probes` draws of a backward pass
    each (two for `mmd`):

    kl: mean of KL(softmax f* || softmax f), whose Hessian is the Fisher, J' (diag p - p p') J.
    wasserstein: mean of |f - f*|², 2 J'J; that is W2² between the two sets of samples while none has passed another.
    sliced_cramer: E_s ∫ (F_s - F*_s)², F_s the distribution function of s.f over samples, s uniform on the sphere
        (Kolouri et al. 2020, definition 1). With p_s its density, H_ii = 2 E_s ∫ p_s(t)² (E[s.df/dw_i | s.f = t])² dt.
        Their algorithm 1, the square of d mean(s.f) / dw_i, is another matrix, and blind to all but the mean.
    mmd: squared maximum mean discrepancy under exp(-|a - b|² / (2 width²)), width the root mean square distance
        of two outputs, by random features: 2 E_v |d mean exp(i v.f) / dw_i|².

    The last two compare distributions: samples that change places are no change.
    Raises ValueError for outputs that are not (N, D), and for those two where all outputs are the same.
    """
    seen = outputs.detach()
    if seen.dim() != 2:
        raise ValueError(f"expected outputs (N, D), got {tuple(seen.shape)}; say outputs.flatten(1)")
    if distance in ("sliced_cramer", "mmd") and not (seen != seen[:1]).any():
        raise ValueError(
            f"{distance} compares distributions, and all {len(seen)} outputs are the same; give it more samples, or "
            "take distance='wasserstein'"
        )
    total = {k: torch.zeros_like(p) for k, p in params.items()}
    for u in PROBES[distance](seen, probes, rng):
        found = torch.autograd.grad(outputs, list(params.values()), u, True, allow_unused=True, materialize_grads=True)
        for k, g in collectives.mean(dict(zip(params, found, strict=True))).items():
            total[k] += g.square()
    return total


def _kl(f: Tensor, count: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Of covariance diag p - p p' in every row."""
    p = f.softmax(1)
    root = p.sqrt()
    for _ in range(count):
        z = _normal(f, rng)
        yield (root * z - p * (root * z).sum(1, keepdim=True)) / (count * len(f)) ** 0.5


def _wasserstein(f: Tensor, count: int, rng: torch.Generator) -> Iterator[Tensor]:
    for _ in range(count):
        yield _normal(f, rng) * (2 / (count * len(f))) ** 0.5


def _mmd(f: Tensor, count: int, rng: torch.Generator) -> Iterator[Tensor]:
    width = (2 * f.var(0).sum()).sqrt()
    for v in torch.randn(count, f.shape[1], generator=rng).to(f) / width:
        for wave in (-(f @ v).sin(), (f @ v).cos()):
            yield wave[:, None] * v * (2 / count) ** 0.5 / len(f)


def _sliced_cramer(f: Tensor, count: int, rng: torch.Generator) -> Iterator[Tensor]:
    """∫ g² dt is E g(t)² / p(t) over t from the density p itself, where g = dF/dw = -p E[s.df/dw | s.f = t]: one t for
    each direction, an equal share of them from every part of the distribution."""
    quantile = (torch.randperm(count, generator=rng) + torch.rand(count, generator=rng)) / count
    shift = torch.randn(count, generator=rng).to(f)
    for n, s in enumerate(F.normalize(torch.randn(count, f.shape[1], generator=rng).to(f), dim=1)):
        z = f @ s
        width = _bandwidth(z)
        t = z.sort().values[(quantile[n] * len(z)).long()] + width * shift[n]
        near = (-((t - z) / width).square() / 2).exp() / (width * (2 * pi) ** 0.5)
        yield near[:, None] * s * (2 / (count * near.mean())).sqrt() / len(f)


def _bandwidth(z: Tensor) -> Tensor:
    """The standard deviation of the kernel that smooths the density of samples (N,): σ N^(-1/3), at which for ∫p² the
    loss by smoothing, of order h², is what a sample's own kernel adds, of order 1 / (N h).

    σ is that of the parts where samples lie, measured by the distances that N^(2/3) of them take: those of a normal
    distribution take 2√π σ N^(-1/3). Clusters far apart would else be smeared; of samples most of which are the same,
    it is that of all.
    """
    far = max(1, min(len(z) - 1, round(len(z) ** (2 / 3))))
    ordered = z.sort().values
    taken = (ordered[far:] - ordered[:-far]).median() / (2 * pi**0.5)
    return torch.where(taken > 0, taken, z.std() * len(z) ** (-1 / 3)).clamp(min=torch.finfo(z.dtype).tiny ** 0.5)


def _normal(like: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=rng).to(like)


Probes = Callable[[Tensor, int, torch.Generator], Iterator[Tensor]]
PROBES: dict[Distance, Probes] = {"kl": _kl, "wasserstein": _wasserstein, "sliced_cramer": _sliced_cramer, "mmd": _mmd}

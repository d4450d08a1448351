"""Pictures of a generator: what it draws, how it tells samples again, what lies between them, how it learned."""

from collections.abc import Iterator, Sequence
from math import log
from typing import Any

import torch
from torch import Tensor

from ...strategies.generators.autoencoder import LatentModel, LinearAutoencoder
from ...strategies.generators.base import Data, Generator, Progress, State
from ...strategies.generators.denoising import DAE
from ...strategies.generators.diffusion import Diffusion
from ...strategies.generators.gan import Adversarial
from ...strategies.numerics.rng import Rng
from .canvas import COLOURS, new
from .samples import scatter, sheet

COLUMNS = 10


def figures(
    generator: Generator, state: State, learned: Tensor, shown: Data, told: Sequence[Progress], rng: Rng
) -> Iterator[tuple[str, Any]]:
    """Names and figures.

    learned: float samples that it was fitted to; shown: others; told: what was heard while it learned.
    """
    pictures = shown.x.dim() == 4
    if pictures:
        yield "samples", _samples(generator, state, rng.fold("samples"))
    elif shown.x.dim() == 2:
        made = generator.sample(state, len(shown.x), rng.fold("samples"))
        plane = _plane(shown.x)
        yield "samples", scatter({"real": plane(shown.x), "drawn": plane(made)}, None, "two main directions")
    with torch.no_grad():
        if pictures:
            yield from _of_images(generator, state, shown, rng)
        if isinstance(generator, LatentModel):
            codes = generator.encoded(generator.restored(state), shown.x.flatten(1), shown.y)
            yield "latent", scatter({"": _plane(codes)(codes)}, shown.y, "codes of test samples, two main directions")
        if isinstance(generator, LinearAutoencoder):
            yield "pca", _against_pca(generator, state, learned.flatten(1))
    yield "losses", _losses(told)
    if any("jsd" in p.values for p in told):
        yield "divergence", _divergence(told)


def _of_images(generator: Generator, state: State, shown: Data, rng: Rng) -> Iterator[tuple[str, Any]]:
    rows = _told_again(generator, state, shown.x[:COLUMNS], shown.y[:COLUMNS], rng.fold("again"))
    if rows:
        yield "reconstructions", sheet(list(rows.values()), COLUMNS, list(rows), "test samples told again")
    between = _between(generator, state, shown, rng.fold("between"))
    if between:
        yield "interpolation", sheet(between, COLUMNS, [""] * len(between), "from one to the other")
    path = _path(generator, state, rng.fold("path"))
    if path:
        yield "path", sheet(path, len(path[0]), [""] * len(path), "from noise to sample")


def _samples(generator: Generator, state: State, rng: Rng) -> Any:
    """By class where classes can be asked for."""
    seen = state["seen"].nonzero().flatten()
    if not generator.conditional:
        return sheet(list(generator.sample(state, 100, rng).split(COLUMNS)), COLUMNS, [""] * 10, "samples")
    x = generator.sample(state, len(seen) * COLUMNS, rng, seen.repeat_interleave(COLUMNS))
    return sheet(list(x.split(COLUMNS)), COLUMNS, seen.tolist(), "samples", "class")


def _told_again(generator: Generator, state: State, x: Tensor, y: Tensor, rng: Rng) -> dict[str, Tensor]:
    nets = generator.restored(state)
    if isinstance(generator, LatentModel):
        told = generator.decoded(nets, generator.encoded(nets, x.flatten(1), y), y)
        return {"real": x, "told": told.view_as(x)}
    if isinstance(generator, DAE):
        sigma = generator.sigmas[len(generator.sigmas) // 2]
        noisy = x + sigma * torch.randn(x.shape, generator=rng["noise"])
        told = nets["denoiser"](noisy.flatten(1), torch.full((len(x), 1), sigma))
        return {"real": x, f"σ = {sigma:g}": noisy, "told": told.view_as(x)}
    return {}


def _between(generator: Generator, state: State, shown: Data, rng: Rng, rows: int = 5) -> list[Tensor]:
    """Rows of steps between two samples' codes, of one class where the decoder asks for it, or between two noises."""
    nets, steps = generator.restored(state), torch.linspace(0, 1, COLUMNS)[:, None]
    if isinstance(generator, LatentModel):
        pairs = list(_pairs(shown.y, same=generator.conditional))[:rows]
        ends = [generator.encoded(nets, shown.x[[a, b]].flatten(1), shown.y[[a, b]]) for a, b in pairs]
        tellers = [
            (torch.lerp(z[:1], z[1:], steps), shown.y[[a] * COLUMNS]) for z, (a, b) in zip(ends, pairs, strict=True)
        ]
        return [generator.decoded(nets, z, y).unflatten(1, state["shape"]) for z, y in tellers]
    if isinstance(generator, Adversarial):
        noise = torch.randn(rows, 2, generator.latent, generator=rng["noise"])
        return [nets["decoder"](_arc(ends[0], ends[1], steps)).unflatten(1, state["shape"]) for ends in noise]
    if isinstance(generator, Diffusion) and generator.sampler == "ddim":
        size = generator.latent or torch.Size(state["shape"]).numel()
        seen = state["seen"].nonzero().flatten()
        noise = torch.randn(rows, 2, size, generator=rng["noise"])
        asked = [seen[[row % len(seen)] * COLUMNS] for row in range(rows)]
        starts = [_arc(ends[0], ends[1], steps) for ends in noise]
        return [_last(generator.path(nets, COLUMNS, y, rng, state, z)) for z, y in zip(starts, asked, strict=True)]
    return []


def _pairs(y: Tensor, same: bool) -> Iterator[tuple[int, int]]:
    """Rows of two samples each, every row used once."""
    left = list(range(len(y)))
    while left:
        a = left.pop(0)
        b = next((b for b in left if (y[a] == y[b]).item() == same), None)
        if b is not None:
            left.remove(b)
            yield a, b


def _arc(a: Tensor, b: Tensor, steps: Tensor) -> Tensor:
    """Points between noises a and b (D,), where noise lies: on the arc, not on the chord (Shoemake 1985)."""
    angle = torch.arccos(torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1))
    return (((1 - steps) * angle).sin() * a + (steps * angle).sin() * b) / angle.sin()


def _path(generator: Generator, state: State, rng: Rng, rows: int = 5) -> list[Tensor]:
    """Rows of what a sample looked like on its way from noise."""
    nets, seen = generator.restored(state), state["seen"].nonzero().flatten()
    if isinstance(generator, Diffusion):
        asked = seen[[row % len(seen) for row in range(rows)]]
        stages = list(generator.path(nets, rows, asked, rng, state))
    elif isinstance(generator, DAE):
        stages = list(generator.levels(nets, rows, rng, state))
    else:
        return []
    at = torch.linspace(0, len(stages) - 1, min(COLUMNS, len(stages))).round().long().tolist()
    return list(torch.stack([stages[i] for i in at], 1))


def _last(stages: Iterator[Tensor]) -> Tensor:
    *_, last = stages
    return last


def _plane(x: Tensor):
    """The projection onto the two main directions of x (N, ...)."""
    flat = x.flatten(1).double()
    mean = flat.mean(0)
    axes = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:2]
    axes = torch.nn.functional.pad(axes, (0, 0, 0, 2 - len(axes)))
    return lambda z: (z.flatten(1).double() - mean) @ axes.T


def _against_pca(generator: LinearAutoencoder, state: State, x: Tensor) -> Any:
    """Angles between the span of the decoder's columns and the principal subspace of as many dimensions."""
    decoder = generator.restored(state)["decoder"].weight.double()
    x = x.double() - x.double().mean(0)
    _, spread, axes = torch.linalg.svd(x, full_matrices=False)
    count = min(decoder.shape[1], len(axes))
    cosines = torch.linalg.svdvals(torch.linalg.qr(decoder).Q.T @ axes[:count].T)
    figure = new(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    left.plot(range(1, len(cosines) + 1), cosines.numpy(), color=COLOURS[0], marker="o", markersize=4)
    left.set(title="the decoder's span and PCA's", xlabel="principal angle", ylabel="cosine", ylim=(0, 1.05))
    share = spread.square().cumsum(0) / spread.square().sum()
    right.plot(range(1, len(share) + 1), share.numpy(), color=COLOURS[1])
    right.axvline(count, color="grey", linestyle="--", linewidth=1)
    right.set(title="variance in the first directions", xlabel="directions", ylabel="share", ylim=(0, 1.05))
    return figure


def _losses(told: Sequence[Progress]) -> Any:
    """A panel for every number that was told."""
    names = list(told[0].values)
    figure = new(3.6 * len(names), 3.0)
    for n, (axes, name) in enumerate(zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True)):
        axes.plot([p.epoch for p in told], [p.values[name] for p in told], color=COLOURS[n % len(COLOURS)])
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _divergence(told: Sequence[Progress]) -> Any:
    """What the discriminator tells: V in nats, and JSD = (V + 2 log 2) / 2 on the other side."""
    figure = new(5.2, 3.4)
    axes = figure.subplots()
    floor = -2 * log(2)
    axes.plot([p.epoch for p in told], [2 * p.values["jsd"] + floor for p in told], color=COLOURS[0])
    axes.axhline(floor, color=COLOURS[1], linestyle="--", label="-2 log 2: it cannot tell")
    axes.set(xlabel="epoch", ylabel="V of the discriminator (nats)")
    axes.secondary_yaxis("right", functions=(lambda v: (v - floor) / 2, lambda j: 2 * j + floor)).set_ylabel(
        "JSD (nats)"
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    return figure

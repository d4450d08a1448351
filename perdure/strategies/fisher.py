"""The diagonal of the Fisher information (Kirkpatrick et al. 2017, arXiv:1612.00796; Martens 2020, arXiv:1412.1193)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from ..streams.experience import Samples
from .learner import Learner


def diagonal_fisher(
    learner: Learner, samples: Samples, generator: torch.Generator, chunk: int = 256
) -> dict[str, Tensor]:
    """Mean over samples x of (d log p(y | x) / d w)^2 for every parameter w, with y drawn from p(. | x).

    Labels are drawn from the model: with the true ones it would be the empirical Fisher, another matrix.
    """
    total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
    with learner.resting():
        for index in torch.arange(len(samples.y), device=samples.y.device).split(chunk):
            x, _, task, _ = samples.batch(index)
            with torch.no_grad():
                p = learner.logits(x, task).softmax(1)
            y = torch.multinomial(p.double().cpu(), 1, generator=generator).squeeze(1).to(p.device)
            for name, square in square_scores(learner, x, y, task).items():
                total[name] += square
    return {k: v / len(samples.y) for k, v in total.items()}


def square_scores(learner: Learner, x: Tensor, y: Tensor, task: Tensor) -> dict[str, Tensor]:
    """Sum over samples of (d log p(y | x) / d w)^2, exact per sample; the model must be in evaluation mode.

    Where all weights lie in linear and convolutional layers that are used once, one backward pass gives
    what is needed: a layer's per-sample gradient is a product of its input and its output's gradient.
    Any other model takes a gradient per sample, by vmap.
    """
    layers = {name: m for name, m in learner.model.named_modules() if any(True for _ in m.parameters(recurse=False))}
    if all(isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1) for m in layers.values()):
        squares = _by_layer(learner, layers, x, y, task)
        if squares is not None:
            return squares
    return _by_sample(learner, x, y, task)


def _by_layer(learner, layers, x, y, task) -> dict[str, Tensor] | None:
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    hooks = [
        m.register_forward_hook(lambda _, inputs, out, name=name: calls[name].append((inputs[0], out)))
        for name, m in layers.items()
    ]
    try:
        with torch.enable_grad():
            loss = F.cross_entropy(learner.logits(x, task), y, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    if any(len(seen) != 1 for seen in calls.values()) or len(learner.params) != sum(
        len(list(m.parameters(recurse=False))) for m in layers.values()
    ):
        return None  # a shared weight's gradients add up before they are squared
    slopes = torch.autograd.grad(loss, [seen[0][1] for seen in calls.values()])
    pairs = zip(layers.items(), calls.values(), slopes, strict=True)
    return {k: v for (name, m), seen, slope in pairs for k, v in _squares(name, m, seen[0][0].detach(), slope)}


def _squares(name: str, layer: nn.Module, a: Tensor, g: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The layer's inputs a and its output's gradients g, one row a sample, to its parameters' squared gradients."""
    if isinstance(layer, nn.Conv2d):
        a = _patches(layer, a)  # (B, I, P)
        g = g.flatten(2)  # (B, O, P)
        weight = torch.einsum("bop,bip->boi", g, a).square().sum(0).view_as(layer.weight)
        bias = g.sum(2).square().sum(0)
    elif a.dim() == 2:
        weight, bias = g.square().T @ a.square(), g.square().sum(0)
    else:  # a linear layer over (B, ..., I)
        a, g = a.flatten(1, -2), g.flatten(1, -2)
        weight = torch.einsum("bpo,bpi->boi", g, a).square().sum(0)
        bias = g.sum(1).square().sum(0)
    yield f"{name}.weight" if name else "weight", weight
    if layer.bias is not None:
        yield f"{name}.bias" if name else "bias", bias


def _patches(layer: nn.Conv2d, a: Tensor) -> Tensor:
    """(B, I, P): what the kernel sees at each of P places."""
    padding = layer.padding
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
        a, padding = F.pad(a, [*sides[1], *sides[0]]), 0
    elif layer.padding_mode != "zeros":
        a, padding = F.pad(a, [padding[1], padding[1], padding[0], padding[0]], mode=layer.padding_mode), 0
    return F.unfold(a, layer.kernel_size, layer.dilation, padding, layer.stride)


def _by_sample(learner, x, y, task, chunk: int = 32) -> dict[str, Tensor]:
    def nll(params, x, y, task):
        return F.cross_entropy(learner.logits(x[None], task[None], params), y[None])

    params = {k: p.detach() for k, p in learner.params.items()}
    total = {k: torch.zeros_like(p) for k, p in params.items()}
    each = vmap(grad(nll), in_dims=(None, 0, 0, 0))
    for part in zip(x.split(chunk), y.split(chunk), task.split(chunk), strict=True):
        for name, g in each(params, *part).items():
            total[name] += g.square().sum(0)
    return total

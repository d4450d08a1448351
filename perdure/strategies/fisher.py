"""The diagonal of the Fisher information (Kirkpatrick et al. 2017, arXiv:1612.00796; Martens 2020, arXiv:1412.1193)."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from ..streams.experience import Samples
from .learner import Learner

Label = Callable[[Tensor], Tensor]  # from (B, C) logits to (B,) int64


def diagonal_fisher(
    learner: Learner, samples: Samples, generator: torch.Generator, chunk: int = 256
) -> dict[str, Tensor]:
    """Mean over samples x of (d log p(y | x) / d w)^2 for every parameter w, with y drawn from p(. | x).

    Labels are drawn from the model: with the true ones it would be the empirical Fisher, another matrix.
    """

    def drawn(logits: Tensor) -> Tensor:
        p = logits.softmax(1).double().cpu()
        return torch.multinomial(p, 1, generator=generator).squeeze(1).to(logits.device)

    total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
    with learner.resting():
        for index in torch.arange(len(samples.y), device=samples.y.device).split(chunk):
            x, _, task, _ = samples.batch(index)
            for name, square in square_scores(learner, x, task, drawn).items():
                total[name] += square
    return {k: v / len(samples.y) for k, v in total.items()}


def square_scores(learner: Learner, x: Tensor, task: Tensor, label: Label) -> dict[str, Tensor]:
    """Sum over samples of (d log p(y | x) / d w)^2, exact per sample; the model must be in evaluation mode.

    Where all weights lie in linear and convolutional layers that are used once, one backward pass gives
    what is needed: a layer's per-sample gradient is a product of its input and its output's gradient.
    Any other model takes a gradient per sample, by vmap.
    """
    layers = {name: m for name, m in learner.model.named_modules() if any(True for _ in m.parameters(recurse=False))}
    if all(isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1) for m in layers.values()):
        calls, logits = _watched(learner, layers, x, task)
        y = label(logits.detach())
        if len(calls) == len(layers) == len(dict(calls)) and _unshared(learner, layers):
            slopes = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), [out for _, (_, out) in calls])
            pairs = zip(calls, slopes, strict=True)
            return {k: v for (name, (a, _)), g in pairs for k, v in _squares(name, layers[name], a, g)}
    else:
        with torch.no_grad():
            y = label(learner.logits(x, task))
    return _by_sample(learner, x, y, task)


def _watched(learner, layers, x, task) -> tuple[list[tuple[str, tuple[Tensor, Tensor]]], Tensor]:
    """Inputs and outputs of every call of a layer, and the logits."""
    calls: list[tuple[str, tuple[Tensor, Tensor]]] = []
    hooks = [
        m.register_forward_hook(lambda _, given, out, name=name: calls.append((name, (given[0].detach(), out))))
        for name, m in layers.items()
    ]
    try:
        with torch.enable_grad():
            return calls, learner.logits(x, task)
    finally:
        for hook in hooks:
            hook.remove()


def _unshared(learner, layers) -> bool:
    """Whether each weight belongs to one layer: gradients of a shared one add up before they are squared."""
    return len(learner.params) == sum(len(list(m.parameters(recurse=False))) for m in layers.values())


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

"""The diagonal of the Fisher information (Kirkpatrick et al. 2017, arXiv:1612.00796; Martens 2020, arXiv:1412.1193)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad, vmap

from ...streams.experience import Samples, Split
from ..distributed import collectives
from ..learner import Learner

Score = Callable[[Tensor], Tensor]  # from a batch's (B, C) outputs to a number for each sample, (B,)
Answer = Callable[..., Tensor]  # of (x, task, params=None): the outputs (B, C), or whatever else is read from the model
Size = Callable[[Tensor], Tensor]  # what is summed over samples: the squares of their gradients, or absolute values


def diagonal_fisher(
    learner: Learner, samples: Samples | Split, generator: torch.Generator, labels: str = "model", chunk: int = 256
) -> dict[str, Tensor]:
    """Mean over samples x of (d log p(y | x) / d w)^2 for every parameter w, with y drawn from p(. | x).

    labels: "model" draws them so; "data" takes the true ones, which is the empirical Fisher, another matrix.
    """
    total = {k: torch.zeros_like(p) for k, p in learner.params.items()}
    with learner.resting():
        for index in torch.arange(len(samples.y), device=samples.y.device).split(chunk):
            x, y, task, _ = samples.batch(index)
            if labels == "model":
                with torch.no_grad():
                    p = learner.logits(x, task).softmax(1).double().cpu()
                y = torch.multinomial(p, 1, generator=generator).squeeze(1).to(y.device)

            def surprise(outputs: Tensor, y: Tensor = y, task: Tensor = task) -> Tensor:
                return F.cross_entropy(learner.masked(outputs, task), y, reduction="none")

            for name, square in square_scores(learner, x, task, surprise).items():
                total[name] += square
    return {k: v / len(samples.y) for k, v in total.items()}


def square_scores(
    learner: Learner, x: Tensor, task: Tensor, score: Score, size: Size = torch.square, answer: Answer | None = None
) -> dict[str, Tensor]:
    """Sum over samples of (d score / d w)^2, exact per sample; the model must be in evaluation mode.

    answer: what the score is of, where it is not the model's outputs; see `readings`.

    Where all weights that are learned lie in linear and convolutional layers that are used once, one backward pass
    gives what is needed: a layer's per-sample gradient is a product of its input and its output's gradient.
    Any other model takes a gradient per sample, by vmap. Frozen weights have none.
    """
    layers = {name: m for name, m in learner.model.named_modules() if any(_learned(m))}
    if all(isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1) for m in layers.values()):
        calls, outputs = _watched(answer or learner.outputs, layers, x, task)
        if len(calls) == len(layers) == len(dict(calls)) and _unshared(learner, layers):
            reached = [out for _, (_, out) in calls]
            slopes = torch.autograd.grad(score(outputs).sum(), reached, allow_unused=True, materialize_grads=True)
            part = collectives.share(len(x))  # of the samples: those that this worker has passed through
            slopes = slopes if part is None else [g / collectives.size() for g in slopes]
            pairs = zip(calls, slopes, strict=True)
            sizes = {k: v for (name, (a, _)), g in pairs for k, v in _sizes(name, layers[name], a, g, size)}
            sizes = {k: v for k, v in sizes.items() if k in learner.params}
            return sizes if part is None else collectives.total(sizes)
    return _by_sample(learner, x, task, score, size, answer or learner.outputs)


def _watched(answer: Answer, layers, x, task) -> tuple[list[tuple[str, tuple[Tensor, Tensor]]], Tensor]:
    """Inputs and outputs of every call of a layer, and the answers."""
    calls: list[tuple[str, tuple[Tensor, Tensor]]] = []
    hooks = [
        m.register_forward_hook(lambda _, given, out, name=name: calls.append((name, (given[0].detach(), out))))
        for name, m in layers.items()
    ]
    try:
        with torch.enable_grad():
            return calls, answer(x, task)
    finally:
        for hook in hooks:
            hook.remove()


def _unshared(learner, layers) -> bool:
    """Whether each weight belongs to one layer: gradients of a shared one add up before they are squared."""
    return len(learner.params) == sum(map(sum, map(_learned, layers.values())))


def _learned(layer: nn.Module) -> list[bool]:
    """Of every weight of a layer's own, whether it is learned."""
    return [p.requires_grad for p in layer.parameters(recurse=False)]


def _sizes(name: str, layer: nn.Module, a: Tensor, g: Tensor, size: Size) -> Iterator[tuple[str, Tensor]]:
    """The layer's inputs a and its output's gradients g, one row a sample, to sizes of its parameters' gradients."""
    kept: Any = layer.weight
    a, g = a.to(kept.dtype), g.to(kept.dtype)  # what was multiplied in bfloat16 is summed in full
    if isinstance(layer, nn.Conv2d):
        a = patches(layer, a)  # (B, I, P)
        g = g.flatten(2)  # (B, O, P)
        weight = size(torch.einsum("bop,bip->boi", g, a)).sum(0).view_as(layer.weight)
        bias = size(g.sum(2)).sum(0)
    elif a.dim() == 2:  # the size of a product is the product of sizes
        weight, bias = size(g).T @ size(a), size(g).sum(0)
    else:  # a linear layer over (B, ..., I)
        a, g = a.flatten(1, -2), g.flatten(1, -2)
        weight = size(torch.einsum("bpo,bpi->boi", g, a)).sum(0)
        bias = size(g.sum(1)).sum(0)
    yield f"{name}.weight" if name else "weight", weight
    if layer.bias is not None:
        yield f"{name}.bias" if name else "bias", bias


def patches(layer: nn.Conv2d, a: Tensor) -> Tensor:
    """(B, I, P): what the kernel sees at each of P places."""
    padding = layer.padding
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
        a, padding = F.pad(a, [*sides[1], *sides[0]]), 0
    elif layer.padding_mode != "zeros":
        a, padding = F.pad(a, [padding[1], padding[1], padding[0], padding[0]], mode=layer.padding_mode), 0
    return F.unfold(a, layer.kernel_size, layer.dilation, padding, layer.stride)


def _by_sample(
    learner: Learner, x: Tensor, task: Tensor, score: Score, size: Size, answer: Answer, chunk: int = 32
) -> dict[str, Tensor]:
    params = {k: p.detach() for k, p in learner.params.items()}
    with torch.no_grad():
        outputs = answer(x, task)
    with torch.enable_grad():
        outputs.requires_grad_()
        (slopes,) = torch.autograd.grad(score(outputs).sum(), [outputs])

    def along(params, x, task, slope):
        return answer(x[None], task[None], params)[0] @ slope

    each = vmap(grad(along), in_dims=(None, 0, 0, 0))
    total, mine = {k: torch.zeros_like(p) for k, p in params.items()}, collectives.share(len(x))
    some = (x, task, slopes) if mine is None else [collectives.rows(part, mine) for part in (x, task, slopes)]
    for part in zip(*(whole.split(chunk) for whole in some), strict=True):
        for name, g in each(params, *part).items():
            total[name] += size(g).sum(0)
    return total if mine is None else collectives.total(total)

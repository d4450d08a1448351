"""What a network sees of samples: the activations of its hidden layers (Zhang et al. 2018, arXiv:1801.03924)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


def hidden(model: nn.Module, x: Tensor, call: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(N, F) outputs of every weighted layer but the last, one after the other.

    Each place's channels are brought to length 1, each layer's share is divided by the root of its places: the
    distance of two samples is the square root of the sum over layers of the mean squared distance over places.
    call: how the model is called, instead of directly. Raises ValueError where there is no hidden layer.
    """
    layers = [m for m in model.modules() if isinstance(m, WEIGHTED)][:-1]
    if not layers:
        raise ValueError("expected a network with a hidden layer, as mlp, convnet and resnet18 have")
    seen: list[Tensor] = []

    def see(module: nn.Module, given: tuple, out: Tensor) -> None:
        seen.append(out)

    hooks = [layer.register_forward_hook(see) for layer in layers]
    try:
        (call or model)(x)
    finally:
        for hook in hooks:
            hook.remove()
    parts = []
    for out in seen:
        places = out.flatten(2) if out.dim() > 2 else out[:, :, None]  # (N, C, P)
        unit = places / places.norm(dim=1, keepdim=True).clamp(min=1e-8)
        parts.append((unit / places.shape[2] ** 0.5).flatten(1))
    return torch.cat(parts, 1)

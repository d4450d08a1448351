"""In which order a model uses its weights, whatever the order in which they are defined."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..models.modes import resting

Order = Callable[[Tensor], tuple[str, ...]]  # of samples (n, ...), the names of the weights that they meet


def known_order(model: nn.Module) -> Order:
    """`used` of the model, looked at once, with the first samples that it is asked about."""
    known: list[tuple[str, ...]] = []

    def order(x: Tensor) -> tuple[str, ...]:
        if not known:
            known.append(used(model, x))
        return known[0]

    return order


def used(model: nn.Module, x: Tensor) -> tuple[str, ...]:
    """The weights, frozen ones too, that a forward pass of samples like x (n, ...) uses; those used last come last."""
    seen = _Seen({id(p): name for name, p in model.named_parameters()})
    with torch.no_grad(), resting(model), seen:  # resting draws nothing, so that no random stream is shifted
        model(torch.zeros(x.shape, dtype=x.dtype, device=x.device))
    return tuple(seen.order)


class _Seen(TorchFunctionMode):
    def __init__(self, names: Mapping[int, str]):
        super().__init__()
        self.names, self.order = names, dict[str, None]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            name = self.names.get(id(value)) if isinstance(value, Tensor) else None
            if name is not None:
                self.order.pop(name, None)
                self.order[name] = None
        return func(*args, **(kwargs or {}))

"""A perceptron under T sets of weights at once, by batched matrix products: what vmap comes to, at less than half the
cost of its bookkeeping where layers are small (`benchmarks/meta.py`)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Outputs = Callable[[Mapping[str, Tensor], Tensor], Tensor]  # of weights by name (T, ...), on x (T, n, ...): (T, n, ...)
ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Identity)


def batched(model: nn.Module) -> Outputs | None:
    """The outputs of a model that is a chain of linear layers and elementwise functions; None of any other."""
    if type(model) is not nn.Sequential or not all(_known(layer) for layer in model):
        return None

    names = {id(p): name for name, p in model.named_parameters()}  # one for each, though layers may share it

    def outputs(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        def own(p: Tensor) -> Tensor:
            """(T, ...) of what every task has for itself; of frozen weights, the model's own."""
            name = names[id(p)]
            return weights[name] if name in weights else p.expand(len(x), *p.shape)

        for layer in model:  # as often as it is in the chain: `children` tells of each once
            if isinstance(layer, nn.Linear):
                x = _linear(x, own(layer.weight), None if layer.bias is None else own(layer.bias))
            else:
                x = x.flatten(2) if isinstance(layer, nn.Flatten) else layer(x)
        return x

    return outputs


def _known(layer: nn.Module) -> bool:
    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) is nn.Linear or type(layer) in ELEMENTWISE


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (T, n, ..., i) by weights (T, o, i): (T, n, ..., o)."""
    rows = x.flatten(1, -2)
    out = rows @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return out.view(*x.shape[:-1], -1)

"""Layers that see a batch as a whole, and what they do where workers pass slices of it through: the same."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import team

DROPOUTS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Dropout: F.dropout,
    nn.Dropout1d: F.dropout1d,
    nn.Dropout2d: F.dropout2d,
    nn.Dropout3d: F.dropout3d,
}
UNFIT = (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU, nn.SyncBatchNorm)


def prepare(model: nn.Module) -> None:
    """Put in place of the model's layers that see a whole batch some that see it across workers; weights, buffers and
    names stay. Raises ValueError for those that there is no such layer of."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, UNFIT):
                raise ValueError(f"several workers cannot share a model with {type(layer).__name__}; take one without")
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                parent.register_module(name, SharedBatchNorm(layer))
            elif type(layer) in DROPOUTS:
                parent.register_module(name, SharedDropout(DROPOUTS[type(layer)], layer))


def batch_norm(x: Tensor, layer: Any, running: bool) -> Tensor:
    """Batch normalisation of (B, C, ...) by the statistics of the batch that x is a slice of.

    running: whether they enter the layer's running ones. Reckoned in float32 at least: the number of values alone is
    more than bfloat16 can count to.
    """
    kind, x = x.dtype, x.float() if x.dtype == torch.bfloat16 else x
    places, wide = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
    summed = team.sums(torch.cat([x.sum(places), x.new_tensor([float(len(x) * prod(x.shape[2:]))])]))
    counted, mean = summed[-1], summed[:-1] / summed[-1]
    centred = x - mean.view(wide)
    variance = team.sums(centred.square().sum(places)) / counted
    if running and layer.track_running_stats:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            step = 1.0 / layer.num_batches_tracked.item() if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean, step)
            layer.running_var.lerp_(variance * counted / (counted - 1), step)
    out = centred * (variance + layer.eps).rsqrt().view(wide)
    return (out if layer.weight is None else out * layer.weight.view(wide) + layer.bias.view(wide)).to(kind)


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of the whole batch, of which each worker has a slice."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm):
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias, self.training = layer.weight, layer.bias, layer.training
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked

    def forward(self, input: Tensor) -> Tensor:
        if team.under_way() is None or not (self.training or self.running_mean is None):
            return super().forward(input)
        return batch_norm(input, self, self.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected a batch (B, C, ...), got {tuple(input.shape)}")


class SharedDropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch."""

    def __init__(self, drop: Callable[..., Tensor], layer: nn.Module):
        super().__init__()
        self.drop, self.layer, self.training = drop, layer, layer.training

    def forward(self, x: Tensor) -> Tensor:
        now = team.under_way()
        if now is None or not self.training:
            return self.layer(x)
        whole = self.drop(x.new_ones(now.whole, *x.shape[1:]), self.layer.p, True)
        return x * team.own(whole)

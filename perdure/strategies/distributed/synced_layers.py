"""Layers that see a batch as a whole, and what they do where workers pass slices of it through: the same."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import collectives

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
    counted, mean, variance = _statistics(x.detach())
    if running and layer.track_running_stats:
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            step = 1.0 / layer.num_batches_tracked.item() if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean, step)
            layer.running_var.lerp_(variance * counted / (counted - 1), step)
    return _Normalised.apply(x, layer.weight, layer.bias, counted, mean, variance, layer.eps).to(kind)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of all values of each channel, across workers: how many () there are, and their mean and variance (C,).

    Of each worker's own mean and variance, which loses no digits (Chan et al. 1983).
    """
    mean = variance = x.new_zeros(x.shape[1])
    if len(x):  # a worker may have no clean rows, or no attacked ones
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    own = torch.cat([mean, variance, mean.new_tensor([float(len(x) * prod(x.shape[2:]))])])
    every = own.new_zeros(collectives.size(), len(own))
    every[collectives.rank()] = own
    every = collectives.sums(every)
    means, variances, counts = every[:, : len(mean)], every[:, len(mean) : -1], every[:, -1:]
    counted = counts.sum()
    mean = (counts * means).sum(0) / counted
    return counted, mean, (counts * (variances + (means - mean).square())).sum(0) / counted


class _Normalised(torch.autograd.Function):
    """(x - mean) / √(variance + eps) · weight + bias, where mean and variance are those of all workers' x.

    torch's kernels do the passes over x, three forward and four backward, with the workers' sums in between: of slopes
    g with respect to the outputs, g_x = weight / σ · (g - mean(g) - x̂ mean(g x̂)) (Ioffe & Szegedy 2015,
    arXiv:1502.03167, section 3).
    """

    @staticmethod
    def forward(ctx, x, weight, bias, counted, mean, variance, eps):
        ctx.save_for_backward(x, weight, bias, counted, mean, variance)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps) if len(x) else x.clone()

    @staticmethod
    def backward(ctx, *slope):
        x, weight, bias, counted, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():  # there will be a derivative of this one
            return (*_slopes((x, weight, bias), ctx.needs_input_grad[:3], ctx.eps, slope[0]), None, None, None, None)
        g = torch.empty_like(x).copy_(slope[0])  # as x lies
        scale, none, one = (variance + ctx.eps).rsqrt(), torch.zeros_like(mean), torch.ones_like(mean)
        along = total = none  # Σ g x̂ and Σ g, of this worker's rows
        if len(x):
            given = (g, x, one, None, None, mean, scale, True, ctx.eps, [False, True, True])
            _, along, total = torch.ops.aten.native_batch_norm_backward(*given)
        mean_along, mean_total = (collectives.sums(torch.cat([along, total])) / counted).chunk(2)
        if len(x):
            own = scale if weight is None else scale * weight
            g = F.batch_norm(g, none, one, own, -own * mean_total, False, 0.0, 0.0)
            g -= F.batch_norm(x, mean, one, own * scale * mean_along, none, False, 0.0, 0.0)
        affine = (None, None) if weight is None else (along, total)
        return (g, *affine, None, None, None, None)


def _slopes(
    given: tuple[Tensor, Tensor | None, Tensor | None], needed: Sequence[bool], eps: float, g: Tensor
) -> tuple[Tensor | None, ...]:
    """Of x, weight and bias, by operations that can be differentiated themselves, through the workers' sums.

    needed: which of them need one; a frozen weight has none.
    """
    x, weight, bias = given
    places, wide = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
    summed = collectives.sums(torch.cat([x.sum(places), x.new_tensor([float(len(x) * prod(x.shape[2:]))])]))
    centred = x - (summed[:-1] / summed[-1]).view(wide)
    variance = collectives.sums(centred.square().sum(places)) / summed[-1]
    out = centred * (variance + eps).rsqrt().view(wide)
    if weight is not None and bias is not None:
        out = out * weight.view(wide) + bias.view(wide)
    asked = [each for each, needs in zip(given, needed, strict=True) if needs and each is not None]
    found = iter(torch.autograd.grad(out, asked, g, create_graph=True))
    return tuple(next(found) if needs and each is not None else None for each, needs in zip(given, needed, strict=True))


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the statistics of the whole batch, of which each worker has a slice."""

    def __init__(self, layer: nn.modules.batchnorm._BatchNorm):
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.weight, self.bias, self.training = layer.weight, layer.bias, layer.training
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked

    def forward(self, input: Tensor) -> Tensor:
        if collectives.under_way() is None or not (self.training or self.running_mean is None):
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
        now = collectives.under_way()
        if now is None or not self.training:
            return self.layer(x)
        whole = self.drop(x.new_ones(now.whole, *x.shape[1:]), self.layer.p, True)
        return x * collectives.own(whole)

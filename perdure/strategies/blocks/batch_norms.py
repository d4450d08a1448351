"""Batch statistics of attacked samples, kept apart from those of clean ones (Xie et al. 2020, arXiv:1911.09665)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import collectives
from ..distributed.synced_layers import batch_norm
from ..learner import Learner

BatchNorm = nn.modules.batchnorm._BatchNorm


def expect_apart(learner: Learner) -> None:
    """Let batch normalisation heed what `keep_apart` says of a batch."""
    for name, module in learner.model.named_modules():
        if isinstance(module, BatchNorm):
            if learner.parts > 1:
                raise ValueError(
                    f"attacked and clean samples are normalised apart ({name}), which needs whole batches; "
                    "ask for no accumulation, or for a model without batch normalisation"
                )
            pair = _Pair(learner, name)
            module.register_forward_pre_hook(pair.before)
            module.register_forward_hook(pair.after)


def keep_apart(learner: Learner, attacked: Tensor) -> None:
    """Say which samples (B,) bool of the batch that is learned next were attacked; what is added behind them is clean.

    In that forward pass each kind is normalised by statistics of its own, and the running ones are of the clean.
    """
    learner.scratch["attacked"], learner.scratch["normalised"] = attacked, set()


@contextmanager
def resting_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes that normalise by the batch and leave the running statistics as they are."""
    layers = [(m, m.momentum) for m in model.modules() if isinstance(m, BatchNorm)]
    for layer, _ in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in layers:
            layer.momentum = momentum


class _Pair:
    """The two hooks of one layer: it normalises the clean samples itself, and they join the attacked ones after it."""

    def __init__(self, learner: Learner, name: str):
        self._learner, self._name, self._held = learner, name, None

    def before(self, module: nn.Module, given: tuple) -> tuple | None:
        attacked, x = self._learner.scratch.get("attacked"), given[0]
        if not module.training or attacked is None or self._name in self._learner.scratch["normalised"]:
            return None
        self._learner.scratch["normalised"].add(self._name)  # the first pass after it was said is the batch's own
        now = collectives.under_way()
        mask = F.pad(attacked, (0, (len(x) if now is None else now.whole) - len(attacked)))
        if mask.sum() < 2 or (~mask).sum() < 2:
            return None
        mask = collectives.own(mask)
        self._held = (x[mask], mask)
        return (x[~mask],)

    def after(self, module: BatchNorm, given: tuple, out: Tensor) -> Tensor | None:
        if self._held is None:
            return None
        x, mask = self._held
        self._held = None
        both = out.new_empty(len(mask), *out.shape[1:])
        both[~mask] = out
        if collectives.under_way() is None:
            both[mask] = F.batch_norm(x, None, None, module.weight, module.bias, training=True, eps=module.eps)
        else:
            both[mask] = batch_norm(x, module, running=False)
        return both

"""Training and evaluation mode of a model, layer by layer: a frozen layer is in evaluation mode while others learn."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def frozen(layer: nn.Module) -> bool:
    """Whether a layer has weights of its own, and all of them are frozen (requires_grad=False)."""
    own = list(layer.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)


def to_training(model: nn.Module) -> None:
    """Training mode, but for frozen layers: batch normalisation goes by its running statistics there, and leaves them
    as they are, for they are as much a part of what was frozen as its weights."""
    model.train()
    for layer in model.modules():
        if frozen(layer):
            layer.training = False  # of this layer alone: layers inside it may be learned


@contextmanager
def learning(model: nn.Module) -> Iterator[None]:
    """Training mode for a while, as `to_training` has it."""
    with _restored(model):
        to_training(model)
        yield


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: no dropout, and batch statistics stay as they are."""
    with _restored(model):
        model.eval()
        yield


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Every layer ends in the mode that it was in."""
    were = [(layer, layer.training) for layer in model.modules()]
    try:
        yield
    finally:
        for layer, mode in were:
            layer.training = mode

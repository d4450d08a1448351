"""What the head of a model sees: the inputs of the linear layer that is called last."""

import torch
from torch import Tensor, nn

from ...streams.experience import Experience, Samples
from ..distributed import collectives
from ..learner import Learner


def features(learner: Learner, x: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
    """(B, F) features and (B, C) outputs of inputs x; the model must be in evaluation mode.

    The head is the linear layer that the forward pass calls last, wherever in the model it is defined. Raises
    ValueError where that is none, or makes something else than outputs.
    """
    last: list[tuple[nn.Linear, Tensor]] = []

    def note(layer: nn.Module, given: tuple) -> None:
        assert isinstance(layer, nn.Linear)
        last[:] = [(layer, given[0])]

    hooks = [m.register_forward_pre_hook(note) for m in learner.model.modules() if isinstance(m, nn.Linear)]
    try:
        outputs = learner.outputs(x, task)
    finally:
        for hook in hooks:
            hook.remove()
    if not last or last[0][0].out_features != outputs.shape[1]:
        got = f"one of {last[0][0].out_features} outputs, where the model has {outputs.shape[1]}" if last else "none"
        raise ValueError(
            f"expected a model whose last layer is linear, as mlp, convnet and resnet18 have; its last is {got}"
        )
    return collectives.joined(last[0][1].to(outputs), x.shape[0]), outputs


@torch.no_grad()
def all_features(learner: Learner, samples: Samples, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Features and outputs of stored samples."""
    with learner.resting():
        parts = [samples.batch(i) for i in torch.arange(len(samples.y), device=samples.y.device).split(chunk)]
        seen = [features(learner, b.x, b.task) for b in parts]
    return torch.cat([f for f, _ in seen]), torch.cat([o for _, o in seen])


@torch.no_grad()
def all_outputs(learner: Learner, samples: Samples, chunk: int = 1024) -> Tensor:
    """(N, C) of stored samples, by any model."""
    with learner.resting():
        parts = [samples.batch(i) for i in torch.arange(len(samples.y), device=samples.y.device).split(chunk)]
        return torch.cat([learner.outputs(b.x, b.task) for b in parts])


@torch.no_grad()
def outputs_of(learner: Learner, experience: Experience) -> int:
    """How many outputs the model has, by one sample."""
    with learner.resting():
        one = experience.train.batch(torch.zeros(1, dtype=torch.int64, device=experience.train.device))
        return learner.outputs(one.x, one.task).shape[1]

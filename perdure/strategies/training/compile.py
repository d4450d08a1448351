"""A model by torch.compile, for many steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..learner import Learner

ENOUGH = 10_000  # steps; at 3 ms saved by each, what half a minute of compiling takes


def compiled(learner: Learner) -> Callable[[Tensor], Tensor]:
    """The learner's model, compiled once for batches of any size: another kernel for each size that is met would let
    the numbers of a resumed run depend on which it met first.

    Raises ValueError where hooks hang on the model, which compiled code would pass by in silence.
    """
    refuse_hooks(learner)
    from torch._dynamo import mark_dynamic

    fast = torch.compile(learner.model, dynamic=False)

    def forward(x: Tensor) -> Tensor:
        if len(x) < 2:
            return learner.model(x)
        mark_dynamic(x, 0)
        return fast(x)

    return forward


def refuse_hooks(learner: Learner) -> None:
    for name, layer in learner.model.named_modules():
        if layer._forward_hooks or layer._forward_pre_hooks:
            raise ValueError(
                f"the strategy has hooks on layer {name}, which compiled code would pass by; do not compile"
            )
    if learner.workers > 1:
        raise ValueError("workers share every batch of this run, which is not compiled; leave one of them out")


def doubt(steps: int, device: str) -> str:
    """Why compiling will not pay off in a run of so many steps; empty where it may."""
    if device == "cpu":
        return "is compiled for a CPU, where no model that was measured learns 1.2 times as fast by it"
    if steps < ENOUGH:
        return f"is compiled for {steps} steps, which take less time than compiling does; do not ask for --compiled"
    return ""

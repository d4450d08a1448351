"""Where a model lies."""

import torch
from torch import nn


def placed(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model on a device; on a GPU its convolutions have their channels last, as matrix units read them.

    On a CPU that saves a tenth (`python -m benchmarks.speed`), which is not worth other roundings.
    """
    if torch.device(device).type != "cuda":
        return model.to(device)
    return model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

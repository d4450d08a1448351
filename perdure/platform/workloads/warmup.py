"""What a process does once before its first run."""

from functools import cache


@cache
def warm() -> None:
    """Take a step of a network of no use: torch loads a second's worth of modules with the first of a process, which no
    run is to wait for, nor an experience's time to hold."""
    import torch

    from ...strategies.training.optimizers import Adam

    net = torch.nn.Linear(1, 1)
    optimizer = Adam()(net.parameters())
    net(torch.ones(1, 1)).sum().backward()
    optimizer.step()

"""A small network of one's own: what a poisoner crafts with, and a defender looks through."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONGEST = 2000  # steps that a surrogate is learned for: some seconds on one core


class Surrogate(nn.Module):
    """Two layers and a linear readout: convolutions for images, unless they are to be `flat`, else Linear."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 32, flat: bool = False):
        super().__init__()
        if len(shape) == 3 and not flat:
            halves = 2 if min(shape[1:]) >= 16 else 1
            side = [(s + halves - 1) // halves for s in shape[1:]]
            side = [(s + 1) // 2 for s in side]
            layers = [
                nn.Conv2d(shape[0], width, 3, halves, 1),
                nn.ReLU(),
                nn.Conv2d(width, 2 * width, 3, 2, 1),
                nn.ReLU(),
            ]
            layers += [nn.Flatten(), nn.Linear(2 * width * side[0] * side[1], 128), nn.ReLU()]
        else:
            size = int(torch.tensor(shape).prod())
            layers = [nn.Flatten(), nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        self.body, self.readout = nn.Sequential(*layers), nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.body(x))


def fitted(
    x: Tensor, y: Tensor, classes: int, seed: int, epochs: int = 10, batch_size: int = 64, flat: bool = False
) -> Surrogate:
    """A surrogate learned on float samples x (N, ...) of classes y (N,); the same for the same seed.

    Of large data it meets fewer than `epochs` passes: as many as LONGEST steps are.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = Surrogate(tuple(x.shape[1:]), classes, flat=flat).to(x.device)
        steps = min(epochs * -(-len(x) // batch_size), LONGEST)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
        order = [rows for _ in range(epochs) for rows in torch.randperm(len(x)).to(x.device).split(batch_size)]
        for rows in order[:steps]:
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            decay.step()
            optimizer.zero_grad()
    return net.eval().requires_grad_(False)


def ensemble(x: Tensor, y: Tensor, classes: int, seeds: Sequence[int]) -> list[Surrogate]:
    """A surrogate from every seed: convolutions and perceptrons in turns, for nobody tells what a learner will be."""
    return [fitted(x, y, classes, seed, flat=n % 2 == 1) for n, seed in enumerate(seeds)]

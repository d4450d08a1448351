"""The decision surface after every task, where inputs are points of a plane."""

from typing import Any

import torch
from torch import Tensor

from ...strategies.base import State, Strategy
from ...strategies.learner import Learner
from ...streams.experience import Batch, Experience, Stream
from .canvas import COLOURS, new

SIDE = 160  # points along each axis
MARGIN = 0.08  # of the plane around the samples


def regions(
    learner: Learner, strategy: Strategy, state: State, stream: Stream, i: int
) -> tuple[Tensor, tuple[float, float, float, float]]:
    """(SIDE, SIDE) classes answered on a grid, rows upwards, once experience i is learned, and its left, right,
    bottom and top. Where samples tell their task, those of the grid tell that of experience i.
    """
    points = torch.cat([e.test.everything().x.reshape(-1, 2) for e in _tested(stream)]).float()
    low, high = points.amin(0), points.amax(0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    x, y = (torch.linspace(low[k].item(), high[k].item(), SIDE) for k in (0, 1))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2).to(learner.device)
    task = torch.full((len(grid),), stream.task(i), device=learner.device)
    batch = Batch(grid, torch.zeros_like(task), task, torch.ones(len(grid), device=learner.device))
    with learner.resting(), torch.no_grad():
        outputs = strategy.answer(learner, batch, learner.outputs(grid, task), state)
        answers = learner.masked(outputs, task).argmax(1)
    return answers.reshape(SIDE, SIDE).cpu(), (x[0].item(), x[-1].item(), y[0].item(), y[-1].item())


def drawn(learner: Learner, strategy: Strategy, state: State, stream: Stream, i: int, title: str = "") -> Any:
    """A figure: regions in the colours of their classes, test samples over them; those not met yet are hollow."""
    figure = new(3.6, 3.5)  # before anything of Matplotlib's is imported
    from matplotlib.colors import ListedColormap

    answers, extent = regions(learner, strategy, state, stream, i)
    colours = [COLOURS[c % len(COLOURS)] for c in range(stream.classes.shape[1])]
    axes = figure.subplots()
    axes.imshow(
        answers.numpy(),
        origin="lower",
        extent=extent,
        cmap=ListedColormap(colours),
        vmin=0,
        vmax=len(colours) - 1,
        alpha=0.3,
        aspect="auto",
        interpolation="nearest",
    )
    for e in _tested(stream):
        x, y, _ = e.test.everything()
        x, shown = x.reshape(-1, 2).cpu().numpy(), [colours[c] for c in y.tolist()]
        met = e.index <= i
        axes.scatter(x[:, 0], x[:, 1], s=7, c=shown if met else "none", edgecolors=shown, linewidths=0.4)
    axes.set(title=title)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def _tested(stream: Stream) -> list[Experience]:
    return [stream[j] for j in stream.tested(stream.marks[-1])]

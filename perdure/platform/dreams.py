"""What a strategy dreams of each class, so that one sees memory fade."""

from typing import Any

import torch
from torch import Tensor

from ..strategies.base import State, Strategy, stages
from ..strategies.generative_replay import GenerativeReplay
from ..streams.experience import pixels
from .figures import new

EACH = 10  # dreams of a class


def pools(strategy: Strategy, state: State) -> list[dict[str, Tensor]]:
    """The dreams of every stage that has images to show: x (N, C, H, W), y (N,)."""
    parts = stages(strategy)
    states = state if len(parts) != 1 or isinstance(state, tuple) else (state,)
    return [
        own["pool"]
        for stage, own in zip(parts, states, strict=True)
        if isinstance(stage, GenerativeReplay) and not stage.layer and own and own["pool"]["x"].dim() == 4
    ]


def drawn(pool: dict[str, Tensor], title: str = "") -> Any:
    """A figure: a row for each class that is dreamt of, its first dreams side by side."""
    x, y = pixels(pool["x"]).clamp(0, 1), pool["y"]
    labels = y.unique().tolist()
    depth, height, width = x.shape[1:]
    sheet = torch.ones(depth, len(labels) * (height + 1) - 1, EACH * (width + 1) - 1)
    for row, label in enumerate(labels):
        for column, image in enumerate(x[y == label][:EACH].cpu()):
            top, left = row * (height + 1), column * (width + 1)
            sheet[:, top : top + height, left : left + width] = image
    figure = new(4.6, 0.5 + 0.46 * len(labels))
    axes = figure.subplots()
    shown = sheet[0] if depth == 1 else sheet.permute(1, 2, 0)
    axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(title=title, ylabel="class")
    axes.set_xticks([])
    axes.set_yticks([row * (height + 1) + height / 2 for row in range(len(labels))], labels)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure

"""Samples as pictures: sheets of images, and points in the plane."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .canvas import new, wrapped


def sheet(rows: Sequence[Tensor], columns: int, labels: Sequence[object], title: str = "", ylabel: str = "") -> Any:
    """Images (n, C, H, W) in [0, 1] side by side, `columns` in a row; a row's label stands before it."""
    depth, height, width = rows[0].shape[1:]
    whole = torch.ones(depth, len(rows) * (height + 1) - 1, columns * (width + 1) - 1)
    for i, row in enumerate(rows):
        for j, image in enumerate(row.clamp(0, 1).cpu()):
            top, left = i * (height + 1), j * (width + 1)
            whole[:, top : top + height, left : left + width] = image
    figure = new(0.46 * max(columns, 5), 0.5 + 0.46 * len(rows))
    axes = figure.subplots()
    shown = whole[0] if depth == 1 else whole.permute(1, 2, 0)
    axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(title=wrapped(title), ylabel=ylabel)
    axes.set_xticks([])
    axes.set_yticks([i * (height + 1) + height / 2 for i in range(len(rows))], [str(label) for label in labels])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def scatter(points: Mapping[str, Tensor], y: Tensor | None, title: str) -> Any:
    """Clouds of points (N, 2), by name side by side, coloured by class (N,) where it is known."""
    figure = new(3.9 * len(points), 3.6)
    for axes, (name, cloud) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True):
        middle, half = (cloud.amax(0) + cloud.amin(0)) / 2, 0.55 * (cloud.amax(0) - cloud.amin(0)).max().item() or 1.0
        xlim, ylim = ((at - half, at + half) for at in middle.tolist())
        axes.set(title=wrapped(f"{title}: {name}" if name else title), aspect="equal", xlim=xlim, ylim=ylim)
        for n, label in enumerate([None] if y is None else y.unique().tolist()):
            part = (cloud if label is None else cloud[y == label]).cpu().numpy()
            colour = f"C{n}" if n < 10 else None
            axes.scatter(part[:, 0], part[:, 1], s=4, alpha=0.6, linewidths=0, color=colour, label=str(label))
        if y is not None:
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=3)
    return figure

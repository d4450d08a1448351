"""Pictures of accuracy: over the stream, and as a matrix. Figure objects only, no window, no global state."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import isnan
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import Tensor

from ...strategies.metrics import Matrix, average_accuracy
from ...streams.storage.directories import user_cache, writable

# Okabe & Ito's palette, told apart by colour-blind readers too (2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D00")
MARKERS = "osD^vPX*"
MARKED = 60  # points of a curve that have a marker each


def curves(matrices: Mapping[str, Sequence[Matrix]], ylabel: str = "accuracy on all met so far (%)") -> Any:
    """Average accuracy on all experiences met so far, after each; bands are 95 % intervals over seeds."""
    from ..reports.comparison import Interval

    figure = new(7.2, 4.2)
    axes = figure.subplots()
    for n, (name, seeds) in enumerate(matrices.items()):
        length = min(map(len, seeds))
        points = [(i + 1, Interval.of([100 * average_accuracy(m[: i + 1]) for m in seeds])) for i in range(length)]
        points = [(i, p) for i, p in points if not isnan(p.mean)]  # where tests were made
        x, y, half = [i for i, _ in points], [p.mean for _, p in points], [p.half for _, p in points]
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)] if len(points) <= MARKED else ""
        axes.plot(x, y, color=colour, marker=marker, markersize=5, label=wrapped(name), linewidth=1.8, clip_on=False)
        low, high = ([m + s * h for m, h in zip(y, half, strict=True)] for s in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="experiences learned", ylabel=ylabel, ylim=(0, 100))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def heat_map(matrix: Matrix, name: str = "") -> Any:
    """Accuracy on experience j (columns) once experience i (rows) has been learned, in per cent."""
    figure = new(3.9, 3.6)
    axes = figure.subplots()
    width = max(map(len, matrix))
    cells = [[100 * v for v in row] + [float("nan")] * (width - len(row)) for row in matrix]
    image = axes.imshow(cells, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    if width <= 12:
        for i, row in enumerate(cells):
            for j, v in enumerate(row):
                if v == v:
                    axes.text(j, i, f"{v:.0f}", ha="center", va="center", color="white" if v < 55 else "black", size=9)
    axes.set(xlabel="tested on experience", ylabel="after learning experience", title=wrapped(name))
    ticks = range(0, width, max(1, width // 10))
    axes.set_xticks(ticks, [t + 1 for t in ticks])
    axes.set_yticks([t for t in ticks if t < len(matrix)], [t + 1 for t in ticks if t < len(matrix)])
    figure.colorbar(image, ax=axes, label="accuracy (%)", shrink=0.85)
    return figure


def told(rows: Sequence[Mapping[str, float]], name: str = "") -> dict[str, Any]:
    """A figure for each kind of number that a strategy told after each experience, as {"rank/1": 12.0}.

    Lines over the stream; a heat map of the last cosines between tasks, as {"cosine/02/01": 0.3}.
    """
    kinds = sorted({key.partition("/")[0] for row in rows for key in row})
    return {kind: _cosines(rows[-1], name) if kind == "cosine" else _lines(rows, kind, name) for kind in kinds}


def _lines(rows: Sequence[Mapping[str, float]], kind: str, name: str) -> Any:
    figure = new(4.6, 3.4)
    axes = figure.subplots()
    parts = sorted({key for row in rows for key in row if key.partition("/")[0] == kind})
    for n, key in enumerate(parts):
        points = [(i + 1, row[key]) for i, row in enumerate(rows) if key in row]
        label = key.partition("/")[2] or key
        axes.plot(*zip(*points, strict=True), color=COLOURS[n % len(COLOURS)], marker="o", markersize=4, label=label)
    axes.set(xlabel="experiences learned", ylabel=kind, title=wrapped(name))
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _cosines(row: Mapping[str, float], name: str) -> Any:
    figure = new(3.9, 3.6)
    axes = figure.subplots()
    cells = cosines(row)
    image = axes.imshow(cells, vmin=-1, vmax=1, cmap="RdBu_r", aspect="auto")
    if len(cells) <= 12:
        for i, line in enumerate(cells):
            for j, v in enumerate(line):
                axes.text(
                    j, i, f"{v:.1f}", ha="center", va="center", color="black" if abs(v) < 0.6 else "white", size=8
                )
    axes.set(xlabel="gradient of experience", ylabel="gradient of experience", title=wrapped(name))
    ticks = range(0, len(cells), max(1, len(cells) // 10))
    axes.set_xticks(ticks, [t + 1 for t in ticks])
    axes.set_yticks(ticks, [t + 1 for t in ticks])
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.85)
    return figure


def cosines(row: Mapping[str, float]) -> list[list[float]]:
    """The symmetric matrix of {"cosine/02/01": 0.3}, ones on its diagonal; empty where there is none."""
    pairs = {tuple(map(int, k.split("/")[1:])): v for k, v in row.items() if k.startswith("cosine/")}
    count = max((max(pair) for pair in pairs), default=0)
    return [[1.0 if i == j else pairs[max(i, j), min(i, j)] for j in range(1, count + 1)] for i in range(1, count + 1)]


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


def wrapped(name: str) -> str:
    """A strategy's text as a title: the layout gives way to a large one, until nothing is left of the axes."""
    return fill(name, 34, max_lines=6, placeholder=" ...")


def svg(figure: Any) -> str:
    """The figure as an SVG element, the same bytes for the same figure."""
    import io
    import re

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "perdure"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)


def new(width: float, height: float) -> Any:
    """An empty figure, sides in inches."""
    _settle()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _settle() -> None:
    """Where there is no home to write to, Matplotlib makes a folder and looks for fonts in every process anew, and says
    so on every command: it is given one that lasts."""
    if "MPLCONFIGDIR" in os.environ:
        return
    with suppress(RuntimeError, ValueError):  # no home, and no cache either: it does as it can
        if writable(Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "matplotlib"):
            return
    with suppress(ValueError):
        os.environ["MPLCONFIGDIR"] = str(user_cache() / "matplotlib")

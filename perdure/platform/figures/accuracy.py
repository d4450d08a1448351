"""Accuracy of a stream: curves, matrices, and the angles between gradients."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from ...strategies.metrics import Matrix, average_accuracy
from .canvas import COLOURS, MARKED, MARKERS, new, wrapped


def curves(matrices: Mapping[str, Sequence[Matrix]], ylabel: str = "accuracy on all met so far (%)") -> Any:
    """Average accuracy on all experiences met so far, after each; bands are 95 % intervals over seeds."""
    from ...strategies.metrics import Interval

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

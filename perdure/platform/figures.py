"""Pictures of accuracy: over the stream, and as a matrix. Figure objects only, no window, no global state."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..strategies.metrics import Matrix, average_accuracy

# Okabe & Ito's palette, told apart by colour-blind readers too (2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D00")
MARKERS = "osD^vPX*"


def curves(matrices: Mapping[str, Sequence[Matrix]]) -> Any:
    """Average accuracy on all experiences met so far, after each; bands are 95 % intervals over seeds."""
    from .results import Interval

    figure = _figure(7.2, 4.2)
    axes = figure.subplots()
    for n, (name, seeds) in enumerate(matrices.items()):
        length = min(map(len, seeds))
        points = [Interval.of([100 * average_accuracy(m[: i + 1]) for m in seeds]) for i in range(length)]
        x, y, half = range(1, length + 1), [p.mean for p in points], [p.half for p in points]
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        axes.plot(x, y, color=colour, marker=marker, markersize=5, label=name, linewidth=1.8, clip_on=False)
        low, high = ([m + s * h for m, h in zip(y, half, strict=True)] for s in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="experiences learned", ylabel="accuracy on all met so far (%)", ylim=(0, 100))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def heat_map(matrix: Matrix, name: str = "") -> Any:
    """Accuracy on experience j (columns) once experience i (rows) has been learned, in per cent."""
    figure = _figure(3.9, 3.6)
    axes = figure.subplots()
    width = max(map(len, matrix))
    cells = [[100 * v for v in row] + [float("nan")] * (width - len(row)) for row in matrix]
    image = axes.imshow(cells, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    if width <= 12:
        for i, row in enumerate(cells):
            for j, v in enumerate(row):
                if v == v:
                    axes.text(j, i, f"{v:.0f}", ha="center", va="center", color="white" if v < 55 else "black", size=9)
    axes.set(xlabel="tested on experience", ylabel="after learning experience", title=name)
    ticks = range(0, width, max(1, width // 10))
    axes.set_xticks(ticks, [t + 1 for t in ticks])
    axes.set_yticks([t for t in ticks if t < len(matrix)], [t + 1 for t in ticks if t < len(matrix)])
    figure.colorbar(image, ax=axes, label="accuracy (%)", shrink=0.85)
    return figure


def svg(figure: Any) -> str:
    """The figure as an SVG element, the same bytes for the same figure."""
    import io
    import re

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "perdure"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")

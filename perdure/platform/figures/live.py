"""Pictures of a stream that goes on: accuracy over arrivals, of everything held out and of every class."""

from collections.abc import Sequence
from typing import Any

from ..runs.journal import Row, matrix
from .accuracy import heat_map
from .canvas import COLOURS, MARKERS, new

SINGLE = 24  # classes that are drawn one by one; of more, the worst


def drawn(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures by the name of their file."""
    return {
        "accuracy_over_arrivals": over_arrivals(rows),
        "accuracy_by_class": by_class(rows),
        "accuracy_matrix": heat_map(matrix(rows)),
    }


def over_arrivals(rows: Sequence[Row]) -> Any:
    figure = new(6.4, 3.6)
    axes = figure.subplots()
    counts = [list(zip(*row["classes"].values(), strict=True)) for row in rows]
    lines = {
        "all held out so far": [100 * sum(right) / sum(held) for held, right in counts],
        "held out of the newest": [100 * row["accuracy"][-1] for row in rows],
        "held out of the first": [100 * row["accuracy"][0] for row in rows],
    }
    for n, (label, values) in enumerate(lines.items()):
        _line(axes, n, range(1, len(rows) + 1), values, label)
    return _dressed(figure, axes)


def by_class(rows: Sequence[Row]) -> Any:
    """A line for every class from the arrival on that brought it."""
    figure = new(6.4, 3.6)
    axes = figure.subplots()
    now = rows[-1]["classes"]
    worst = sorted(now, key=lambda label: now[label][1] / now[label][0])[:SINGLE]
    for n, label in enumerate(label for label in now if label in worst):
        points = [(i + 1, row["classes"][label]) for i, row in enumerate(rows) if label in row["classes"]]
        _line(axes, n, [i for i, _ in points], [100 * right / held for _, (held, right) in points], label)
    return _dressed(figure, axes)


def _line(axes: Any, n: int, x: Any, y: Sequence[float], label: str) -> None:
    colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n // len(COLOURS) % len(MARKERS)]
    axes.plot(x, y, color=colour, marker=marker, markersize=4, label=label, linewidth=1.6, clip_on=False)


def _dressed(figure: Any, axes: Any) -> Any:
    axes.set(xlabel="arrivals learned", ylabel="accuracy on what was held out (%)", ylim=(0, 100))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure

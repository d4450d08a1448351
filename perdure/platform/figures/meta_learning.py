"""Pictures of meta-learning: curves, what steps on a task are worth, and fits of a curve. Figure objects only."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...streams.episodes import Episodes
from ..runs.journal import Row
from .canvas import COLOURS, MARKERS, new, wrapped


def meta_curves(rows: Mapping[str, Sequence[Sequence[Row]]]) -> Any:
    """On validation tasks after adapting, over the iterations; bands are 95 % intervals over seeds."""
    from ...strategies.metrics import Interval

    figure = new(7.2, 4.2)
    axes = figure.subplots()
    what = yardstick(next(iter(rows.values()))[0])
    for n, (name, seeds) in enumerate(rows.items()):
        length = min(map(len, seeds))
        points = [Interval.of_all([number(s[i]["judged"][what][-1]) for s in seeds]) for i in range(length)]
        _line(axes, n, wrapped(name), [row["iteration"] for row in seeds[0][:length]], points, what)
    axes.set(xlabel="iterations", ylabel=_label(what, "validation"))
    return _finished(figure, axes, what)


def steps_curves(rows: Mapping[str, Sequence[Row]]) -> Any:
    """On test tasks, after each number of steps; bands are 95 % intervals over seeds, or over tasks for one seed."""
    from ...strategies.metrics import Interval

    figure = new(7.2, 4.2)
    axes = figure.subplots()
    what = yardstick(next(iter(rows.values())))
    for n, (name, seeds) in enumerate(rows.items()):
        points = []
        for i in range(len(seeds[0]["test"]["steps"])):
            known = [row["test"][what][i] for row in seeds]
            over_seeds = Interval.of_all([number(mean) for mean, _ in known])
            points.append(over_seeds if len(seeds) > 1 else Interval(number(known[0][0]), number(known[0][1])))
        _line(axes, n, wrapped(name), seeds[0]["test"]["steps"], points, what)
    axes.set(xlabel="steps on the support", ylabel=_label(what, "test"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _finished(figure, axes, what)


def fits(line: Tensor, answers: Mapping[int, Sequence[Tensor]], tasks: Episodes) -> Any:
    """Values (n, 1) answered along a line (n, 1) after each number of steps, a picture for each of T tasks."""
    count = len(tasks.support_x)
    figure = new(3.6 * count, 3.2)
    for t, axes in enumerate(figure.subplots(1, count, squeeze=False, sharey=True)[0]):
        for n, (steps, every) in enumerate(answers.items()):
            style = {"color": COLOURS[n % len(COLOURS)], "linestyle": (":", "-.", "--", "-")[n % 4]}
            name = f"{steps} {'step' if steps == 1 else 'steps'}"
            axes.plot(line[:, 0].numpy(), every[t][:, 0].numpy(), label=name, linewidth=1.6, **style)
        for x, y, marker, name in (
            (tasks.support_x[t], tasks.support_y[t], "^", "support"),
            (tasks.query_x[t], tasks.query_y[t], ".", "query"),
        ):
            axes.plot(x[:, 0].cpu().numpy(), y[:, 0].cpu().numpy(), marker, color="black", label=name, markersize=6)
        axes.set(xlabel="x", ylabel="" if t else "y", title=f"test task {t + 1}")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def yardstick(rows: Sequence[Row]) -> str:
    """What such tasks are judged by."""
    return "accuracy" if "accuracy" in rows[-1]["judged"] else "loss"


def number(value: float | None) -> float:
    return float("nan") if value is None else value


def _label(what: str, phase: str) -> str:
    return f"{what} on queries of {phase} tasks" + (" (%)" if what == "accuracy" else "")


def _line(axes: Any, n: int, name: str, x: Sequence[int], points: Sequence[Any], what: str) -> None:
    scale = 100 if what == "accuracy" else 1
    y, half = [scale * p.mean for p in points], [scale * p.half for p in points]
    colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
    axes.plot(x, y, color=colour, marker=marker, markersize=4, label=name, linewidth=1.8)
    low, high = ([m + s * h for m, h in zip(y, half, strict=True)] for s in (-1, 1))
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _finished(figure: Any, axes: Any, what: str) -> Any:
    if what == "accuracy":
        axes.set_ylim(0, 100)
    else:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure

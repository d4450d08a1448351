"""What a search came to: a table of its trials, the best or the Pareto front, and what those are worth on tests."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..figures.canvas import COLOURS, new, svg, wrapped
from ..reports.comparison import Comparison
from ..reports.meta_comparison import MetaComparison
from ..reports.page import digits, page
from ..runs.run import Run
from .importance import importance
from .objective import Objective
from .search import Search
from .space import spelled
from .trial_result import Tried


@dataclass(frozen=True)
class Searched:
    search: Search
    trials: list[Tried]
    finals: Sequence[Comparison | MetaComparison] = ()  # of the best, on test samples, from fresh seeds
    line: str = ""  # the command that made it, as it was typed
    report: str = ""  # path of the HTML report
    stopped: bool = False  # whether it was interrupted
    undelivered: str = ""  # why the tracker has not got everything yet
    unwritten: str = ""  # why there is no report
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> list[Tried]:
        """Trials that came to their end, equal ones once: only those can be compared."""
        whole = {t.runs: t for t in reversed(self.trials) if t.status == "finished"}
        return sorted(whole.values(), key=lambda t: t.number)

    @property
    def table(self) -> list[Tried]:
        """The best first: those that came to their end, then those that came furthest; the front of two objectives."""
        front = self.front if len(self.search.aims) == 2 else []
        return sorted(self.trials, key=lambda t: (t.status == "failed", -t.milestones, t not in front, self._ranks(t)))

    @property
    def front(self) -> list[Tried]:
        """Trials that no other beats in one objective without losing in the other; of one objective, the best."""
        ranks = [(self._ranks(t), t) for t in self.ended]
        kept = [(own, t) for own, t in ranks if not any(_beats(other, own) for other, _ in ranks)]
        return [t for _, t in sorted(kept, key=lambda one: one[0])]

    @property
    def best(self) -> list[Tried]:
        """What is made again: the first of the table, or points spread over the front."""
        count = self.search.finalists
        if len(self.search.aims) == 1:
            return sorted(self.ended, key=self._ranks)[:count]
        front, places = self.front, min(count, len(self.front))
        return [front[round(n * (len(front) - 1) / max(1, places - 1))] for n in range(places)]

    @property
    def failed(self) -> list[Any]:
        return [outcome for final in self.finals for outcome in final.failed]

    @property
    def league(self) -> list[Any]:
        """A row for each of the best, on test samples."""
        return [row for final in self.finals for row in final.league]

    def frame(self) -> Any:
        """A pandas.DataFrame with one line a trial; objectives are NaN where it failed, and those of its last milestone
        where it was stopped."""
        import pandas

        return pandas.DataFrame(
            [
                {"trial": t.number, **t.point, **dict(zip(self.search.objectives, t.reached, strict=True))}
                | {"milestones": t.milestones, "status": t.status, "runs": " ".join(t.runs), "problem": t.problem}
                for t in self.trials
            ]
        )

    def figures(self) -> dict[str, Any]:
        """Matplotlib figures: "trials", each parameter against the objectives, and "front" where there are two."""
        shown = [t for t in self.trials if t.status != "failed" and t.milestones]
        if not shown:
            return {}
        drawn = {"trials": _scatters(self.search, shown)}
        return drawn | (
            {"front": _front(self.search.aims, self.ended, self.front)}
            if self.front and len(self.search.aims) == 2
            else {}
        )

    def covers(self) -> dict[str, Any]:
        """What a tracker shows of all trials."""
        return self.figures()

    def importance(self) -> list[dict[str, float]]:
        """For each objective, how much of it each parameter explains among the trials that came to their end."""
        space, ended = self.search.space, self.ended
        return [importance(space, ended, [t.values[n] for t in ended]) for n in range(len(self.search.aims))]

    def means(self) -> dict[str, float]:
        """What a tracker is told of all trials: what the best has come to where it was chosen, and on test samples as a
        comparison has it; the importance of every parameter."""
        several, told = len(self.search.objectives) > 1, {}
        for n, (text, shares) in enumerate(zip(self.search.objectives, self.importance(), strict=True)):
            told |= {f"best/{text}": t.values[n] for t in self.best[:1]}
            told |= {f"importance/{name}" + f"/{text}" * several: share for name, share in shares.items()}
        return told | {f"test/{name}": v for final in self.finals for name, v in final.means().items()}

    def _ranks(self, trial: Tried) -> tuple[float, ...]:
        """Less is better."""
        return tuple(aim.rank(value) for aim, value in zip(self.search.aims, trial.values, strict=True))


def shown(aim: Objective, value: float) -> str:
    return digits(100 * value, ".1f") if aim.share else digits(value, ".4g")


def title(aim: Objective) -> str:
    return f"{aim.text} %" if aim.share else aim.text


def html(made: Searched) -> str:
    from markupsafe import Markup

    search = made.search
    return page(
        "search.html",
        made_search=made,
        run=search.run,
        meta=not isinstance(search.run, Run),
        space={name: spelled(one) for name, one in search.space.parameters.items()},
        importance=made.importance(),
        counts=Counter(t.status for t in made.trials),
        aims=search.aims,
        shown=shown,
        title=title,
        front={t.number for t in (made.front if len(search.aims) == 2 else made.best[:1])},
        figures={name: Markup(svg(figure)) for name, figure in made.figures().items()},
    )


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """No worse in anything, and not the same. Less is better."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _scatters(search: Search, trials: Sequence[Tried]) -> Any:
    """Each parameter against each objective; filled where a trial came to its end."""
    names, aims = list(search.space.parameters), search.aims
    figure = new(3.4 * len(names), 3.0 * len(aims))
    grid = figure.subplots(len(aims), len(names), squeeze=False, sharey="row")
    for row, (aim, line) in enumerate(zip(aims, grid, strict=True)):
        for name, axes in zip(names, line, strict=True):
            _scatter(axes, search, name, trials, row)
            axes.set(xlabel=wrapped(name) if row == len(aims) - 1 else "")
        line[0].set_ylabel(wrapped(title(aim)))
    return figure


def _scatter(axes: Any, search: Search, name: str, trials: Sequence[Tried], n: int) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    one, factor = search.space.parameters[name], 100 if search.aims[n].share else 1
    countable = one.every
    for whole in (False, True):
        some = [t for t in trials if (t.status == "finished") == whole]
        x = [countable.index(t.point[name]) if countable else float(t.point[name]) for t in some]
        y = [factor * t.values[n] for t in some]
        axes.scatter(x, y, s=22, facecolors=COLOURS[0] if whole else "none", edgecolors=COLOURS[0], alpha=0.75)
    if countable:
        step = max(1, len(countable) // 6)
        axes.set_xticks(range(0, len(countable), step), [text[:14] for text in countable[::step]])
    elif spelled(one).startswith("log"):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))  # few, and none on top of another
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _front(aims: Sequence[Objective], trials: Sequence[Tried], front: Sequence[Tried]) -> Any:
    figure = new(6.4, 4.4)
    axes = figure.subplots()
    x, y = ([(100 if a.share else 1) * t.values[n] for t in trials] for n, a in enumerate(aims))
    best = [trials.index(t) for t in front]
    axes.scatter(x, y, s=26, color="#9aa3b2", label="trials")
    # a staircase: of what lies between two points nothing is known to be reached but what the one on either side beats
    axes.step([x[i] for i in best], [y[i] for i in best], where="post", color=COLOURS[1], linewidth=1.4)
    axes.scatter([x[i] for i in best], [y[i] for i in best], s=46, color=COLOURS[1], label="Pareto front", zorder=3)
    better = [f"{title(a)} ({'more' if a.maximised else 'less'} is better)" for a in aims]
    axes.set(xlabel=better[0], ylabel=better[1])
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure

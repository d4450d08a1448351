"""What runs of meta-learning came to: a table, curves, and a report, read from their journals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from ...strategies.metrics import Interval
from ..figures.canvas import COLOURS, svg
from ..runs.journal import Row
from ..runs.meta_command_line import line
from ..runs.meta_run import MetaRun
from .outcome import Outcome, Outcomes
from .page import embedded, page


@dataclass(frozen=True)
class MetaStanding:
    """A row of the table: one meta-learner over its seeds, on test tasks."""

    learner: str
    seeds: tuple[int, ...]
    steps: tuple[int, ...]  # that tasks were adapted by
    loss: tuple[Interval, ...]  # after each number of steps: over seeds, or over tasks where there is one seed
    accuracy: tuple[Interval, ...]  # the same; empty where tasks ask for values
    diverged: int  # tasks that were left out
    seconds: Interval


@dataclass(frozen=True)
class MetaComparison(Outcomes):
    """Outcomes of several meta-learners on one kind of episodes."""

    @property
    def league(self) -> list[MetaStanding]:
        """The best first, by the best that any number of steps comes to."""
        table = [_standing(learner, group) for learner, group in self.by_method().items() if group]
        return sorted(table, key=_rank)

    def standings(self) -> dict[str, dict[str, Interval]]:
        return {
            s.learner: {"seconds": s.seconds}
            | {
                f"test_{name}_after_{count}": one
                for name in ("loss", "accuracy")
                for count, one in zip(s.steps, getattr(s, name), strict=False)
            }
            for s in self.league
        }

    @property
    def outer(self) -> str:
        """The outer optimizers: one, or whose each is."""
        known = {o.run.learner: o.run.outer for o in self.outcomes}
        same = len(set(known.values())) == 1
        return next(iter(known.values())) if same else ", ".join(f"{each} of {who}" for who, each in known.items())

    def frame(self) -> Any:
        """A pandas.DataFrame with one line a run: its parameters, its losses and accuracies, its status.

        What a run has come to is NaN where it is not finished.
        """
        import pandas

        lines = [
            {"id": o.run.id, **o.run.row(), **ended(o), "seconds": o.seconds, "status": o.status, "problem": o.problem}
            for o in self.outcomes
        ]
        return pandas.DataFrame(lines)

    def figures(self) -> dict[str, Any]:
        """Matplotlib figures: "curves" over the iterations, "steps" on test tasks."""
        from ..figures.meta_learning import meta_curves, steps_curves

        groups = {name: [o.rows for o in group] for name, group in self.by_method().items() if group}
        if not groups:
            return {}
        ends = {name: [rows[-1] for rows in seeds] for name, seeds in groups.items()}
        return {"curves": meta_curves(groups), "steps": steps_curves(ends)}

    def covers(self) -> dict[str, Any]:
        """What a tracker shows of all runs."""
        return {"validation" if name == "curves" else name: figure for name, figure in self.figures().items()}


def told(rows: Sequence[Row]) -> dict[str, float]:
    """Of the last row: its loss, what it was judged and tested by, as {"test_loss_after_5": 0.1}."""
    if not rows:
        return {}
    now = rows[-1]
    values: dict[str, Any] = {"loss": now["loss"], "diverged": now["diverged"]}
    for name, judged in now["judged"].items():
        values |= {f"validation_{name}_before": judged[0], f"validation_{name}": judged[-1]}
    test = now.get("test", {})
    for name in (n for n in ("loss", "accuracy") if n in test):
        for count, (mean, _) in zip(test["steps"], test[name], strict=True):
            values[f"test_{name}_after_{count}"] = mean
    return {k: nan if v is None else v for k, v in values.items()}


def ended(outcome: Outcome) -> dict[str, float]:
    """What a run has come to at its end: as `told`, and NaN of a run that is not finished."""
    known = told(outcome.rows)
    return known if outcome.status == "finished" else dict.fromkeys(known, nan)


def html(comparison: MetaComparison) -> str:
    from markupsafe import Markup

    pictures = {
        name: [embedded(p) for p in group[0].pictures] for name, group in comparison.by_method().items() if group
    }
    return page(
        "meta.html",
        comparison=comparison,
        league=comparison.league,
        run=comparison.outcomes[0].run,
        figures={name: Markup(svg(figure)) for name, figure in comparison.figures().items()},
        pictures={name: drawn for name, drawn in pictures.items() if drawn},
        colour={name: COLOURS[n % len(COLOURS)] for n, name in enumerate(comparison.by_method())},
        again=_again(comparison),
    )


def _again(comparison: MetaComparison) -> dict[str, str]:
    groups: dict[str, list[MetaRun]] = {}
    for outcome in comparison.outcomes:
        groups.setdefault(outcome.run.learner, []).append(outcome.run)
    return {s: line([s], runs[0], [run.seed for run in runs], comparison.how) for s, runs in groups.items()}


def _standing(learner: str, group: list[Outcome]) -> MetaStanding:
    ends = [o.rows[-1]["test"] for o in group]
    known = {
        name: tuple(_over(ends, name, i) for i in range(len(ends[0].get(name, ())))) for name in ("loss", "accuracy")
    }
    diverged = sum(row["diverged"] for o in group for row in o.rows)
    seeds, seconds = tuple(o.run.seed for o in group), Interval.of([o.seconds for o in group])
    return MetaStanding(learner, seeds, tuple(ends[0]["steps"]), **known, diverged=diverged, seconds=seconds)


def _over(ends: list[dict[str, Any]], name: str, i: int) -> Interval:
    means = [nan if end[name][i][0] is None else end[name][i][0] for end in ends]
    if len(ends) > 1:
        return Interval.of_all(means)
    half = ends[0][name][i][1]
    return Interval(means[0], nan if half is None else half)


def _rank(standing: MetaStanding) -> float:
    if standing.accuracy:
        return -max((s.mean for s in standing.accuracy if s.mean == s.mean), default=float("-inf"))
    return min((s.mean for s in standing.loss if s.mean == s.mean), default=float("inf"))

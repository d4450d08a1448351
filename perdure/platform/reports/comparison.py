"""What a set of runs came to: a league table, matrices and curves, read from their journals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

from ...strategies.attacks.names import attack, whole
from ...strategies.metrics import Interval
from ...strategies.names import strategy
from ...strategies.training.requirements import caution
from ...streams.names import stream_recipe
from ..runs.journal import matrix
from .outcome import METRICS, POISON, Outcome, Outcomes

UNKNOWN = Interval(nan, nan)


@dataclass(frozen=True)
class Standing:
    """A row of the league table: one strategy over its seeds."""

    strategy: str
    seeds: tuple[int, ...]
    accuracy: Interval
    forgetting: Interval
    backward_transfer: Interval
    forward_transfer: Interval
    seconds: Interval
    state_bytes: Interval
    under: dict[str, dict[str, Interval]] = field(
        default_factory=dict
    )  # by attack: robust accuracy, forgetting, success
    poison_success: Interval = UNKNOWN  # of what a poisoner of the stream wants; NaN where there is none


@dataclass(frozen=True)
class Comparison(Outcomes):
    """Outcomes of several strategies on one stream."""

    @property
    def league(self) -> list[Standing]:
        """The best first; strategies without a finished run are left out."""
        table = [_standing(strategy, group) for strategy, group in self.by_method().items() if group]
        return sorted(table, key=lambda s: -s.accuracy.mean)

    def standings(self) -> dict[str, dict[str, Interval]]:
        names = (*METRICS, "state_bytes", "seconds")
        told = {s.strategy: {name: getattr(s, name) for name in names} for s in self.league}
        for s in self.league:
            told[s.strategy] |= {f"{a}/{k}": one for a, left in s.under.items() for k, one in left.items()}
        return told

    @property
    def matrices(self) -> dict[str, list[list[float]]]:
        """The accuracy matrix of every strategy, averaged over its seeds; rows as long as the journal's."""
        return {s: _mean_matrix([matrix(o.rows) for o in group]) for s, group in self.by_method().items() if group}

    @property
    def aimed(self) -> list[str]:
        """The attacks that aim at a class: what counts of them is their success."""
        return [text for text in self.outcomes[0].run.attacks if attack(text).aims_at is not None]

    @property
    def attack_titles(self) -> dict[str, str]:
        """The whole text of every attack, its eps too where that is the default."""
        return {text: whole(text) for text in self.outcomes[0].run.attacks}

    @property
    def poisoned(self) -> bool:
        """Whether somebody wants something of the learners of this stream: what counts is how much of it they give."""
        return any(POISON in row["extras"] for o in self.outcomes for row in o.rows)

    @property
    def masked(self) -> dict[str, str]:
        """Attacks that may have seen less than there is, as "pgd(eps=0.1) on naive", and why."""
        told = [
            (o.run.strategy, a, known)
            for o in self.outcomes
            for r in o.rows
            for a, known in r.get("attacked", {}).items()
        ]
        return {f"{whole(a)} on {s}": known["caution"] for s, a, known in told if "caution" in known}

    @property
    def cautions(self) -> dict[str, str]:
        """Strategies that cannot do what is asked of them on this stream, and why."""
        streams = {o.run.strategy: stream_recipe(o.run.stream) for o in self.outcomes}
        doubts = {text: caution(strategy(text), stream.follows()) for text, stream in streams.items()}
        return {text: doubt for text, doubt in doubts.items() if doubt}

    def frame(self) -> Any:
        """A pandas.DataFrame with one line a run: its parameters, its metrics, its status and why it failed.

        Metrics are NaN where a run is not finished.
        """
        import pandas

        lines = []
        for o in self.outcomes:
            left = {f"{a}: {k}": v for a, told in o.robustness().items() for k, v in told.items()}
            poison = {POISON: o.poison_success()} if self.poisoned else {}
            ended = {"seconds": o.seconds, "status": o.status, "problem": o.problem}
            lines.append({"id": o.run.id, **o.run.row(), **o.metrics()} | poison | left | ended)
        return pandas.DataFrame(lines)

    def figures(self) -> dict[str, Any]:
        """Matplotlib figures: "curves", and under every strategy's text the heat map of its accuracy matrix."""
        from ..figures.accuracy import curves, heat_map

        groups = {s: [matrix(o.rows) for o in g] for s, g in self.by_method().items() if g}
        return {"curves": curves(groups)} | {s: heat_map(m, s) for s, m in self.matrices.items()}

    def covers(self) -> dict[str, Any]:
        """What a tracker shows of all runs: curves, and under every strategy's text the matrix over its seeds."""
        drawn = self.figures() if self.league else {}
        return {"accuracy_over_stream" if n == "curves" else f"accuracy_matrix_{n}": f for n, f in drawn.items()}

    def robust_figures(self) -> dict[str, Any]:
        """Matplotlib figures for each attack: curves of all strategies under it, and as "pgd: naive" heat maps."""
        from ..figures.accuracy import curves, heat_map

        groups = {s: [o.under() for o in g] for s, g in self.by_method().items() if g}
        drawn = {}
        for text in self.outcomes[0].run.attacks if groups else ():
            robust = {s: [known[text] for known in seeds] for s, seeds in groups.items()}
            drawn[text] = curves(robust, f"accuracy under {whole(text)} (%)")
            drawn |= {f"{text}: {s}": heat_map(_mean_matrix(m), f"{s} under {whole(text)}") for s, m in robust.items()}
        return drawn

    def details(self) -> dict[str, Any]:
        """Matplotlib figures of what strategies told of themselves, means over seeds: as "gpm: rank"."""
        from ..figures.accuracy import told

        groups = {s: [o.extras() for o in g] for s, g in self.by_method().items() if g}
        means = {s: _mean_extras(seeds) for s, seeds in groups.items()}
        return {f"{s}: {kind}": figure for s, rows in means.items() for kind, figure in told(rows, s).items()}


def _standing(strategy: str, group: list[Outcome]) -> Standing:
    known = [o.metrics() for o in group]
    means = {k: Interval.of([m[k] for m in known]) for k in known[0]}
    seconds, carried = Interval.of([o.seconds for o in group]), [float(o.rows[-1]["state_bytes"]) for o in group]
    seeds = tuple(o.run.seed for o in group)
    attacked = [o.robustness() for o in group]
    left = {a: {k: Interval.of([told[a][k] for told in attacked]) for k in known} for a, known in attacked[0].items()}
    poison = Interval.of([o.poison_success() for o in group])
    bytes_ = Interval.of(carried)
    return Standing(strategy, seeds, **means, seconds=seconds, state_bytes=bytes_, under=left, poison_success=poison)


def _mean_matrix(matrices: Sequence[list[list[float]]]) -> list[list[float]]:
    return [[sum(column) / len(column) for column in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def _mean_extras(seeds: Sequence[list[dict[str, float]]]) -> list[dict[str, float]]:
    return [{k: sum(row[k] for row in rows) / len(rows) for k in rows[0]} for rows in zip(*seeds, strict=True)]

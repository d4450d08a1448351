"""A search: which settings are tried, how many, and what they are chosen by. Text and numbers only."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from ...notation import NotationError, is_number, spell
from ...strategies.attacks.names import ATTACKS
from ...strategies.generators.names import GENERATORS
from ...strategies.meta.names import META_LEARNERS
from ...strategies.names import MODELS, OPTIMIZERS, STRATEGIES
from ...strategies.numerics.own_code import combined
from ...streams.datasets.dataset import Dataset
from ...streams.names import DATASETS, EPISODES, STREAMS, episode_recipe, stream_recipe
from ...streams.scenarios.validated import Validated
from ..runs.any_run import AnyRun, run_of
from ..runs.datasets import Data
from ..runs.meta_run import MetaRun
from ..runs.run import Run
from ..runs.study import MOST_RUNS, Command
from ..runs.workspace import Site
from ..studies.runner import check
from ..workloads.kinds import workload
from .objective import Objective
from .space import DISTRIBUTIONS, Point, Space, Text

By = Literal["random", "grid", "optuna"]
Scheduler = Literal["none", "asha", "pbt"]


@dataclass(frozen=True)
class Search:
    """Trials of one kind of runs, and the best of them once more.

    run: a trial with the distributions still in its texts, from the first of its `seeds` seeds, tested on what its
    settings may be chosen by. on: what the best are made on again, from `fresh` seeds that no trial had.
    """

    run: AnyRun
    on: str
    objectives: tuple[str, ...]
    trials: int = 40
    by: By = "random"
    scheduler: Scheduler = "none"
    grace: int = 2  # milestones that every trial has, before it may be stopped
    interval: int = 1  # milestones between which a population changes its settings
    seeds: int = 1  # of each trial; it is judged by their mean
    finalists: int = 1  # that are made again
    fresh: int = 3  # seeds to make them from; 0 leaves it out
    tested: int = 0  # test tasks of those, where they meta-learn

    def __post_init__(self):
        object.__setattr__(self, "objectives", tuple(dict.fromkeys(self.objectives)))
        for name in ("trials", "grace", "interval", "seeds", "finalists"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("trials", "seeds", "finalists", "fresh"):
            if getattr(self, name) > MOST_RUNS:
                raise ValueError(f"{name} must be at most {MOST_RUNS}, got {getattr(self, name)}")
        for name, known in (("by", By), ("scheduler", Scheduler)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}")
        if not 1 <= len(self.aims) <= 2:
            raise ValueError(f"expected one objective or two, got {len(self.aims)}")
        if len(self.aims) == 2 and self.scheduler != "none":
            raise ValueError(
                f"{self.scheduler} ranks trials by one objective; weigh two as accuracy - 0.5 * forgetting"
            )
        if not self.space.parameters:
            raise NotationError(
                f"nothing to search for: no {', '.join(DISTRIBUTIONS)} in it, as in ewc(loguniform(1, 1e4))",
                self.run.method, 0,
            )  # fmt: skip
        if self.by != "random" and self.scheduler == "pbt":
            raise ValueError("pbt moves a population that is drawn at random; leave out --by")
        if self.scheduler == "pbt" and (doubt := _fixed(self.space)):
            raise ValueError(
                f"pbt goes on with the weights and memories of another trial, so {doubt} has to stay as it is"
            )

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def aims(self) -> tuple[Objective, ...]:
        """Raises NotationError."""
        return tuple(Objective.of(text, self.run) for text in self.objectives)

    @cached_property
    def space(self) -> Space:
        """Raises NotationError."""
        names = STRATEGIES | GENERATORS | ATTACKS
        parts = {"learner": META_LEARNERS} if isinstance(self.run, MetaRun) else {"strategy": names}
        parts |= {"model": MODELS, "optimizer": OPTIMIZERS}
        texts = {part: text for part in parts if (text := getattr(self.run, part))}  # empty where a learner has its own
        return Space({part: Text.of(text, parts[part], part) for part, text in texts.items()})

    def points(self) -> list[Point]:
        """Those that are known from the start. Raises ValueError for a grid that is none, or larger than asked for."""
        if self.by != "grid":
            return self.space.random(self.trials, self.run.seed)
        points = self.space.grid()
        if len(points) > self.trials:
            raise ValueError(f"the grid has {len(points)} points: ask for --trials {len(points)}, or search at random")
        return points

    def runs(self, point: Point, after: Sequence[str] = ()) -> tuple[AnyRun, ...]:
        """A trial's runs, one for each of its seeds. after: what each goes on from, where it is not begun anew.

        Raises NotationError, with a caret under the distribution at fault.
        """
        try:
            one = replace(self.run, **self.space.filled(point)).normal()
        except NotationError as e:
            raise self.space.traced(e, point) from None
        befores = after or ("",) * self.seeds
        code = combined(*one.texts())
        return tuple(replace(one, seed=one.seed + n, after=before, code=code) for n, before in enumerate(befores))

    def finals(self, point: Point) -> tuple[AnyRun, ...]:
        """The runs that tell what a point is worth: on the whole stream, with its test samples, from fresh seeds."""
        one, first = self.runs(point)[0], self.run.seed + self.seeds
        where = {"episodes": self.on, "tested": self.tested} if isinstance(one, MetaRun) else {"stream": self.on}
        there = replace(one, **where).normal()
        there = replace(there, code=combined(*there.texts()))
        return tuple(replace(there, seed=seed) for seed in range(first, first + self.fresh))

    def refuse(self, site: Site, data: Data) -> int:
        """How many milestones a trial has. Raises what does not fit, at every end of every distribution, and warns.

        All of it before anything is started.
        """
        self.expect_code()
        length = self._length(data)
        for point in self.space.corners():
            run = self.runs(point)[0]
            try:
                workload(run).refuse(run, data.of(run), site)
            except ValueError as e:
                settings = ", ".join(f"{name} = {value}" for name, value in point.items())
                raise ValueError(f"{e} (at {settings})") from None
        check(Command(self.finals(next(self.space.corners()))), site, data)
        return length

    def expect_readable(self) -> None:
        """Raises NotationError where a text is not to be read at an end of a distribution, ValueError for no grid."""
        for point in self.space.corners():
            self.runs(point)
        self.points()

    def expect_code(self) -> None:
        """Raises ValueError where names of one's own stand for other code than when the search was asked for."""
        if self.run.code != combined(*self.run.texts()):
            raise ValueError(
                "the code behind names of your own has changed since this search was asked for; bring the old plugin "
                "back, or type its line again, which searches anew"
            )

    def _length(self, data: Data) -> int:
        run = self.run
        if isinstance(run, Run):
            return len(stream_recipe(run.stream).arrange(_there(data.of(run))).marks)
        if "validation" not in episode_recipe(run.episodes).arranged(data.of(run)).phases:
            raise ValueError(f"{self.on} has too few classes to choose by: fewer than its ways are for validation")
        return -(-run.plan.iterations // run.plan.every)

    @staticmethod
    def of(row: dict[str, Any]) -> "Search":
        """The search that `asdict` wrote down."""
        return Search(**{**row, "run": run_of(row["run"])})


def continual(run: Run, share: float, first: int | None) -> Run:
    """A run that is tested on a share of its training samples: what settings may be chosen by.

    Raises NotationError where a stream is not readable, or has a distribution in it.
    """
    no_distribution(run.stream)
    try:
        validated = Validated(stream_recipe(run.stream), share, first)
    except NotationError:
        raise
    except ValueError as e:
        raise ValueError(f"validation: {e}") from None
    return replace(run, stream=spell(validated, STREAMS | DATASETS))


def _there(dataset: Dataset | None) -> Dataset:
    assert dataset is not None  # every stream is of data
    return dataset


def no_distribution(text: str) -> None:
    """Raises NotationError where a stream, or episodes, have one."""
    found = Text.of(text, STREAMS | DATASETS | EPISODES, "stream").gaps
    if found:
        raise NotationError("a stream is what settings are compared on: no distribution in it", text, found[0].begin)


def _fixed(space: Space) -> str:
    """The first parameter that a population cannot change under way; empty where it can change all."""
    for part, text in space.texts.items():
        for name, one in text.distributions.items():
            numbers = all(is_number(end) for end in one.ends)
            if part == "model" or not numbers:
                return name
    return ""

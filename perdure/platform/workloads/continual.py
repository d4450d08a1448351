"""The work of a run that learns a stream."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import ceil
from typing import Any

from ...strategies.distributed import collectives
from ...strategies.distributed.synced_layers import prepare
from ...strategies.training.compile import doubt, refuse_hooks
from ...strategies.training.loop import learn
from ...strategies.training.plan import Bookmark, Milestone
from ...strategies.training.profiler import Clock
from ...strategies.training.requirements import Caution, caution, expect_weights
from ...streams.datasets.dataset import Dataset
from ...streams.experience import Stream
from ..reports import profile
from ..runs.journal import row
from ..runs.run import Run, build
from ..runs.workspace import Site
from .attack_target import refuse
from .attack_target import robustness as attacked
from .initial_weights import start_from
from .warmup import warm
from .work import Step, Workload


class Continual:
    def __init__(self, run: Run, dataset: Dataset, alive: Callable[[], None], site: Site):
        self.run, (self.stream, self.learner, self.strategy) = run, build(run, dataset)
        start_from(self.learner.model, run, site)
        warm()
        self.learner.pulse, self.length = alive, len(self.stream.marks)
        self.site = site

    def steps(self, checkpoint, due):
        checkpoint = collectives.agreed(checkpoint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Caution)  # a command says it once, for all of its runs
            stones = learn(self.stream, self.learner, self.strategy, self.run.plan, checkpoint, due)
        clock = Clock(self.learner.device) if self.site.profile and collectives.rank() == 0 else None
        self.learner.phase = clock or self.learner.phase
        yield from self.told(stones)
        if clock is not None and clock.steps:
            title = f"{self.run.strategy} on {self.run.stream}, {self.run.model}, seed {self.run.seed}"
            profile.keep(clock, self.site.folder(self.run), title, self.learner.uncaptured)

    def told(self, stones: Iterable[Milestone | Bookmark]) -> Iterator[Step]:
        """What is kept and said of each."""
        for stone in stones:
            place = (stone.checkpoint["experience"], stone.checkpoint.get("step", 0))
            line = None if isinstance(stone, Bookmark) else self._row(stone)
            self.learner.phase("log")  # until whoever takes the step asks for the next
            if isinstance(stone, Bookmark):
                yield Step(place, stone.checkpoint, **self._within(*place, len(stone.checkpoint.get("losses", ()))))
                self.learner.phase("data")
            else:
                yield Step(place, stone.checkpoint, line, stone.seconds, self._figures(stone))

    def _within(self, done: int, step: int, of: int) -> dict[str, Any]:
        """How much of the stream is done, every experience counted alike. of: steps of the experience, if known."""
        every = len(self.stream)
        where = f"experience {min(done + 1, every):,} of {every:,}" + (f", step {step:,} of {of:,}" if of else "")
        return {"share": (done + (step / of if of else 0)) / every, "where": where}

    def _row(self, stone: Milestone) -> dict[str, Any]:
        told = row(stone)
        if self.run.attacks:
            state, now = stone.checkpoint["strategy"], self.stream.marks[stone.experience]
            told["attacked"] = attacked(self.run, self.stream, self.learner, self.strategy, state, now)
        return told

    def _figures(self, stone: Milestone) -> dict[str, Any]:
        """The decision surface, where the plane can be seen whole; dreams, where there are images of them."""
        from ..figures import decision_surface, generated_samples

        state, title = stone.checkpoint["strategy"], f"after experience {stone.experience + 1}"
        pools = enumerate(generated_samples.pools(self.strategy, state))
        figures = {f"dreams{n or ''}": generated_samples.drawn(pool, title) for n, pool in pools}
        if self.stream.shape == (2,):
            i = self.stream.marks[stone.experience]
            figures["surface"] = decision_surface.drawn(self.learner, self.strategy, state, self.stream, i, title)
        return {f"{name}_{stone.experience + 1:02d}": figure for name, figure in figures.items()}


def _refuse(run: Run, dataset: Dataset, site: Site) -> str:
    stream, learner, strategy = build(replace(run, device="cpu"), dataset)
    start_from(learner.model, run, site)
    learner.protocol, learner.heads = stream.protocol, stream.heads(0)
    if run.workers > 1:
        prepare(learner.model)
    expect_weights(learner)
    state = strategy.init(learner)
    if run.attacks:
        refuse(run, stream, learner, strategy, state)
    doubts = [caution(strategy, stream.protocol)]
    if run.plan.compiled:
        refuse_hooks(learner)
        doubts.append(doubt(_steps(run, stream), run.device))
    return "; it ".join(filter(None, doubts))


def _steps(run: Run, stream: Stream) -> int:
    each = (run.plan.steps or run.plan.epochs * ceil(len(e) / run.plan.batch_size) for e in stream)
    return sum(each)


CONTINUAL = Workload(Continual, _refuse)

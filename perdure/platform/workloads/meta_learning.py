"""The work of a run that meta-learns, alone or with workers that share every meta-batch."""

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from math import isfinite, sqrt
from typing import Any

import torch

from ...strategies import names
from ...strategies.meta.base import MetaLearner, Params, TaskLoss, still_of, weights_of
from ...strategies.meta.loop import MetaBookmark, MetaMilestone, gradient_of, judge, meta_learn, one_part
from ...strategies.numerics.rng import Rng
from ...streams.datasets.dataset import Dataset
from ...streams.episodes import Tasks
from ..runs.journal import Row
from ..runs.meta_run import MetaRun, meta_build
from ..runs.workspace import Site
from .meta_workers import sharing_workers
from .work import Step, Workload

DRAWN = 3  # tasks in a picture
STEPS = (0, 1, 5, 10)  # after which a picture shows them


class Meta:
    def __init__(self, run: MetaRun, dataset: Dataset | None, alive: Callable[[], None], site: Site):
        self.run, self.alive, self.site = run, alive, site
        self.tasks, self.model, self.loss, self.learner = meta_build(run, dataset)
        self.length = -(-run.plan.iterations // run.plan.every)

    def _reached(self, iteration: int) -> int:
        """How many milestones there are up to an iteration."""
        return self.length if iteration == self.run.plan.iterations else iteration // self.run.plan.every

    def steps(self, checkpoint, due):
        run, rng, start = self.run, Rng(self.run.seed), time.perf_counter()
        optimizer = names.optimizer(run.outer)
        tasks = {"shape": list(self.tasks.shape), "outputs": self.tasks.outputs, "classes": self.tasks.classes}
        self.model.load_state_dict((checkpoint or {}).get("still", {}), strict=False)
        still = still_of(self.model)  # may come from anywhere, so that it is kept beside what is learned
        about = {"tasks": tasks} | ({"still": still} if still else {})
        with sharing_workers(run, self.tasks, self.site, still) if self.site.workers > 1 else nullcontext() as share:
            for stone in meta_learn(
                self.tasks, self.model, self.loss, self.learner, optimizer, run.plan, rng, checkpoint, due, share
            ):
                place = (self._reached(stone.iteration), stone.iteration)
                checkpoint = stone.checkpoint | about
                if isinstance(stone, MetaBookmark):
                    share = stone.iteration / run.plan.iterations
                    where = f"iteration {stone.iteration:,} of {run.plan.iterations:,}"
                    yield Step(place, checkpoint, share=share, where=where)
                    continue
                seconds, figures, told = time.perf_counter() - start, {}, row(stone, place[0] - 1)
                if stone.iteration == run.plan.iterations and run.tested:
                    told["test"] = self._tested(stone.checkpoint["learned"], rng)
                    figures = drawn(self.tasks, self.loss, self.learner, stone.checkpoint["learned"], rng)
                yield Step(place, checkpoint, told, seconds, figures)
                start = time.perf_counter()

    def _tested(self, learned: dict[str, Params], rng: Rng) -> Row:
        """On test tasks, that nothing was chosen by: means and half-widths of 95 % intervals over tasks."""
        drawn = self.tasks.draw(self.run.tested, rng.fold("test")["tasks"], "test")
        steps = self.run.adapted if self.learner.steps else (0,)
        known = {}
        for count in steps:
            for name, (values,) in judge(self.learner, self.loss, learned, drawn, (count,), rng.fold("test")).items():
                known.setdefault(name, []).append([_whole(values.mean()), _whole(_half(values))])
            self.alive()
        return {"steps": list(steps)} | known


def row(stone: MetaMilestone, milestone: int) -> Row:
    """The journal's line for the how manieth milestone, from 0.

    judged: before adapting, and after as many steps as in training.
    """
    judged = {name: [v if isfinite(v) else None for v in values] for name, values in stone.judged.items()}
    return {
        "milestone": milestone,
        "iteration": stone.iteration,
        "loss": stone.loss if isfinite(stone.loss) else None,
        "diverged": stone.diverged,
        "judged": judged,
    }


def refuse(run: MetaRun, dataset: Dataset | None, site: Site) -> str:
    """Raises ValueError for what does not fit together, before anything is started. Has no doubts."""
    tasks, model, loss, learner = meta_build(replace(run, device="cpu"), dataset)
    learned = learner.init(weights_of(model), Rng(run.seed).fold("meta")["init"])
    if run.device == "cpu":
        gradient_of(learner, loss, run.plan.compiled)  # on others, more goes together
    few, now, at = tasks.draw(2, Rng(run.seed)["tried"]), Rng(run.seed), [""]

    def entered(name: str) -> Callable[..., None]:
        return lambda module, given: at.__setitem__(0, f"{name} ({type(module).__name__})")

    marks = [m.register_forward_pre_hook(entered(name)) for name, m in model.named_modules() if name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of speed; whoever makes the run hears them
            one_part(gradient_of(learner, loss), learned, few, now, 0)
    except (RuntimeError, NotImplementedError) as e:
        if "vmap" not in str(e) and "transform" not in str(e):
            raise
        raise ValueError(
            f"{run.model} has a layer whose gradients of gradients cannot be taken, {at[0]}: "
            f"{str(e).splitlines()[0][:160]}; take layers that torch.func knows and that write to no buffer of theirs, "
            "as mlp(40, 40) without winners"
        ) from None
    finally:
        for mark in marks:
            mark.remove()
    return ""


def drawn(tasks: Tasks, loss: TaskLoss, learner: MetaLearner, learned: dict[str, Params], rng: Rng) -> dict[str, Any]:
    """A picture of what test tasks on a line are taken for, after some steps; none of other tasks."""
    if tasks.shape != (1,) or tasks.outputs != 1 or tasks.classes is not None:
        return {}
    from ..figures.meta_learning import fits

    some = tasks.draw(DRAWN, rng.fold("pictures")["tasks"], "test")
    line = torch.linspace(-5, 5, 201, device=some.query_x.device)[:, None]
    with torch.no_grad(), loss.resting():
        answers = {
            count: [learner.answers(loss, learned, x, y, line, count).cpu() for x, y, *_ in zip(*some, strict=True)]
            for count in (STEPS if learner.steps else (0,))
        }
    return {"fits": fits(line.cpu(), answers, some)}


def _half(values: torch.Tensor) -> torch.Tensor:
    return 1.96 * values.std() / sqrt(len(values)) if len(values) > 1 else values.new_zeros(())


def _whole(value: torch.Tensor) -> float | None:
    return value.item() if value.isfinite() else None


META = Workload(Meta, refuse)

"""Search the settings of a strategy or of a meta-learner."""

import ast
from collections.abc import Sequence
from typing import Any

from ...notation import parsed, spell
from ...strategies.meta.loop import MetaPlan
from ...strategies.training.plan import Plan
from ...streams.names import DATASETS, EPISODES, STREAMS, episode_recipe, stream_recipe
from ..runs import dry_run, plugins
from ..runs.datasets import Data
from ..runs.identity import with_content
from ..runs.meta_run import MetaRun
from ..runs.run import Run
from ..runs.workspace import Site
from ..search.results import Searched
from ..search.runner import Hear, conduct_search, outer_optimizer
from ..search.search import By, Scheduler, Search, continual, no_distribution
from ..studies.make import unheard
from ..studies.runner import Watch, nobody
from ..studies.settings import How


def tune(
    method: str,
    on: str = "split(digits)",
    *,
    trials: int = 40,
    objective: str | Sequence[str] = (),
    by: By = "random",
    scheduler: Scheduler = "none",
    grace: int = 2,
    interval: int = 1,
    share: float = 0.1,
    first: int | None = None,
    seed: int = 0,
    seeds_per_trial: int = 1,
    finalists: int | None = None,
    fresh: int = 3,
    model: str | None = None,
    optimizer: str = "",
    epochs: int = 20,
    batch_size: int = 32,
    steps: int | None = None,
    iterations: int = 10_000,
    batch: int = 25,
    loss: str = "",
    every: int | None = None,
    judged: int = 200,
    tested: int = 600,
    threads: int = 1,
    device: str = "cpu",
    again: bool = False,
    watch: Watch = nobody,
    hear: Hear = unheard,
    **how: Any,
) -> Searched:
    """Search for the settings of a strategy on a stream, or of a meta-learner on episodes, and try the best anew.

    method, model, optimizer: texts with choice(...), uniform(low, high), loguniform(low, high), quniform(low, high,
    step) and randint(low, high) where values are sought; the optimizer is adam by default, or the meta-learner's own.
    objective: measures, or one sum of them, as "accuracy - 0.5 * forgetting"; two make a Pareto front. by: random, grid
    or optuna. scheduler: asha stops trials early, after `grace` milestones at the earliest; pbt moves a population
    every `interval` milestones.
    share: of the training samples, held out to choose by; a test sample is never chosen by. first: only so many
    experiences are searched on. seeds_per_trial: a trial is judged by their mean. finalists: that are made again on
    the whole stream, from `fresh` seeds of their own, and tested; one, or three of a front.
    iterations, batch, loss, every, judged, tested: of meta-learning. hear: is called at the end of every trial, with it
    and with the search so far; an error of it ends the search. how: fields of `How`.

    Searched again, it goes on: what is known is not made again. Raises NotationError (a ValueError) for texts that
    cannot be read, at either end of every range; ValueError, DataNotFound and TooFew, as `compare` does.
    """
    where = How(**how)
    plugins.load(where.plugins)
    if _meta(on):
        no_distribution(on)
        on = spell(episode_recipe(on), EPISODES | DATASETS)
        if first is not None:
            raise ValueError("first is of experiences, and episodes have none; leave it out")
        plan = MetaPlan(iterations, batch, every or max(1, iterations // 20), judged)
        made_up = episode_recipe(on).source() is None
        model = model or ("mlp(40, 40)" if made_up else "conv4(32)")
        common = {"threads": threads, "device": device, "loss": loss}
        run: Any = MetaRun(method, on, model, optimizer or outer_optimizer(method), seed, plan, tested=0, **common)
        aims = "loss" if made_up else "accuracy"
    else:
        if loss:
            raise ValueError("loss is of episodes, and strategies bring their own to a stream; leave it out")
        plan = Plan(epochs, batch_size, steps)
        run = Run(method, on, model or "mlp(64, 64)", optimizer or "adam", seed, plan, threads=threads, device=device)
        run, aims = continual(run, share, first), "accuracy"
        on = spell(stream_recipe(on), STREAMS | DATASETS)
    data = Data(Site(where.home, where.data))
    run = run if dry_run.asked() else with_content(run, data)
    texts = [objective] if isinstance(objective, str) else list(objective)
    search = Search(
        run, on, tuple(texts or [aims]), trials, by, scheduler, grace, interval, seeds_per_trial,
        finalists or (3 if len(texts) > 1 else 1), fresh, tested if isinstance(run, MetaRun) else 0,
    )  # fmt: skip
    if dry_run.asked():
        search.expect_readable()
    dry_run.ends([run.source()], data=where.data)
    return conduct_search(search, where, again, watch, hear, data)


def _meta(on: str) -> bool:
    """Whether a text is of episodes. Raises NotationError for what is not readable."""
    _, tree = parsed(on)
    called = tree.func if isinstance(tree, ast.Call) else tree
    return isinstance(called, ast.Name) and called.id in EPISODES

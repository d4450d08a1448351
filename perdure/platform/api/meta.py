"""Meta-learn episodes with several learners from several seeds."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ...notation import spell
from ...strategies.meta.base import MetaLearner
from ...strategies.meta.loop import MetaPlan
from ...strategies.meta.losses import Loss
from ...strategies.meta.names import LOSSES, META_LEARNERS
from ...streams.episodes import EpisodeRecipe
from ...streams.names import DATASETS, EPISODES, episode_recipe
from ..reports.kinds import reporting
from ..reports.meta_comparison import MetaComparison
from ..runs import dry_run, plugins
from ..runs.meta_run import MetaRun
from ..runs.study import Command, seeds_of
from ..studies.make import make
from ..studies.runner import Watch, nobody
from ..studies.settings import How
from .texts import as_texts


def meta(
    learners: Sequence[str | MetaLearner] = ("maml",),
    on: str | EpisodeRecipe = "sinusoid",
    seeds: int | Sequence[int] = 1,
    *,
    model: str | None = None,
    optimizer: str = "",
    loss: str | Loss = "",
    iterations: int = 10_000,
    batch: int = 25,
    every: int | None = None,
    judged: int = 200,
    parts: int | None = None,
    compiled: bool = False,
    tested: int = 600,
    adapted: Sequence[int] = (0, 1, 5, 10),
    threads: int = 1,
    device: str = "cpu",
    again: bool = False,
    watch: Watch = nobody,
    **how: Any,
) -> MetaComparison:
    """Meta-learn episodes with every learner from every seed, and compare what came out.

    learners: as text, `"maml(lr=0.01, steps=5)"`, or as objects. model: by default mlp(40, 40) for tasks that are made
    up, conv4(32) for those of a data set. optimizer: the outer one; by default each learner's own, adam, or of reptile
    sgd(0.5). loss: by default the cross-entropy of classes, the squared error of values.
    batch: tasks in a meta-batch. every: iterations between milestones, each judged on `judged` validation tasks; a
    twentieth of all by default. parts: that a meta-batch falls into; as many as `workers` by default. compiled: by
    torch.compile, for many iterations.
    tested: test tasks at the end, after each number of steps in `adapted`. how: fields of `How`; workers=2 lets two
    Ray workers share every meta-batch of a run in this process.

    Raises NotationError (a ValueError), ValueError, DataNotFound and TooFew, as `compare` does.

    >>> import perdure, tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     made = perdure.meta(["maml"], iterations=20, batch=4, tested=20, home=home, here=True, tracking=False)
    >>> made.league[0].steps
    (0, 1, 5, 10)
    """
    where = How(**how)
    plugins.load(where.plugins)
    texts = as_texts(learners, MetaLearner, "meta-learners", lambda one: spell(one, META_LEARNERS))
    chosen = seeds_of(seeds, len(texts))
    episodes = on if isinstance(on, str) else spell(on, EPISODES | DATASETS)
    if tested < 1:
        raise ValueError(f"expected a test task at least, got {tested}")
    if where.workers > 1 and not where.here:
        raise ValueError("workers share the meta-batches of a run in this process: ask for --here beside --workers")
    plan = MetaPlan(iterations, batch, every or max(1, iterations // 20), judged, parts or where.workers, compiled)
    if model is None:
        model = "mlp(40, 40)" if episode_recipe(episodes).source() is None else "conv4(32)"
    common = {"model": model, "optimizer": optimizer, "plan": plan, "threads": threads, "device": device}
    common |= {"tested": tested, "adapted": tuple(adapted)}
    common |= {"loss": loss if isinstance(loss, str) else spell(loss, LOSSES)}
    runs = [MetaRun(text, episodes, seed=seed, **common).normal() for seed in chosen for text in texts]
    command = Command(tuple({run.id: run for run in runs}.values()))
    dry_run.ends((run.source() for run in runs), data=where.data)
    asked = replace(runs[0], optimizer=optimizer and runs[0].optimizer)
    line = reporting(asked).line(command.methods, asked, chosen, asdict(where.settled()))
    return make(replace(command, line=line), where, again, watch, typed=True)
